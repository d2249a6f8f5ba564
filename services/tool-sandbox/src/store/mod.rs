//! The books of tool calls.

mod postgres;
mod row;
mod select;
mod sqlite;

use std::fmt;

use async_trait::async_trait;
use tutti_error::Result;
use tutti_types::Scope;

pub(crate) use postgres::PostgresStore;
pub use postgres::schema;
use select::select;
pub(crate) use sqlite::SqliteStore;

use crate::domain::{CallResult, Claim, Ending, Filter, Integrity, NewRecord, Record};

/// What came of the wish to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Begun {
    /// It is recorded under this number.
    New(i64),
    /// Its key stands for another call already; nothing was recorded.
    Taken(Previous),
}

/// The call that a key stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Previous {
    /// Its record's number.
    pub(crate) seq: i64,
    /// What was asked.
    pub(crate) body_hash: Vec<u8>,
    /// Its result, if it has come to one.
    pub(crate) result: Option<CallResult>,
    /// Whether another replica, which lives, runs it: a result may yet come.
    pub(crate) runs_elsewhere: bool,
}

/// Keeps the books: rows are only ever added, chained by their hashes. Every method fails with STORE_UNAVAILABLE, and
/// sees only rows of the scope's org.
#[async_trait]
pub(crate) trait AuditStore: fmt::Debug + Send + Sync {
    /// Records a call; durable when this returns. With an `ending` the record is complete at once. With a `claim`, the
    /// key stands for this call from now on, unless it stands for another.
    async fn begin(
        &self,
        scope: &Scope,
        record: &NewRecord,
        claim: Option<&Claim>,
        ending: Option<&Ending>,
    ) -> Result<Begun>;

    /// Completes a record, and keeps the result for those who come with the same key. A complete record stays as it is.
    async fn finish(&self, scope: &Scope, seq: i64, ending: &Ending, result: Option<&CallResult>) -> Result<()>;

    /// The call that a key stands for.
    async fn previous(&self, scope: &Scope, key: &str) -> Result<Option<Previous>>;

    /// Records that match, newest first.
    async fn query(&self, scope: &Scope, filter: &Filter) -> Result<Vec<Record>>;

    /// Checks the hash chain of the org's rows, as far as it went when this began.
    #[cfg_attr(not(test), expect(dead_code, reason = "the contract suite calls it; its RPC comes with the admin's"))]
    async fn verify(&self, scope: &Scope) -> Result<Integrity>;

    /// Forgets the keys of all orgs whose calls began before that time, in microseconds since 1970, with their results;
    /// at most 500 at once. How many it was. The calls stay in the books.
    async fn purge_claims(&self, before: i64) -> Result<u64>;

    /// Ends all use.
    async fn close(&self);
}

#[cfg(test)]
mod contract;
