//! The replicas of a service that are known now, and the choice between them.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, error::Elapsed},
};
use tonic::transport::Channel;

/// How long a replica that couldn't be reached is left alone: this, doubled each time, up to [`MAX_REST`].
const REST: Duration = Duration::from_millis(250);
const MAX_REST: Duration = Duration::from_secs(5);

/// One replica, with the connection to it.
#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) address: SocketAddr,
    pub(crate) channel: Channel,
    /// Calls that run, their answers' bodies included.
    running: AtomicUsize,
    failures: AtomicU32,
    /// Milliseconds after `made`.
    rests_until: AtomicU64,
    made: Instant,
}

impl Replica {
    pub(crate) fn new(address: SocketAddr, channel: Channel) -> Arc<Self> {
        Arc::new(Self {
            address,
            channel,
            running: AtomicUsize::new(0),
            failures: AtomicU32::new(0),
            rests_until: AtomicU64::new(0),
            made: Instant::now(),
        })
    }

    /// Counts a call until the guard is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> Running {
        self.running.fetch_add(1, Ordering::Relaxed);
        Running(Arc::clone(self))
    }

    /// It could not be reached.
    pub(crate) fn failed(&self) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).min(10);
        let rest = REST.saturating_mul(1 << failures).min(MAX_REST);
        self.rests_until.store(self.age() + millis(rest), Ordering::Relaxed);
    }

    /// It answered.
    pub(crate) fn answered(&self) {
        if self.failures.load(Ordering::Relaxed) > 0 {
            self.failures.store(0, Ordering::Relaxed);
            self.rests_until.store(0, Ordering::Relaxed);
        }
    }

    fn rests(&self) -> bool {
        self.rests_until.load(Ordering::Relaxed) > self.age()
    }

    fn age(&self) -> u64 {
        millis(self.made.elapsed())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A call that runs at a replica.
#[derive(Debug)]
pub(crate) struct Running(Arc<Replica>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

type Known = Arc<[Arc<Replica>]>;

/// The set of replicas. Empty until the first lookup has ended.
#[derive(Debug)]
pub(crate) struct Replicas {
    /// With whether a lookup has ended yet.
    known: watch::Sender<(bool, Known)>,
}

impl Replicas {
    pub(crate) fn new() -> Self {
        Self { known: watch::Sender::new((false, Arc::from([]))) }
    }

    /// Takes the outcome of a lookup: keeps who is still there, with its connection. Calls that run at one that is gone go
    /// on to their end.
    pub(crate) fn set(&self, found: Vec<SocketAddr>, make: impl Fn(SocketAddr) -> Option<Arc<Replica>>) {
        let known = Arc::clone(&self.known.borrow().1);
        let known: HashMap<SocketAddr, &Arc<Replica>> = known.iter().map(|r| (r.address, r)).collect();
        let mut replicas: Vec<Arc<Replica>> = Vec::with_capacity(found.len());
        for address in found {
            if replicas.iter().all(|replica| replica.address != address) {
                replicas.extend(known.get(&address).map(|known| Arc::clone(known)).or_else(|| make(address)));
            }
        }
        self.known.send_replace((true, replicas.into()));
    }

    /// Those that are known, after the first lookup.
    pub(crate) async fn known(&self, patience: Duration) -> Result<Known, Elapsed> {
        if let (true, known) = &*self.known.borrow() {
            return Ok(Arc::clone(known));
        }
        let mut changes = self.known.subscribe();
        let looked_up = tokio::time::timeout(patience, changes.wait_for(|(ended, _)| *ended)).await?;
        // The sender lives as long as we do.
        Ok(looked_up.map_or_else(|_| Arc::from([]), |state| Arc::clone(&state.1)))
    }
}

/// The less busy of two random replicas: among those that don't rest and were not tried, else that were not tried, else
/// among all.
pub(crate) fn pick(known: &[Arc<Replica>], tried: &[SocketAddr]) -> Option<Arc<Replica>> {
    let untried = |replica: &&Arc<Replica>| !tried.contains(&replica.address);
    let mut candidates: Vec<_> = known.iter().filter(untried).filter(|replica| !replica.rests()).collect();
    if candidates.is_empty() {
        candidates = known.iter().filter(untried).collect();
    }
    if candidates.is_empty() {
        candidates = known.iter().collect();
    }
    let random = || candidates.get(rand::random_range(0..candidates.len().max(1))).copied();
    let (one, other) = (random()?, random()?);
    let load = |replica: &Replica| replica.running.load(Ordering::Relaxed);
    Some(Arc::clone(if load(other) < load(one) { other } else { one }))
}

#[cfg(test)]
mod tests {
    use tonic::transport::Endpoint;

    use super::*;

    fn replica(port: u16) -> Arc<Replica> {
        Replica::new(SocketAddr::from(([127, 0, 0, 1], port)), Endpoint::from_static("http://localhost").connect_lazy())
    }

    #[tokio::test]
    async fn a_lookup_keeps_who_is_still_there() {
        let replicas = Replicas::new();
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let make = |address: SocketAddr| Some(replica(address.port()));
        replicas.set(vec![at(1), at(2)], make);
        let before = replicas.known(Duration::ZERO).await.unwrap();
        replicas.set(vec![at(2), at(3), at(3)], make);
        let after = replicas.known(Duration::ZERO).await.unwrap();
        assert_eq!(after.iter().map(|r| r.address.port()).collect::<Vec<_>>(), [2, 3]);
        assert!(Arc::ptr_eq(&before[1], &after[0]));
    }

    #[tokio::test(start_paused = true)]
    async fn who_cannot_be_reached_rests_and_comes_back() {
        let known = [replica(1), replica(2)];
        known[0].failed();
        for _ in 0..50 {
            assert_eq!(pick(&known, &[]).unwrap().address.port(), 2);
        }
        // A second try goes to the other, even when that one rests.
        assert_eq!(pick(&known, &[known[1].address]).unwrap().address.port(), 1);
        tokio::time::advance(REST).await;
        let picked: Vec<u16> = (0..200).map(|_| pick(&known, &[]).unwrap().address.port()).collect();
        assert!(picked.contains(&1) && picked.contains(&2));
        assert!(pick(&[], &[]).is_none());
    }

    #[tokio::test]
    async fn the_less_busy_gets_more() {
        let known = [replica(1), replica(2)];
        let _running: Vec<_> = (0..5).map(|_| known[0].begin()).collect();
        let to_busy = (0..400).filter(|_| pick(&known, &[]).unwrap().address.port() == 1).count();
        // Only when both random choices fall on it: a quarter.
        assert!((40..180).contains(&to_busy), "{to_busy}");
    }
}
