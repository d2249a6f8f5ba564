//! Where the books are kept. The rules of a record are the domain's; a store finds, keeps, sums and lists.

#[cfg(test)]
mod contract;
mod postgres;
mod query;
mod records;
mod row;
mod sqlite;

use async_trait::async_trait;
pub use postgres::{PostgresStore, schema};
pub use sqlite::SqliteStore;
use tutti_error::Result;
use tutti_types::{AttemptId, Scope};

use crate::domain::{Cursor, Dimension, Filter, Group, Micros, Page, Record};

/// The books of all orgs. Every method but [`Store::orgs_with_due_holds`] sees one org only.
///
/// All errors are STORE_UNAVAILABLE.
#[async_trait]
pub trait Store: std::fmt::Debug + Send + Sync + 'static {
    /// Begins a transaction that writes. What was not committed is gone when it is dropped.
    async fn begin(&self) -> Result<Box<dyn Transaction>>;

    /// The orgs that have a hold with `expires_at` ≤ `now`: the one question over all tenants, asked by the expiry.
    async fn orgs_with_due_holds(&self, now: Micros) -> Result<Vec<String>>;

    /// Sums by at most 3 dimensions, the dearest group first, then by what is held, then by key; at most `limit`
    /// groups. Without dimensions there is always one group.
    async fn usage(&self, scope: &Scope, filter: &Filter, by: &[Dimension], limit: u32) -> Result<Vec<Group>>;

    /// At most `size` records after `after`, newest first; at the same moment, by descending attempt id.
    async fn list(&self, scope: &Scope, filter: &Filter, size: u32, after: Option<Cursor>) -> Result<Page>;

    /// Ends all connections.
    async fn close(&self);
}

/// What became of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commit {
    /// It is durable.
    Durable,
    /// Another replica was in the way, and nothing was written: make it anew.
    Again,
}

/// A transaction of a [`Store`]. It sees its own writes, and nobody else's until they are committed.
#[async_trait]
pub trait Transaction: Send {
    /// Says which attempts are about to be changed, so that a store can read them all at once. Only a hint: what isn't
    /// announced is found all the same.
    async fn expect(&mut self, attempts: &[(&Scope, AttemptId)]) -> Result<()>;

    /// Adds the record unless there is one of this attempt. True when it was added.
    async fn insert(&mut self, scope: &Scope, record: &Record) -> Result<bool>;

    /// The record of an attempt, which nobody else can change until this transaction ends.
    async fn find(&mut self, scope: &Scope, attempt: AttemptId) -> Result<Option<Record>>;

    /// Writes the parts of a record that its settlement, release or expiry changed.
    async fn update(&mut self, scope: &Scope, record: &Record) -> Result<()>;

    /// At most `limit` holds with `expires_at` ≤ `now`, the oldest first. Those that somebody else is changing are left
    /// out.
    async fn due_holds(&mut self, scope: &Scope, now: Micros, limit: u32) -> Result<Vec<Record>>;

    /// Makes it durable, all or nothing.
    async fn commit(self: Box<Self>) -> Result<Commit>;
}
