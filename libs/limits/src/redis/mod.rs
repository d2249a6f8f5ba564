//! The limiter whose truth is in Redis.

mod link;

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use async_trait::async_trait;
use redis::Script;
use secrecy::SecretString;
use tokio::{sync::Mutex, task::JoinSet, time::timeout};

use crate::{
    Amount, Correction, Counts, Decision, Limiter, Local, Window,
    counts::increment,
    gcra::{self, Charge, HORIZON},
};
use link::Link;

/// Loaded into Redis at each connection; from then on named by its hash.
static CHARGE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("charge.lua")));

/// Where the shared truth is, and how long to wait for it.
#[derive(Debug, Clone)]
pub struct RedisOptions {
    /// `redis://[user[:password]@]host[:port][/database]`, without TLS.
    pub url: SecretString,
    /// Begins the name of every key, for instance `tutti`. Processes with the same prefix share limits.
    pub prefix: String,
    /// Tells this process from the others that share the limits.
    pub replica: String,
    /// How many processes share the limits, as long as Redis has not been asked yet.
    pub replicas: u64,
    /// No answer takes longer: then the process decides by its share.
    pub budget: Duration,
}

impl RedisOptions {
    /// With a budget of 40 ms, and no other replica assumed.
    pub fn new(url: SecretString, prefix: impl Into<String>, replica: impl Into<String>) -> Self {
        Self { url, prefix: prefix.into(), replica: replica.into(), replicas: 1, budget: Duration::from_millis(40) }
    }
}

/// The URL of Redis is not one. The URL itself is not repeated, as it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a URL of Redis: redis://[user[:password]@]host[:port][/database]")]
pub struct InvalidUrl;

/// One truth for all replicas, by the clock of Redis; each charge is one script call.
///
/// The first answer that doesn't come within the budget ends the use of Redis: until a background task has reached it
/// again, at most about once a second, this process answers at once, from its share: limit and burst divided by the
/// replicas last seen. A charge whose answer came too late may have counted twice, never not at all.
#[derive(Debug)]
pub struct Redis {
    link: Arc<Link>,
    local: Local,
    keys: String,
    budget: Duration,
    /// Owns the task that connects and shows that this replica lives.
    keeper: Mutex<JoinSet<()>>,
}

impl Redis {
    /// Begins to connect in the background, and doesn't wait for it: without Redis it answers all the same.
    ///
    /// # Errors
    /// A URL that is none.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(options: RedisOptions) -> Result<Self, InvalidUrl> {
        let (keys, budget) = (format!("{}:limit:", options.prefix), options.budget);
        let link = Arc::new(Link::new(options)?);
        let mut keeper = JoinSet::new();
        keeper.spawn(link.clone().keep());
        Ok(Self { link, local: Local::new(), keys, budget, keeper: Mutex::new(keeper) })
    }

    /// Whether the next answer will be asked of Redis.
    pub fn is_shared(&self) -> bool {
        self.link.connection().is_some()
    }

    /// What the script answers, or nothing when Redis doesn't within the budget.
    async fn charge(&self, key: &str, windows: &[Window], charges: &[Charge]) -> Option<Vec<u64>> {
        let connection = self.link.connection()?;
        let mut call = CHARGE.key(format!("{}{key}", self.keys));
        call.arg(HORIZON);
        for (window, charge) in windows.iter().zip(charges) {
            let depth = charge.depth.map_or(-1, |depth| i64::try_from(depth).unwrap_or(i64::MAX));
            call.arg(window.name()).arg(charge.time).arg(depth);
        }
        let mut channel = connection.channel();
        match timeout(self.budget, call.invoke_async::<Vec<u64>>(&mut channel)).await {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(error)) => {
                increment(&self.link.tally.failures);
                self.link.lose(&connection, &error.to_string());
            }
            Err(_) => {
                increment(&self.link.tally.timeouts);
                self.link.lose(&connection, "no answer in time");
            }
        }
        None
    }

    async fn decide(&self, key: &str, cost: Amount, windows: &[Window]) -> Decision {
        let charges: Vec<Charge> = windows.iter().map(|window| Charge::take(window, cost, 1)).collect();
        match self.charge(key, windows, &charges).await.as_deref() {
            Some([0, debts @ ..]) => Decision::Allowed { remaining: gcra::remaining(windows, debts, 1) },
            Some([wait, ..]) => Decision::Wait(Duration::from_micros(*wait)),
            Some([]) | None => {
                increment(&self.link.tally.by_share);
                self.local.take_share(key, cost, windows, self.link.replicas())
            }
        }
    }
}

#[async_trait]
impl Limiter for Redis {
    async fn take(&self, key: &str, cost: Amount, windows: &[Window]) -> Decision {
        let decision = if windows.is_empty() {
            Decision::Allowed { remaining: gcra::remaining(&[], &[], 1) }
        } else {
            self.decide(key, cost, windows).await
        };
        self.link.tally.decided(&decision);
        decision
    }

    async fn correct(&self, key: &str, correction: Correction, windows: &[Window]) {
        if windows.is_empty() {
            return;
        }
        let charges: Vec<Charge> = windows.iter().map(|window| Charge::correct(window, correction, 1)).collect();
        if self.charge(key, windows, &charges).await.is_none() {
            self.local.correct_share(key, correction, windows, self.link.replicas());
        }
    }

    async fn reset(&self, key: &str) {
        self.local.forget(key);
        let Some(connection) = self.link.connection() else { return };
        let mut channel = connection.channel();
        let name = format!("{}{key}", self.keys);
        let mut deletion = redis::cmd("DEL");
        let deletion = deletion.arg(name).exec_async(&mut channel);
        // What can't be deleted now runs out by itself.
        if !matches!(timeout(self.budget, deletion).await, Ok(Ok(()))) {
            increment(&self.link.tally.failures);
            self.link.lose(&connection, "a reset was not answered");
        }
    }

    fn counts(&self) -> Counts {
        self.link.tally.read(self.link.replicas())
    }

    /// Takes no longer than the budget.
    async fn stop(&self) {
        self.keeper.lock().await.shutdown().await;
        if let Some(connection) = self.link.connection() {
            // If that fails, the others notice a little later.
            let _ = timeout(self.budget, self.link.leave(&connection)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_url_that_is_none_is_refused_without_repeating_it() {
        let options = |url: &str| RedisOptions::new(url.into(), "tutti", "a");
        for url in ["", "localhost", "http://:secret@host"] {
            assert!(Redis::start(options(url)).is_err(), "{url}");
        }
        let shown = format!("{:?} {:?}", options("redis://:secret@host"), InvalidUrl);
        assert!(!shown.contains("secret"), "{shown}");
        assert!(Redis::start(options("redis://user:secret@localhost:6379/2")).is_ok());
    }
}
