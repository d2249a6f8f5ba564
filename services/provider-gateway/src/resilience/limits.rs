//! Rate limits of ours: of a backend, of its credentials, and of whom a call is made for. All that hold for a call are
//! charged, or none; tokens by an estimate that is put right when the call has ended.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::FutureExt as _;
use tokio::time::{Instant, sleep};
use tutti_config::{ExposeSecret as _, LimitsConfig, RedisConfig, ScopeLimits};
use tutti_error::{Error, Reason, Result};
use tutti_limits::{Amount, Correction, Decision, Limiter, Local, Redis, RedisOptions, Unit, Window};
use tutti_server::Tasks;
use tutti_telemetry::Metrics;
use tutti_types::AttemptId;

use super::Key;
use crate::plan::Plan;

/// Whose limit it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    Backend,
    Credential,
    Org,
    Team,
    Project,
}

impl Whose {
    /// As it is written in the configuration.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Backend => "backend",
            Self::Credential => "credential",
            Self::Org => "org",
            Self::Team => "team",
            Self::Project => "project",
        }
    }
}

/// One limit of a backend, and what it has decided.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) whose: Whose,
    windows: Vec<Window>,
    pub(crate) decided: Decided,
}

/// Numbers since the start or the last reset.
#[derive(Debug, Default)]
pub(crate) struct Decided {
    pub(crate) allowed: AtomicU64,
    /// Refused.
    pub(crate) throttled: AtomicU64,
    /// Allowed after a wait.
    pub(crate) waited: AtomicU64,
}

impl Decided {
    /// From the beginning.
    pub(crate) fn reset(&self) {
        for counter in [&self.allowed, &self.throttled, &self.waited] {
            counter.store(0, Ordering::Relaxed);
        }
    }
}

/// All limits that hold for the calls of a backend.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    wait: Duration,
    pub(crate) all: Vec<Arc<Rule>>,
}

impl Rules {
    /// Those of a backend.
    ///
    /// # Errors
    /// INTERNAL for a window that can't be kept, which the configuration has ruled out.
    pub(crate) fn new(config: &LimitsConfig) -> Result<Self> {
        let scopes = [
            (Whose::Backend, &config.backend),
            (Whose::Credential, &config.credential),
            (Whose::Org, &config.org),
            (Whose::Team, &config.team),
            (Whose::Project, &config.project),
        ];
        let limited = scopes.into_iter().filter(|(_, limits)| !limits.is_empty());
        let rule = |(whose, limits): (Whose, &ScopeLimits)| {
            Ok(Arc::new(Rule { whose, windows: windows(limits)?, decided: Decided::default() }))
        };
        Ok(Self { wait: config.wait, all: limited.map(rule).collect::<Result<_>>()? })
    }
}

fn windows(limits: &ScopeLimits) -> Result<Vec<Window>> {
    let of_requests =
        limits.requests.iter().map(|(per, limit)| Window::new(Unit::Requests, *limit, *per, limits.burst));
    let of_tokens = limits.tokens.iter().map(|(per, limit)| {
        let burst = limits.token_burst.unwrap_or(limit / 5);
        Window::new(Unit::Tokens, *limit, *per, burst)
    });
    of_requests.chain(of_tokens).map(|window| window.map_err(Error::internal)).collect()
}

/// The limiter that all backends share.
#[derive(Clone)]
pub(crate) struct Limits {
    limiter: Arc<dyn Limiter>,
    tasks: Tasks,
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.limiter)
    }
}

/// What a key could take at once, and what of that is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) available: Amount,
    pub(crate) in_use: Amount,
}

