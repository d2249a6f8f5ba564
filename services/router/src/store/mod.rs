//! The calls with an idempotency key.

mod postgres;
mod row;
mod sqlite;

use std::fmt;

use async_trait::async_trait;
use tutti_error::Result;
use tutti_types::{RequestId, Scope, TurnId};

pub(crate) use postgres::PostgresStore;
pub use postgres::schema;
pub(crate) use sqlite::SqliteStore;

use crate::domain::keyed::{Batch, Call, Ending, Held, NewCall, Owned, Progress};

/// What came of the wish to begin a call.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Claimed {
    /// It is the owner's who asked.
    New(Held),
    /// Its key stands for this call.
    Taken(Call),
}

/// Keeps calls and what their readers were told. A store is one owner: what it claims or takes over is its own, as long
/// as it lives. Every method fails with STORE_UNAVAILABLE, and but for those about the owner's own calls sees only rows
/// of the scope's org.
#[async_trait]
pub(crate) trait CallStore: fmt::Debug + Send + Sync {
    /// Makes a call and claims its key, unless that stands for another one that was made after `expired`
    /// (microseconds since 1970).
    async fn claim(&self, scope: &Scope, call: &NewCall, expired: i64) -> Result<Claimed>;

    /// The latest call of that request.
    async fn find(&self, scope: &Scope, request: RequestId) -> Result<Option<Call>>;

    /// A call as it is now; with `reading`, others are told that it is being read.
    async fn look(&self, scope: &Scope, id: TurnId, reading: bool) -> Result<Option<Call>>;

    /// Batches with events after this number, in order: some of them, at least the next one.
    async fn events(&self, scope: &Scope, id: TurnId, after: u64) -> Result<Vec<Batch>>;

    /// The last batch of a call.
    async fn last(&self, scope: &Scope, id: TurnId) -> Result<Option<Batch>>;

    /// Writes what happened, and how the call ended if it has; durable when this returns. `false`, and nothing is
    /// written, when the call is no longer held.
    async fn write(&self, held: &Held, progress: &Progress, ending: Option<&Ending>) -> Result<bool>;

    /// Makes a call of an owner that died the own one, with one more attempt counted; `fencing` is the dead owner's.
    /// `None` when it is alive, or another one was faster.
    async fn take_over(&self, scope: &Scope, id: TurnId, fencing: i64) -> Result<Option<(Held, Call)>>;

    /// Notes that a running call of that request is to end; whether there is one.
    async fn cancel(&self, scope: &Scope, request: RequestId) -> Result<bool>;

    /// The own running calls.
    async fn owned(&self) -> Result<Vec<Owned>>;

    /// Forgets calls of all orgs that were made before that time, in microseconds since 1970; at most 500 at once. How
    /// many it was.
    async fn purge(&self, before: i64) -> Result<u64>;

    /// Ends all use.
    async fn close(&self);
}

#[cfg(test)]
mod contract;
