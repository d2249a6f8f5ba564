//! The limiter of one process.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::Instant;

use crate::{
    Amount, Correction, Counts, Decision, Limiter, Unit, Window,
    counts::Tally,
    gcra::{self, Charge},
};

/// So many keys are kept before those that owe nothing are looked for.
const FEW: usize = 1024;

/// Counts in this process. For `tutti up`, and for a replica that Redis has left alone.
#[derive(Debug)]
pub struct Local {
    start: Instant,
    keys: Mutex<Keys>,
    tally: Tally,
}

#[derive(Debug)]
struct Keys {
    paid: HashMap<String, Vec<Paid>>,
    /// Sweep at this many keys: twice what the last sweep left, so that its cost is spread over as many charges.
    sweep_at: usize,
}

/// The stored moment of one window.
#[derive(Debug)]
struct Paid {
    unit: Unit,
    per: Duration,
    at: u64,
}

impl Local {
    /// Nothing charged yet.
    pub fn new() -> Self {
        let keys = Mutex::new(Keys { paid: HashMap::new(), sweep_at: FEW });
        Self { start: Instant::now(), keys, tally: Tally::default() }
    }

    /// [`Limiter::take`] as one of `replicas` that each keep to an equal share.
    pub(crate) fn take_share(&self, key: &str, cost: Amount, windows: &[Window], replicas: u64) -> Decision {
        let charges: Vec<Charge> = windows.iter().map(|window| Charge::take(window, cost, replicas)).collect();
        match self.charge(key, windows, &charges) {
            Ok(debts) => Decision::Allowed { remaining: gcra::remaining(windows, &debts, replicas) },
            Err(wait) => Decision::Wait(Duration::from_micros(wait)),
        }
    }

    /// [`Limiter::correct`] as one of `replicas`.
    pub(crate) fn correct_share(&self, key: &str, correction: Correction, windows: &[Window], replicas: u64) {
        let charges: Vec<Charge> = windows.iter().map(|window| Charge::correct(window, correction, replicas)).collect();
        // Never refused.
        let _ = self.charge(key, windows, &charges);
    }

    /// [`Limiter::reset`].
    pub(crate) fn forget(&self, key: &str) {
        self.lock().paid.remove(key);
    }

    /// Applies all charges or none. The debts after it, or how long to wait for the last window, in µs.
    fn charge(&self, key: &str, windows: &[Window], charges: &[Charge]) -> Result<Vec<u64>, u64> {
        let now = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX);
        let mut keys = self.lock();
        let stored = keys.paid.get(key).map_or(&[][..], Vec::as_slice);
        let mut next = Vec::with_capacity(windows.len());
        let mut wait = 0;
        for (window, charge) in windows.iter().zip(charges) {
            let paid = stored.iter().find(|paid| paid.is_of(window)).map_or(0, |paid| paid.at);
            match charge.apply(now, paid) {
                Ok(at) => next.push(Paid { unit: window.unit, per: window.per, at }),
                Err(time) => wait = wait.max(time),
            }
        }
        if wait > 0 {
            return Err(wait);
        }
        let debts = next.iter().map(|paid| paid.at - now).collect();
        keys.store(key, next);
        keys.sweep(now);
        Ok(debts)
    }

    fn lock(&self) -> MutexGuard<'_, Keys> {
        // Nothing in between can leave a key half charged.
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keys {
    fn store(&mut self, key: &str, next: Vec<Paid>) {
        let Some(stored) = self.paid.get_mut(key) else {
            self.paid.insert(key.to_owned(), next);
            return;
        };
        for paid in next {
            match stored.iter_mut().find(|other| (other.unit, other.per) == (paid.unit, paid.per)) {
                Some(other) => other.at = paid.at,
                None => stored.push(paid),
            }
        }
    }

    /// Forgets keys that owe nothing: they are as if never seen.
    fn sweep(&mut self, now: u64) {
        if self.paid.len() >= self.sweep_at {
            self.paid.retain(|_, windows| windows.iter().any(|paid| paid.at > now));
            self.sweep_at = FEW.max(self.paid.len() * 2);
        }
    }
}

impl Paid {
    fn is_of(&self, window: &Window) -> bool {
        (self.unit, self.per) == (window.unit, window.per)
    }
}

impl Default for Local {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Limiter for Local {
    async fn take(&self, key: &str, cost: Amount, windows: &[Window]) -> Decision {
        let decision = self.take_share(key, cost, windows, 1);
        self.tally.decided(&decision);
        decision
    }

    async fn correct(&self, key: &str, correction: Correction, windows: &[Window]) {
        self.correct_share(key, correction, windows, 1);
    }

    async fn reset(&self, key: &str) {
        self.forget(key);
    }

    fn counts(&self) -> Counts {
        self.tally.read(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn keys_that_owe_nothing_are_forgotten() {
        let local = Local::new();
        let short = [Window::new(Unit::Requests, 10, Duration::from_secs(1), 0).unwrap()];
        let long = [Window::new(Unit::Requests, 1, Duration::from_hours(1), 0).unwrap()];
        assert!(local.take("kept", Amount::request(0), &long).await.is_allowed());
        for caller in 0..10 * FEW {
            assert!(local.take(&format!("caller {caller}"), Amount::request(0), &short).await.is_allowed());
            tokio::time::advance(Duration::from_millis(1)).await;
            assert!(local.lock().paid.len() <= 2 * FEW);
        }
        assert!(!local.take("kept", Amount::request(0), &long).await.is_allowed());
    }

    #[tokio::test(start_paused = true)]
    async fn one_of_several_replicas_keeps_to_its_share() {
        let local = Local::new();
        let windows = [Window::new(Unit::Requests, 60, Duration::from_mins(1), 10).unwrap()];
        let mut allowed = 0;
        for _ in 0..60_000 {
            let decision = local.take_share("backend", Amount::request(0), &windows, 3);
            allowed += u64::from(decision.is_allowed());
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        // A third of the limit, a third of the burst, rounded down, and the one call that is always allowed.
        assert!((20 + 3..=20 + 3 + 1).contains(&allowed), "{allowed}");
    }
}
