//! Tells the ledger how attempts ended, off the caller's path: retried, and spooled to disk while the ledger is away.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use backon::{ExponentialBuilder, Retryable as _};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures::{StreamExt as _, stream};
use prost::Message as _;
use tokio::sync::{
    Notify,
    mpsc::{Receiver, Sender, channel},
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span};
use tutti_error::{Error, Reason, Result};
use tutti_layers::CallContext;
use tutti_proto::ledger::v1::{ReleaseRequest, SettleRequest};
use tutti_server::Tasks;
use tutti_telemetry::Current;
use tutti_types::{Deadline, Scope};

use crate::{
    clients::ledger::{Ledger, MAX_SETTLEMENTS},
    spool::{Kind, Record, Spool},
};

/// What waits in memory; more goes to disk at once.
const QUEUE: usize = 4096;
/// Batches on the way to the ledger at a time. Few, so that under load those that come meanwhile make a batch; one that
/// comes alone is sent at once.
const BATCHES: usize = 2;
/// Endings of a batch on the way to the ledger at a time that can't go together.
const CONCURRENT: usize = 32;
/// For one call of the ledger.
const TIMEOUT: Duration = Duration::from_secs(10);
/// For the last call of a process that stops.
const LAST_TIMEOUT: Duration = Duration::from_secs(1);
/// Between two tries to empty the spool.
const REPLAY_EVERY: Duration = Duration::from_secs(1);

/// One thing to tell the ledger.
#[derive(Debug, Clone)]
pub(crate) struct Ending {
    /// Whose attempt it was.
    pub(crate) scope: Scope,
    /// What became of it.
    pub(crate) what: What,
    /// The attempt's place in its trace, unless that is forgotten.
    pub(crate) place: Option<Current>,
}

/// What became of an attempt.
#[derive(Debug, Clone)]
pub(crate) enum What {
    /// It used something.
    Settle(Box<SettleRequest>),
    /// It was never sent.
    Release(ReleaseRequest),
    /// Nobody knows whether there is a hold at all: ended if the ledger is there, else left to expire. Not spooled, so
    /// that calls refused while the ledger is away don't fill the disk.
    ReleaseIfHeld(ReleaseRequest),
}

/// Takes endings without ever blocking the caller or failing.
#[derive(Debug, Clone)]
pub(crate) struct Settler {
    queue: Sender<Ending>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    ledger: Arc<dyn Ledger>,
    spool: Arc<Spool>,
    /// The last call failed for want of a ledger: no use to try each ending several times.
    away: AtomicBool,
    /// There may be something to replay.
    replay: Notify,
    stopping: CancellationToken,
}

impl Settler {
    /// Starts the two tasks: one delivers, one replays what the spool holds, beginning with what earlier processes left.
    pub(crate) fn start(ledger: Arc<dyn Ledger>, spool: Spool, tasks: &Tasks) -> Self {
        let (queue, endings) = channel(QUEUE);
        let stopping = tasks.stopping().clone();
        let shared = Arc::new(Shared {
            ledger,
            spool: Arc::new(spool),
            away: AtomicBool::new(false),
            replay: Notify::new(),
            stopping,
        });
        tasks.spawn(deliver_all(Arc::clone(&shared), endings));
        tasks.spawn(replay_all(Arc::clone(&shared)));
        Self { queue, shared }
    }

    /// Hands an ending over.
    pub(crate) fn submit(&self, ending: Ending) {
        // Full or stopped: the disk takes it. That blocks this thread for one sync, and is rare by construction.
        if let Err(refused) = self.queue.try_send(ending) {
            keep(&self.shared.spool, &refused.into_inner());
        }
    }
}

