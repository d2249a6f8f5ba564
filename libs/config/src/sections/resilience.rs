//! `[resilience]`: how a backend that fails is called again, left alone, or spared. `[backends.NAME.retry]`, `.breaker` and
//! `.limits` take the same keys for one backend.

use std::time::Duration;

use crate::reader::Reader;
use crate::section::Section;
use crate::sections::limits::LimitsConfig;

/// `[resilience.retry]`: further tries of the same backend, before its first token.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryConfig {
    /// All tries of a call together, the first among them. Default 3; 1 never tries again.
    pub max_attempts: u32,
    /// The wait before the second try. Default 1 s.
    pub base_delay: Duration,
    /// By how much each wait is longer than the one before. Default 2.
    pub factor: f64,
    /// The longest wait, also of those that a provider asks for: more is not waited for. Default 60 s.
    pub max_delay: Duration,
    /// By which part a wait is shortened or prolonged at random. Default 0.25.
    pub jitter: f64,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            max_attempts: 3,
            base_delay: Duration::from_secs(1),
            factor: 2.0,
            max_delay: Duration::from_secs(60),
            jitter: 0.25,
        }
    }
}

impl RetryConfig {
    pub(crate) fn read(table: &Section<'_>, default: &Self) -> Self {
        Self {
            max_attempts: table.integer("max_attempts", default.max_attempts, 1..=20),
            base_delay: table.duration("base_delay", default.base_delay),
            factor: table.float("factor", default.factor, 1.0..=10.0),
            max_delay: table.duration("max_delay", default.max_delay),
            jitter: table.float("jitter", default.jitter, 0.0..=1.0),
        }
    }
}

/// `[resilience.breaker]`: a backend that keeps failing is left alone for a while.
#[derive(Clone, Debug, PartialEq)]
pub struct BreakerConfig {
    /// Default true.
    pub enabled: bool,
    /// So many failures in a row open it; a success clears the count. Default 5.
    pub failures: u32,
    /// How long it stays open before calls are let through again to see. Default 30 s.
    pub open_for: Duration,
    /// Calls let through at a time then. Default 3.
    pub half_open_calls: u32,
    /// So many of them that go well close it; one that fails opens it again. Default 2.
    pub successes: u32,
    /// It also opens when this part of the calls of the window failed; 0 turns that off. Default 0.5.
    pub error_rate: f64,
    /// The time that the error rate is taken over. Default 60 s.
    pub window: Duration,
    /// With fewer calls in the window its error rate says nothing. Default 20.
    pub min_calls: u32,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            failures: 5,
            open_for: Duration::from_secs(30),
            half_open_calls: 3,
            successes: 2,
            error_rate: 0.5,
            window: Duration::from_secs(60),
            min_calls: 20,
        }
    }
}

impl BreakerConfig {
    pub(crate) fn read(table: &Section<'_>, default: &Self) -> Self {
        let config = Self {
            enabled: table.bool("enabled", default.enabled),
            failures: table.integer("failures", default.failures, 1..=10_000),
            open_for: table.positive_duration("open_for", default.open_for),
            half_open_calls: table.integer("half_open_calls", default.half_open_calls, 1..=1000),
            successes: table.integer("successes", default.successes, 1..=1000),
            error_rate: table.float("error_rate", default.error_rate, 0.0..=1.0),
            window: table.positive_duration("window", default.window),
            min_calls: table.integer("min_calls", default.min_calls, 1..=1_000_000),
        };
        if config.successes > config.half_open_calls {
            table.problem("successes", "more successes than half_open_calls can never come");
        }
        config
    }
}

/// What all backends have unless they say otherwise.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResilienceConfig {
    /// `[resilience.retry]`.
    pub retry: RetryConfig,
    /// `[resilience.breaker]`.
    pub breaker: BreakerConfig,
    /// `[resilience.limits]`.
    pub limits: LimitsConfig,
}

impl ResilienceConfig {
    /// Reads `[resilience]`.
    pub fn read(reader: &Reader) -> Self {
        let section = reader.section("resilience");
        let config = Self {
            retry: RetryConfig::read(&section.subsection("retry"), &RetryConfig::default()),
            breaker: BreakerConfig::read(&section.subsection("breaker"), &BreakerConfig::default()),
            limits: LimitsConfig::read(&section.subsection("limits")),
        };
        section.finish();
        config
    }

    /// The same for one backend, whose own keys win.
    pub(crate) fn of_backend(&self, table: &Section<'_>) -> Self {
        Self {
            retry: own(table, "retry", &self.retry, RetryConfig::read),
            breaker: own(table, "breaker", &self.breaker, BreakerConfig::read),
            limits: own(table, "limits", &self.limits, |table, shared| shared.of_backend(table)),
        }
    }
}

/// What a backend's own table says, if it has one.
fn own<T: Clone>(backend: &Section<'_>, name: &str, shared: &T, read: impl Fn(&Section<'_>, &T) -> T) -> T {
    let table = backend.subsection(name);
    if table.is_present() { read(&table, shared) } else { shared.clone() }
}
