//! `[resilience.limits]`: how many calls and tokens a time may have. `[backends.NAME.limits]` says it for one backend.

use std::time::Duration;

use crate::section::Section;

/// The lengths of windows, by their names in keys.
const LENGTHS: [(&str, Duration); 3] =
    [("minute", Duration::from_mins(1)), ("hour", Duration::from_hours(1)), ("day", Duration::from_hours(24))];

/// What a backend has when limits are switched on without numbers: calls a minute.
const DEFAULT_REQUESTS: u64 = 60;

/// The limits of one thing: of a backend, a credential, an organisation, a team or a project. Several windows hold
/// together; without any there is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScopeLimits {
    /// Calls, each with the length of its window.
    pub requests: Vec<(Duration, u64)>,
    /// Tokens, input and output together.
    pub tokens: Vec<(Duration, u64)>,
    /// Calls that may come at once besides. Default 0: they are spaced evenly, 60 a minute is one a second.
    pub burst: u64,
    /// The same in tokens; `None` takes a fifth of each window.
    pub token_burst: Option<u64>,
}

impl ScopeLimits {
    /// Whether there is no window.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty() && self.tokens.is_empty()
    }

    fn read(table: &Section<'_>) -> Self {
        let windows = |unit: &str| {
            let window = |(name, length): &(&str, Duration)| {
                table.opt_integer(&format!("{unit}_per_{name}"), 1..=u64::MAX).map(|limit| (*length, limit))
            };
            LENGTHS.iter().filter_map(window).collect()
        };
        Self {
            requests: windows("requests"),
            tokens: windows("tokens"),
            burst: table.opt_integer("burst", 0..=u64::MAX).unwrap_or(0),
            token_burst: table.opt_integer("token_burst", 0..=u64::MAX),
        }
    }
}

/// All limits that a call of a backend has to keep.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitsConfig {
    /// How long a call may wait for room. Default 0: it is refused at once.
    pub wait: Duration,
    /// Of the backend.
    pub backend: ScopeLimits,
    /// Of each of its credentials.
    pub credential: ScopeLimits,
    /// Of each organisation, over all backends.
    pub org: ScopeLimits,
    /// Of each team of an organisation, over all backends.
    pub team: ScopeLimits,
    /// Of each project of an organisation, over all backends.
    pub project: ScopeLimits,
}

impl LimitsConfig {
    /// `[resilience.limits]`: off unless something is limited or it is switched on.
    pub(crate) fn read(table: &Section<'_>) -> Self {
        let scope = |name: &str| ScopeLimits::read(&table.subsection(name));
        let mut limits = Self {
            wait: table.opt_duration("wait").unwrap_or_default(),
            backend: scope("backend"),
            credential: scope("credential"),
            org: scope("org"),
            team: scope("team"),
            project: scope("project"),
        };
        let each = [&limits.backend, &limits.credential, &limits.org, &limits.team, &limits.project];
        let any = each.iter().any(|scope| !scope.is_empty());
        if !table.bool("enabled", any) {
            return Self::default();
        }
        if !any {
            limits.backend.requests.push((LENGTHS[0].1, DEFAULT_REQUESTS));
        }
        limits
    }

    /// The same for a backend whose own limits take the place of those for all backends and credentials.
    pub(crate) fn of_backend(&self, table: &Section<'_>) -> Self {
        let (own, of_credential) = (ScopeLimits::read(table), ScopeLimits::read(&table.subsection("credential")));
        let instead = |own: ScopeLimits, shared: &ScopeLimits| if own.is_empty() { shared.clone() } else { own };
        Self {
            wait: table.opt_duration("wait").unwrap_or(self.wait),
            backend: instead(own, &self.backend),
            credential: instead(of_credential, &self.credential),
            ..self.clone()
        }
    }
}