impl Limits {
    /// One truth for all replicas where there is a Redis, else for this process.
    ///
    /// # Errors
    /// INVALID_REQUEST for an address that is none; it is not repeated.
    pub(crate) fn start(redis: Option<&RedisConfig>, tasks: &Tasks) -> Result<Self> {
        let limiter: Arc<dyn Limiter> = match redis {
            None => Arc::new(Local::new()),
            Some(config) => {
                let url = config.url.expose_secret().to_owned().into();
                let options = RedisOptions::new(url, config.prefix.as_str(), AttemptId::generate().to_string());
                let invalid = |error| Error::invalid("redis.url", format!("{error}"));
                Arc::new(Redis::start(options).map_err(invalid)?)
            }
        };
        Ok(Self { limiter, tasks: tasks.clone() })
    }

    /// Charges an attempt to all limits that hold for it, waiting for room as long as the configuration and the call
    /// allow.
    ///
    /// # Errors
    /// BACKEND_RATE_LIMITED for the limit of a backend or credential, RATE_LIMITED for another one, with the time after
    /// which there is room.
    pub(crate) async fn charge(&self, plan: &Plan, key: &Key) -> Result<Charge> {
        let rules = &plan.backend.limits;
        if rules.all.is_empty() {
            return Ok(Charge(None));
        }
        let cost = Amount::request(plan.token_estimate());
        let end = (Instant::now() + rules.wait).min(plan.context.deadline.instant().into());
        let mut waited = false;
        loop {
            let mut charged = Charged { limits: self.clone(), taken: Vec::with_capacity(rules.all.len()), cost };
            let taken = charged.take_all(plan, key).await;
            self.publish();
            let Err((rule, wait)) = taken else {
                charged.taken.iter().for_each(|(_, rule)| rule.allow(plan, waited));
                return Ok(Charge(Some(charged)));
            };
            charged.correct(Correction { requests: -1, tokens: Correction::tokens(0, cost.tokens).tokens });
            if Instant::now() + wait >= end {
                return Err(refused(plan, &rule, wait));
            }
            waited = true;
            sleep(wait).await;
        }
    }

    /// What is left of a limit's key; nothing is taken.
    pub(crate) async fn room(&self, key: &str, rule: &Rule) -> Room {
        let nothing = Amount { requests: 0, tokens: 0 };
        let most = rule.most();
        let available = match self.limiter.take(key, nothing, &rule.windows).await {
            Decision::Allowed { remaining } => remaining,
            Decision::Wait(_) => nothing,
        };
        let used = |most: u64, left: u64| if most == u64::MAX { 0 } else { most.saturating_sub(left) };
        let in_use =
            Amount { requests: used(most.requests, available.requests), tokens: used(most.tokens, available.tokens) };
        Room { available, in_use }
    }

    /// Publishes what the limiter counts by itself: above all, how it does without Redis.
    fn publish(&self) {
        if Metrics::are_recorded() {
            let counts = self.limiter.counts();
            metrics::counter!(Metrics::LIMITS_BY_SHARE).absolute(counts.by_share);
            metrics::counter!(Metrics::LIMITS_OUTAGES).absolute(counts.outages);
        }
    }

    /// Leaves the replicas that share the limits.
    pub(crate) async fn stop(&self) {
        self.limiter.stop().await;
    }

    /// Forgets what a key owes.
    pub(crate) async fn reset(&self, key: &str) {
        self.limiter.reset(key).await;
    }
}

impl Rule {
    /// What can be taken at once of an untouched limit.
    fn most(&self) -> Amount {
        let fresh = Local::new();
        let nothing = Amount { requests: 0, tokens: 0 };
        match fresh.take("", nothing, &self.windows).now_or_never() {
            Some(Decision::Allowed { remaining }) => remaining,
            _ => nothing,
        }
    }

    fn allow(&self, plan: &Plan, waited: bool) {
        self.decided.allowed.fetch_add(1, Ordering::Relaxed);
        if waited {
            self.decided.waited.fetch_add(1, Ordering::Relaxed);
        }
        count(plan, self, if waited { "waited" } else { "allowed" });
    }
}

