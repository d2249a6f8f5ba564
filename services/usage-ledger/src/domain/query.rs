//! What can be asked of the books.

use tutti_types::{AttemptId, NanoUsd, TokenCounts};

use super::{Record, State, record::Micros};

/// Which records. `None` and empty match all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this attempt.
    pub attempt_id: Option<AttemptId>,
    /// Of this request.
    pub request_id: Option<String>,
    /// Of this backend.
    pub backend: Option<String>,
    /// Of this provider.
    pub provider: Option<String>,
    /// Of this model.
    pub model: Option<String>,
    /// Of this session.
    pub session_id: Option<String>,
    /// Of this project.
    pub project: Option<String>,
    /// Of this task.
    pub task_id: Option<String>,
    /// Of this team.
    pub team: Option<String>,
    /// Of this run.
    pub run_id: Option<String>,
    /// In one of these states.
    pub states: Vec<State>,
    /// Reserved at or after.
    pub from: Option<Micros>,
    /// Reserved before.
    pub to: Option<Micros>,
}

/// What to sum by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dimension {
    /// The backend.
    Backend,
    /// The model.
    Model,
    /// The session.
    Session,
    /// The project.
    Project,
    /// The task.
    Task,
    /// The credential's masked name.
    Credential,
    /// The hour of the reservation, such as `2026-11-20T13:00:00Z`.
    Hour,
    /// The day of the reservation in UTC, such as `2026-11-20`.
    Day,
    /// The team.
    Team,
    /// The provider.
    Provider,
}

/// One group's sums.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Group {
    /// The group's values, in the order of the dimensions.
    pub key: Vec<String>,
    /// The sums.
    pub totals: Totals,
}

/// Sums of records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Attempts that were sent: settled or assumed.
    pub attempts: i64,
    /// Distinct requests.
    pub requests: i64,
    /// Attempts that failed.
    pub errors: i64,
    /// Tokens used.
    pub tokens: TokenCounts,
    /// What they cost.
    pub cost: NanoUsd,
    /// Held by attempts that run.
    pub held: NanoUsd,
    /// Mean latency of the settled attempts that told theirs, in microseconds.
    pub mean_latency: Option<Micros>,
    /// Attempts whose cost is assumed.
    pub assumed: i64,
}

/// A place in the list of records: a page begins after it. It stays right while records come and change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// When the last record of the page before was reserved.
    pub created_at: Micros,
    /// Its attempt.
    pub attempt_id: AttemptId,
}

/// A page of records, newest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Page {
    /// The records.
    pub records: Vec<Record>,
    /// Where the next page begins; `None` on the last.
    pub next: Option<Cursor>,
}
