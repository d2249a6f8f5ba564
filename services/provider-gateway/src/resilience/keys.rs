//! A backend's credentials: which of them makes the next call. Each has a breaker of its own, and one that the provider
//! refused rests while others are left.

use std::{
    fmt,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use tutti_config::{BreakerConfig, ExposeSecret as _, SecretString};
use tutti_error::Reason;
use tutti_telemetry::Metrics;

use super::Changes;
use crate::domain::breaker::{Breaker, Counters, Ending, Permit, State};

/// How long a credential is not used that the provider refused: somebody has to pay a bill, or to replace it.
const REST: Duration = Duration::from_secs(300);

/// One of a backend's credentials; a backend without any has one that is none.
pub(crate) struct Key {
    secret: Option<SecretString>,
    /// As it may be shown; empty without a secret.
    pub(crate) masked: String,
    /// Tells it from others, the same in every replica.
    identity: u64,
    backend: Arc<Shared>,
    guard: Mutex<Guard>,
}

/// What all credentials of a backend have in common.
#[derive(Debug)]
struct Shared {
    backend: String,
    config: BreakerConfig,
    changes: Changes,
}

#[derive(Debug)]
struct Guard {
    breaker: Breaker,
    rest: Option<(Instant, Reason)>,
}

/// How a credential is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeyState {
    pub(crate) breaker: State,
    pub(crate) counters: Counters,
    pub(crate) error_rate: f64,
    /// For how long it still rests, and why.
    pub(crate) rest: Option<(Duration, Reason)>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.masked)
    }
}

impl Key {
    /// What is sent, if there is a secret.
    pub(crate) fn secret(&self) -> Option<&str> {
        self.secret.as_ref().map(|secret| secret.expose_secret())
    }

    /// Tells it from others, the same in every replica; nothing can be made of it.
    pub(crate) fn identity(&self) -> u64 {
        self.identity
    }

    /// How it is.
    pub(crate) fn state(&self, now: Instant) -> KeyState {
        let guard = self.guard();
        KeyState {
            breaker: guard.breaker.state(now),
            counters: guard.breaker.counters(),
            error_rate: guard.breaker.error_rate(&self.backend.config, now),
            rest: guard.resting(now),
        }
    }

    /// The provider refused it, for what is likely to last.
    fn rest(&self, reason: Reason, time: Duration) {
        self.guard().rest = Some((Instant::now() + time, reason));
        tracing::warn!(
            backend = self.backend.backend,
            credential = self.masked,
            reason = reason.as_str_name(),
            seconds = time.as_secs(),
            "a credential rests"
        );
        self.backend.changes.tell();
    }

    /// For how long its breaker refuses everything.
    fn open_for(&self, now: Instant) -> Option<Duration> {
        match self.guard().breaker.state(now) {
            State::Open(time) => Some(time),
            State::Closed | State::HalfOpen => None,
        }
    }

    fn admit(self: &Arc<Self>, now: Instant) -> Result<Pass, Duration> {
        let permit = self.guard().breaker.admit(&self.backend.config, now)?;
        Ok(Pass { key: Arc::clone(self), permit: Some(permit) })
    }

    fn ended(&self, permit: Permit, ending: Ending) {
        let now = Instant::now();
        let changed = {
            let mut guard = self.guard();
            let changed = guard.breaker.ended(&self.backend.config, permit, ending, now);
            changed.then(|| guard.breaker.state(now))
        };
        let Some(state) = changed else { return };
        let (backend, credential) = (&self.backend.backend, &self.masked);
        match state {
            State::Open(time) => {
                metrics::counter!(Metrics::BREAKER_OPENED, "backend" => backend.clone()).increment(1);
                let seconds = time.as_secs_f64();
                tracing::warn!(backend, credential, seconds, "the circuit breaker opened: the backend keeps failing");
            }
            State::Closed | State::HalfOpen => tracing::info!(backend, credential, "the circuit breaker closed"),
        }
        self.backend.changes.tell();
    }

    fn guard(&self) -> MutexGuard<'_, Guard> {
        // Nothing in between can leave it half changed.
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guard {
    fn resting(&self, now: Instant) -> Option<(Duration, Reason)> {
        let (until, reason) = self.rest?;
        until.checked_duration_since(now).filter(|left| !left.is_zero()).map(|left| (left, reason))
    }
}

/// A call that may be made with a credential. How it ended is told once; dropped, it says nothing of the backend.
#[derive(Debug)]
pub(crate) struct Pass {
    key: Arc<Key>,
    permit: Option<Permit>,
}

impl Pass {
    /// The credential.
    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    /// Tells how the call ended.
    pub(crate) fn end(&mut self, ending: Ending) {
        if let Some(permit) = self.permit.take() {
            self.key.ended(permit, ending);
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.end(Ending::Nothing);
    }
}

/// All credentials of a backend.
#[derive(Debug)]
pub(crate) struct Keys {
    all: ArcSwap<Vec<Arc<Key>>>,
    shared: Arc<Shared>,
    /// Whose turn it is.
    turn: AtomicUsize,
}

impl Keys {
    /// These secrets with the name of their section, or none.
    pub(crate) fn new(
        backend: &str,
        config: &BreakerConfig,
        changes: Changes,
        section: &str,
        secrets: &[SecretString],
    ) -> Self {
        let shared = Arc::new(Shared { backend: backend.to_owned(), config: config.clone(), changes });
        let keys = Self { all: ArcSwap::default(), shared, turn: AtomicUsize::new(0) };
        keys.replace(section, secrets);
        keys
    }

