//! Where sessions are kept. SQL stands only here.

#[cfg(test)]
mod contract;
mod postgres;
mod sqlite;

use async_trait::async_trait;
pub(crate) use postgres::PostgresStore;
pub use postgres::schema;
pub(crate) use sqlite::SqliteStore;
use tutti_error::Result;
use tutti_proto::{
    llm::v1::Message,
    memory::v1::{HistoryEntry, Session, TurnState},
};
use tutti_types::Scope;

/// Messages to append to a turn.
#[derive(Debug, Clone)]
pub(crate) struct Append {
    pub session_id: String,
    pub turn_id: String,
    pub index: u32,
    pub backend: String,
    pub model: String,
    /// Each with its estimated tokens.
    pub messages: Vec<(Message, i64)>,
    pub state: TurnState,
}

/// Where an append stands in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Appended {
    /// 0 when nothing was appended.
    pub first_seq: i64,
    pub last_seq: i64,
    pub existing: bool,
}

/// Which messages a view is made from.
#[derive(Debug, Clone)]
pub(crate) struct ViewQuery {
    pub session_id: String,
    pub backend: String,
    /// Only the turns that this backend answered.
    pub own_turns_only: bool,
    /// Left out.
    pub turn_id: String,
    /// The newest this many, and all system messages.
    pub newest: usize,
}

/// The messages that a view is made from.
#[derive(Debug, Default)]
pub(crate) struct Visible {
    /// Oldest first, each with its estimated tokens.
    pub messages: Vec<(Message, i64)>,
    /// How many more there are that were not even looked at.
    pub older: i64,
}

/// Keeps sessions. Every method that takes a scope is of one tenant.
#[async_trait]
pub(crate) trait Store: Send + Sync {
    /// Appends to a turn, idempotently by (session, turn, index); makes the session and the turn when they are new.
    ///
    /// # Errors
    /// INVALID_REQUEST when the turn is closed and this append was not made before.
    async fn append(&self, scope: &Scope, append: Append) -> Result<Appended>;

    /// The messages after the last reset that concerns the backend. Empty for an unknown session.
    async fn visible(&self, scope: &Scope, query: &ViewQuery) -> Result<Visible>;

    /// The log after `after_seq`, oldest first. UNKNOWN_SESSION when there is none.
    async fn history(&self, scope: &Scope, session_id: &str, after_seq: i64, limit: i64) -> Result<Vec<HistoryEntry>>;

    /// Appends a reset mark; `backend` empty for all. UNKNOWN_SESSION when there is no session.
    async fn reset(&self, scope: &Scope, session_id: &str, backend: &str) -> Result<i64>;

    /// Sessions used before `before` (microseconds, id), the one used last first.
    async fn sessions(&self, scope: &Scope, before: Option<(i64, String)>, limit: i64) -> Result<Vec<Session>>;

    /// Deletes a session and says how many messages it had. UNKNOWN_SESSION when there is none.
    async fn delete(&self, scope: &Scope, session_id: &str) -> Result<i64>;

    /// Marks the turns of all tenants as incomplete that are open and were last appended to before this moment
    /// (microseconds since 1970): whoever made them is gone. Says how many there were.
    async fn close_abandoned(&self, before: i64) -> Result<u64>;

    /// Ends the store after what is running on it.
    async fn close(&self);
}