/// The key of a limit; `None` where a call is nobody's.
pub(crate) fn key_of(whose: Whose, backend: &str, key: &Key, org: &str, name: &str) -> Option<String> {
    match whose {
        Whose::Backend => Some(format!("backend/{backend}")),
        Whose::Credential => Some(format!("credential/{backend}/{:016x}", key.identity())),
        Whose::Org => Some(format!("org/{org}")),
        Whose::Team | Whose::Project if name.is_empty() => None,
        // No name can hold the separator, so no two have the same key.
        Whose::Team => Some(format!("team/{org}\u{1f}{name}")),
        Whose::Project => Some(format!("project/{org}\u{1f}{name}")),
    }
}

/// What an attempt was charged. Closed with what it used; dropped, it is given back.
#[derive(Debug)]
pub(crate) struct Charge(Option<Charged>);

#[derive(Debug)]
struct Charged {
    limits: Limits,
    taken: Vec<(String, Arc<Rule>)>,
    cost: Amount,
}

impl Charge {
    /// The attempt was sent and used so many tokens.
    pub(crate) fn used(&mut self, tokens: u64) {
        if let Some(charged) = self.0.take() {
            let correction = Correction::tokens(tokens, charged.cost.tokens);
            charged.correct(correction);
        }
    }
}

impl Drop for Charge {
    /// It was never sent.
    fn drop(&mut self) {
        if let Some(charged) = self.0.take() {
            let tokens = Correction::tokens(0, charged.cost.tokens).tokens;
            charged.correct(Correction { requests: -1, tokens });
        }
    }
}

impl Charged {
    async fn take_all(&mut self, plan: &Plan, key: &Key) -> Result<(), (Arc<Rule>, Duration)> {
        for rule in &plan.backend.limits.all {
            let name = plan.attribution.as_ref().map_or("", |attribution| match rule.whose {
                Whose::Team => &attribution.team,
                Whose::Project => &attribution.project,
                Whose::Backend | Whose::Credential | Whose::Org => "",
            });
            let backend = &plan.backend.config.name;
            let Some(key) = key_of(rule.whose, backend, key, &plan.context.scope.org, name) else { continue };
            match self.limits.limiter.take(&key, self.cost, &rule.windows).await {
                Decision::Allowed { .. } => self.taken.push((key, Arc::clone(rule))),
                Decision::Wait(wait) => return Err((Arc::clone(rule), wait)),
            }
        }
        Ok(())
    }

    /// Off the caller's path where it takes any time.
    fn correct(self, correction: Correction) {
        if self.taken.is_empty() || (correction.requests == 0 && correction.tokens == 0) {
            return;
        }
        let tasks = self.limits.tasks.clone();
        let mut correcting = Box::pin(async move {
            for (key, rule) in &self.taken {
                self.limits.limiter.correct(key, correction, &rule.windows).await;
            }
        });
        if correcting.as_mut().now_or_never().is_none() {
            tasks.spawn(correcting);
        }
    }
}

fn refused(plan: &Plan, rule: &Rule, wait: Duration) -> Error {
    rule.decided.throttled.fetch_add(1, Ordering::Relaxed);
    count(plan, rule, "throttled");
    let reason = match rule.whose {
        Whose::Backend | Whose::Credential => Reason::BackendRateLimited,
        Whose::Org | Whose::Team | Whose::Project => Reason::RateLimited,
    };
    let (whose, backend) = (rule.whose.name(), &plan.backend.config.name);
    let message = match rule.whose {
        Whose::Backend => format!("the rate limit of the backend \"{backend}\" is reached"),
        Whose::Credential => format!("the rate limit of a credential of the backend \"{backend}\" is reached"),
        _ => format!("the rate limit of this {whose} is reached"),
    };
    Error::new(reason, message).metadata("limit", whose).retry_after(wait)
}

fn count(plan: &Plan, rule: &Rule, decision: &'static str) {
    if !Metrics::are_recorded() {
        return;
    }
    let backend = plan.backend.config.name.clone();
    metrics::counter!(Metrics::LIMITS, "backend" => backend, "limit" => rule.whose.name(), "decision" => decision)
        .increment(1);
}