    /// Other secrets from now on. Those that were there before keep their state; calls that run end with theirs. True when
    /// they are others than before.
    pub(crate) fn replace(&self, section: &str, secrets: &[SecretString]) -> bool {
        let before = self.all.load_full();
        let same = |secret: Option<&str>| before.iter().find(|key| key.secret() == secret).cloned();
        let made = |secret: Option<&SecretString>| {
            let known = same(secret.map(|secret| secret.expose_secret()));
            known.unwrap_or_else(|| Arc::new(self.key(section, secret)))
        };
        let all: Vec<Arc<Key>> =
            if secrets.is_empty() { vec![made(None)] } else { secrets.iter().map(Some).map(made).collect() };
        let changed =
            all.len() != before.len() || all.iter().zip(before.iter()).any(|(new, old)| !Arc::ptr_eq(new, old));
        if changed {
            self.all.store(Arc::new(all));
            self.shared.changes.tell();
        }
        changed
    }

    fn key(&self, section: &str, secret: Option<&SecretString>) -> Key {
        let mut hasher = DefaultHasher::new();
        (section, secret.map(|secret| secret.expose_secret())).hash(&mut hasher);
        Key {
            masked: secret.map(|secret| format!("{section}/{}", tutti_config::masked(secret))).unwrap_or_default(),
            secret: secret.cloned(),
            identity: hasher.finish(),
            backend: Arc::clone(&self.shared),
            guard: Mutex::new(Guard { breaker: Breaker::new(Instant::now()), rest: None }),
        }
    }

    /// How many secrets there are.
    pub(crate) fn count(&self) -> usize {
        self.all.load().iter().filter(|key| key.secret.is_some()).count()
    }

    /// All of them; one without a secret when there is none.
    pub(crate) fn all(&self) -> Arc<Vec<Arc<Key>>> {
        self.all.load_full()
    }

    /// The credential for a probe, which no breaker stops: the first that does not rest, else the first.
    pub(crate) fn for_probe(&self, now: Instant) -> Option<Arc<Key>> {
        let all = self.all.load();
        let awake = all.iter().find(|key| key.guard().resting(now).is_none());
        awake.or(all.first()).cloned()
    }

    /// The credential for the next attempt. Calls of one session keep to one, for the provider's prompt cache; others
    /// take turns. Those that rest are left out while one is awake: when all rest, a refusal is better than no answer,
    /// and one of them may be good again. Those whose breaker is open are left out always.
    ///
    /// # Errors
    /// Every breaker is open: the time after which it is worth asking again.
    pub(crate) fn choose(&self, session: &str, now: Instant) -> Result<Pass, Duration> {
        let all = self.all.load();
        if let [only] = &all[..] {
            return only.admit(now);
        }
        let mut order: Vec<&Arc<Key>> = all.iter().collect();
        if session.is_empty() {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed) % order.len().max(1);
            order.rotate_left(turn);
        } else {
            order.sort_by_cached_key(|key| std::cmp::Reverse(score(session, key.identity)));
        }
        let awake = |key: &&Arc<Key>| key.guard().resting(now).is_none();
        if order.iter().any(awake) {
            order.retain(awake);
        }
        let closed = order.iter().copied().filter(|key| key.open_for(now).is_none());
        if let Some(pass) = closed.flat_map(|key| key.admit(now)).next() {
            return Ok(pass);
        }
        // The refusal is counted once; the wait is the shortest.
        let first = order.first().ok_or(Duration::ZERO)?.admit(now);
        let soonest = || order.iter().filter_map(|key| key.open_for(now)).min().unwrap_or_default();
        first.map_err(|wait| wait.min(soonest()))
    }

    /// Notes that the provider refused a credential. True when there is another one that does not rest.
    pub(crate) fn refused(&self, key: &Key, reason: Reason, retry_after: Option<Duration>) -> bool {
        let now = Instant::now();
        let all = self.all.load();
        let others = all.iter().any(|other| other.identity != key.identity && other.guard().resting(now).is_none());
        match (reason, retry_after) {
            (Reason::ProviderAuth | Reason::ProviderBilling, _) => key.rest(reason, REST),
            (Reason::ProviderRateLimited, Some(time)) if others => key.rest(reason, time.min(REST)),
            _ => return false,
        }
        others
    }

    /// Closes all breakers and wakes all credentials.
    pub(crate) fn reset(&self) {
        for key in self.all.load().iter() {
            let mut guard = key.guard();
            guard.breaker.reset();
            guard.rest = None;
        }
        self.shared.changes.tell();
    }
}

/// Rendezvous hashing: when a credential comes or goes, only its own sessions move.
fn score(session: &str, identity: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (session, identity).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