/// Delivers until the owner stops, then what is left in the queue.
async fn deliver_all(shared: Arc<Shared>, endings: Receiver<Ending>) {
    let stopping = shared.stopping.clone();
    let batches = stream::unfold((endings, stopping), |(mut endings, stopping)| async move {
        let mut batch = Vec::new();
        let is_stopping = tokio::select! {
            _ = endings.recv_many(&mut batch, MAX_SETTLEMENTS) => false,
            () = stopping.cancelled() => true,
        };
        if is_stopping {
            endings.close();
            endings.recv_many(&mut batch, MAX_SETTLEMENTS).await;
        }
        (!batch.is_empty()).then_some((batch, (endings, stopping)))
    });
    batches.for_each_concurrent(BATCHES, |batch| shared.deliver_batch(batch)).await;
}

async fn replay_all(shared: Arc<Shared>) {
    while !shared.stopping.is_cancelled() {
        if shared.on_disk(|spool| !spool.is_empty()).await == Some(true)
            && let Err(error) = shared.replay().await
        {
            tracing::debug!(%error, "the spool waits for the ledger");
        }
        tokio::select! {
            () = shared.stopping.cancelled() => return,
            () = shared.replay.notified() => {}
            // Only needed while something waits; cheap when nothing does.
            () = tokio::time::sleep(REPLAY_EVERY) => {}
        }
    }
}

impl Shared {
    async fn deliver_batch(&self, batch: Vec<Ending>) {
        let left = self.settle_together(batch).await;
        stream::iter(left).for_each_concurrent(CONCURRENT, |ending| self.deliver(ending)).await;
    }

    /// Settles what can go in one call, once. Returns what has still to be delivered by itself: what is no settlement, is
    /// alone in its scope, is recorded in a trace of its own, or did not go well.
    async fn settle_together(&self, batch: Vec<Ending>) -> Vec<Ending> {
        let is_away = self.away.load(Ordering::Relaxed) || self.stopping.is_cancelled();
        let can_go = |ending: &Ending| !is_away && matches!(ending.what, What::Settle(_)) && !is_recorded(ending);
        let (mut going, mut left): (Vec<_>, Vec<_>) = batch.into_iter().partition(can_go);
        while let Some(scope) = going.first().map(|ending| ending.scope.clone()) {
            let (together, others): (Vec<_>, Vec<_>) = going.into_iter().partition(|ending| ending.scope == scope);
            going = others;
            left.extend(self.settle_scope(scope, together).await);
        }
        left
    }

    async fn settle_scope(&self, scope: Scope, endings: Vec<Ending>) -> Vec<Ending> {
        if endings.len() < 2 {
            return endings;
        }
        let settlement = |ending: &Ending| match &ending.what {
            What::Settle(request) => Some(request.as_ref().clone()),
            What::Release(_) | What::ReleaseIfHeld(_) => None,
        };
        let requests: Vec<_> = endings.iter().filter_map(settlement).collect();
        let context = CallContext::new(scope, Deadline::after(TIMEOUT));
        let answer = tokio::select! {
            answer = tokio::time::timeout(TIMEOUT, self.ledger.settle_many(requests, &context)) => answer,
            // Each gets its last call.
            () = self.stopping.cancelled() => return endings,
        };
        // A refusal is found out, retried and kept by itself; settling twice is harmless.
        let Ok(Ok(results)) = answer else { return endings };
        let mut results = results.into_iter();
        endings.into_iter().filter(|_| !matches!(results.next(), Some(Ok(())))).collect()
    }

