//! Stores: SQLite for the embedded profile, Postgres for the cluster, behind the same service traits.
//!
//! SQL itself stands only in the services' `store/` folders; this crate opens, migrates, verifies, retries and closes,
//! and keeps leases.

mod away;
mod lease;
mod postgres;
mod retry;
mod schema;
mod sqlite;

pub use lease::{Lease, Leases, PostgresLeases, SqliteLeases};
pub use postgres::Postgres;
pub use retry::{Failure, retry, within};
pub use schema::{Migrated, Schema};
pub use sqlite::Sqlite;

use tutti_error::{Error, Reason};
use tutti_telemetry::Metrics;

/// The edge error of a failed store: UNAVAILABLE for the caller, the cause for the log.
///
/// `doing` says what was tried, for instance `reserve an attempt`.
pub fn unavailable(doing: &'static str) -> impl Fn(sqlx::Error) -> Error {
    move |cause| {
        metrics::counter!(Metrics::STORE_ERRORS, "operation" => doing).increment(1);
        tracing::error!(%cause, "store failed to {doing}");
        Error::new(Reason::StoreUnavailable, format!("the store could not {doing}; try again")).context(cause)
    }
}
