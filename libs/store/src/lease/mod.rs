//! Leases: one owner at a time, until it ends them or stops renewing.
//!
//! The clock is the store's, so that the clocks of the owners need not agree. Each new owner gets a higher fencing
//! number: who writes on the strength of a lease writes this number along, and what has seen a higher one refuses.

#[cfg(test)]
mod contract;
mod postgres;
mod sqlite;

use std::time::Duration;

use async_trait::async_trait;
pub use postgres::PostgresLeases;
pub use sqlite::SqliteLeases;
use tutti_error::Result;

/// A lease that somebody got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The tenant; empty for what belongs to all.
    pub org: String,
    /// What is leased.
    pub name: String,
    /// Who got it: unique among all processes that ever were.
    pub owner: String,
    /// Higher than that of every earlier owner.
    pub fencing: i64,
}

/// Leases of a store. All errors are STORE_UNAVAILABLE: then nobody knows, so behave as if the lease were lost.
#[async_trait]
pub trait Leases: std::fmt::Debug + Send + Sync + 'static {
    /// Gets the lease for `duration` if nobody else has it. Its own owner gets it anew, with the same fencing.
    async fn acquire(&self, org: &str, name: &str, owner: &str, duration: Duration) -> Result<Option<Lease>>;

    /// Keeps the lease for `duration` from now on. False when it is lost.
    async fn renew(&self, lease: &Lease, duration: Duration) -> Result<bool>;

    /// Whether the lease is still held, by this owner with this fencing.
    async fn holds(&self, lease: &Lease) -> Result<bool>;

    /// Ends the lease, unless it is lost already.
    async fn release(&self, lease: &Lease) -> Result<()>;
}

/// As the stores count.
fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX / 4)
}