    async fn deliver(&self, ending: Ending) {
        let retries = if self.away.load(Ordering::Relaxed) { 0 } else { 4 };
        let backoff = ExponentialBuilder::default().with_min_delay(Duration::from_millis(50)).with_max_times(retries);
        let trying = (|| self.send(&ending, TIMEOUT)).retry(backoff.with_jitter()).when(is_transient);
        let sent = tokio::select! {
            sent = trying => sent,
            () = self.stopping.cancelled() => self.send(&ending, LAST_TIMEOUT).await,
        };
        match sent {
            Ok(()) => {
                if self.away.swap(false, Ordering::Relaxed) {
                    self.replay.notify_one();
                }
            }
            Err(error) if is_transient(&error) => {
                if !self.away.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "the ledger can't be reached; settlements go to disk until it is back");
                }
                self.on_disk(move |spool| keep(spool, &ending)).await;
            }
            Err(error) => drop(self.on_disk(move |spool| refused(spool, &ending, &error)).await),
        }
    }

    async fn send(&self, ending: &Ending, timeout: Duration) -> Result<()> {
        let context = CallContext::new(ending.scope.clone(), Deadline::after(timeout));
        let call = async {
            match &ending.what {
                What::Settle(request) => self.ledger.settle(request.as_ref().clone(), &context).await,
                What::Release(request) | What::ReleaseIfHeld(request) => {
                    self.ledger.release(request.clone(), &context).await
                }
            }
        };
        let span = ending.place.as_ref().map_or_else(Span::none, |place| tutti_telemetry::resume("settle", place));
        let late = |_| Err(Error::new(Reason::DeadlineExceeded, "the ledger did not answer in time"));
        tokio::time::timeout(timeout, call).instrument(span).await.unwrap_or_else(late)
    }

    /// Works with the disk on a thread that may block. `None` when the process is ending.
    async fn on_disk<T: Send + 'static>(&self, work: impl FnOnce(&Spool) -> T + Send + 'static) -> Option<T> {
        let spool = Arc::clone(&self.spool);
        tokio::task::spawn_blocking(move || work(&spool)).await.ok()
    }

    async fn read_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Spool) -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let broken = |why: String| Error::internal(format!("the spool can't be read: {why}"));
        let done = self.on_disk(work).await.ok_or_else(|| broken("interrupted".into()))?;
        done.map_err(|error| broken(error.to_string()))
    }

    /// Delivers what is on disk, until the ledger is away again.
    async fn replay(&self) -> Result<()> {
        for segment in self.read_disk(Spool::sealed).await? {
            let path = segment.clone();
            for record in self.read_disk(move |spool| spool.read(&path)).await? {
                let Some(ending) = ending(&record) else {
                    self.on_disk(move |spool| reject(spool, &record, "not a message of the ledger")).await;
                    continue;
                };
                match self.send(&ending, TIMEOUT).await {
                    Ok(()) => {}
                    Err(error) if is_transient(&error) => return Err(error),
                    Err(error) => drop(self.on_disk(move |spool| refused(spool, &ending, &error)).await),
                }
            }
            self.read_disk(move |spool| spool.remove(&segment)).await?;
        }
        self.away.store(false, Ordering::Relaxed);
        Ok(())
    }
}

/// Writes an ending to disk.
fn keep(spool: &Spool, ending: &Ending) {
    let Some(record) = record(ending) else { return };
    if let Err(error) = spool.append(&record) {
        // The hold will expire into an assumed record.
        tracing::error!(%error, ?ending, "a settlement can't be spooled and is lost");
    }
}

/// The ledger will not take it, now or later.
fn refused(spool: &Spool, ending: &Ending, error: &Error) {
    match record(ending) {
        Some(record) if matches!(ending.what, What::Settle(_)) => reject(spool, &record, &error.to_string()),
        // A hold that isn't there, or is settled already, needs no release.
        _ => tracing::debug!(%error, "a release was not needed"),
    }
}

fn reject(spool: &Spool, record: &Record, why: &str) {
    let line = serde_json::to_string(record).unwrap_or_default();
    if let Err(error) = spool.reject(&line, why) {
        tracing::error!(%error, why, line, "a settlement is lost");
    }
}

/// `None` for what is not kept.
fn record(ending: &Ending) -> Option<Record> {
    let (kind, bytes) = match &ending.what {
        What::Settle(request) => (Kind::Settle, request.encode_to_vec()),
        What::Release(request) => (Kind::Release, request.encode_to_vec()),
        What::ReleaseIfHeld(_) => return None,
    };
    let Scope { org, principal } = ending.scope.clone();
    Some(Record { kind, org, principal, message: STANDARD.encode(bytes) })
}

fn ending(record: &Record) -> Option<Ending> {
    let bytes = STANDARD.decode(&record.message).ok()?;
    let what = match record.kind {
        Kind::Settle => What::Settle(Box::new(SettleRequest::decode(bytes.as_slice()).ok()?)),
        Kind::Release => What::Release(ReleaseRequest::decode(bytes.as_slice()).ok()?),
    };
    let scope = Scope { org: record.org.clone(), principal: record.principal.clone() };
    Some(Ending { scope, what, place: None })
}

/// Whether somebody records the trace that the ending is to be seen in.
fn is_recorded(ending: &Ending) -> bool {
    tutti_telemetry::is_exporting() && ending.place.as_ref().is_some_and(|place| place.trace.sampled)
}

/// Whether the same call may go well later.
fn is_transient(error: &Error) -> bool {
    !matches!(
        error.reason(),
        Reason::InvalidRequest | Reason::UnknownAttempt | Reason::IdempotencyConflict | Reason::MessageTooLarge
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use tokio::sync::{Semaphore, mpsc};
    use tutti_proto::ledger::v1::ReserveRequest;

    use super::*;

    /// Takes settlements when it is let to, and says how many came at a time.
    #[derive(Debug)]
    struct Slow {
        may_answer: Semaphore,
        asked: mpsc::UnboundedSender<usize>,
        settled: Mutex<Vec<String>>,
    }

    impl Slow {
        async fn take(&self, requests: &[SettleRequest]) -> Vec<Result<()>> {
            self.asked.send(requests.len()).unwrap();
            self.may_answer.acquire().await.unwrap().forget();
            let take = |request: &SettleRequest| match request.attempt_id.as_str() {
                "unknown" => Err(Error::new(Reason::UnknownAttempt, "no such attempt")),
                id => {
                    self.settled.lock().unwrap().push(id.to_owned());
                    Ok(())
                }
            };
            requests.iter().map(take).collect()
        }
    }

    #[async_trait]
    impl Ledger for Slow {
        async fn reserve(&self, _: ReserveRequest, _: &CallContext) -> Result<()> {
            Ok(())
        }
        async fn settle(&self, request: SettleRequest, _: &CallContext) -> Result<()> {
            self.take(&[request]).await.remove(0)
        }
        async fn settle_many(&self, requests: Vec<SettleRequest>, _: &CallContext) -> Result<Vec<Result<()>>> {
            Ok(self.take(&requests).await)
        }
        async fn release(&self, _: ReleaseRequest, _: &CallContext) -> Result<()> {
            Ok(())
        }
    }

    fn ending(attempt_id: &str, org: &str) -> Ending {
        let request = SettleRequest { attempt_id: attempt_id.into(), ..SettleRequest::default() };
        let scope = Scope { org: org.into(), ..Scope::default() };
        Ending { scope, what: What::Settle(Box::new(request)), place: None }
    }

    #[tokio::test]
    async fn what_ends_while_the_ledger_writes_is_settled_together() {
        let (asked, mut asks) = mpsc::unbounded_channel();
        let ledger = Arc::new(Slow { may_answer: Semaphore::new(0), asked, settled: Mutex::default() });
        let dir = tempfile::tempdir().unwrap();
        let tasks = Tasks::default();
        let same: Arc<Slow> = Arc::clone(&ledger);
        let settler = Settler::start(same, Spool::open(dir.path()).unwrap(), &tasks);
        // As many as go to the ledger at a time, each alone.
        for first in ["a", "b"] {
            settler.submit(ending(first, "acme"));
            assert_eq!(asks.recv().await, Some(1));
        }
        for next in ["c", "unknown", "d"] {
            settler.submit(ending(next, "acme"));
        }
        settler.submit(ending("e", "other"));
        ledger.may_answer.add_permits(100);
        // Those of one org together, the refused one again by itself, the other org's alone.
        let mut then = [asks.recv().await, asks.recv().await, asks.recv().await];
        then.sort_unstable();
        assert_eq!(then, [Some(1), Some(1), Some(3)]);
        assert!(tasks.end(Duration::from_secs(5)).await);
        let mut settled = ledger.settled.lock().unwrap().clone();
        settled.sort_unstable();
        assert_eq!(settled, ["a", "b", "c", "d", "e"]);
        assert!(asks.try_recv().is_err(), "nothing is settled twice");
    }
}
