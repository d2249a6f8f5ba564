//! Rows of either database as what the domain knows.

use sqlx::{Row as _, postgres::PgRow, sqlite::SqliteRow};
use tutti_types::{RequestId, TurnId};

use crate::domain::keyed::{Batch, Call, State};

/// The columns of a call, but for `alive`, which each database finds out in its own way.
pub(super) const COLUMNS: &str = "id, request_id, body_hash, fencing, state, released, recorded, output, attempts, sent, \
                                  failure, created_at";

/// A row of either database: its columns by name.
pub(super) trait CallRow {
    fn text(&self, column: &str) -> sqlx::Result<String>;
    fn bytes(&self, column: &str) -> sqlx::Result<Option<Vec<u8>>>;
    fn number(&self, column: &str) -> sqlx::Result<i64>;
    fn flag(&self, column: &str) -> sqlx::Result<bool>;
    fn code(&self, column: &str) -> sqlx::Result<i16>;
}

macro_rules! call_row {
    ($row:ty) => {
        impl CallRow for $row {
            fn text(&self, column: &str) -> sqlx::Result<String> {
                self.try_get(column)
            }
            fn bytes(&self, column: &str) -> sqlx::Result<Option<Vec<u8>>> {
                self.try_get(column)
            }
            fn number(&self, column: &str) -> sqlx::Result<i64> {
                self.try_get(column)
            }
            fn flag(&self, column: &str) -> sqlx::Result<bool> {
                self.try_get(column)
            }
            fn code(&self, column: &str) -> sqlx::Result<i16> {
                self.try_get(column)
            }
        }
    };
}
call_row!(SqliteRow);
call_row!(PgRow);

/// A row of `calls`, with `alive`.
pub(super) fn call(row: &impl CallRow) -> sqlx::Result<Call> {
    let state = match row.code("state")? {
        0 => State::Running { alive: row.flag("alive")? },
        1 => State::Answered,
        _ => State::Failed(row.bytes("failure")?.unwrap_or_default()),
    };
    Ok(Call {
        id: id(row)?,
        request_id: request_id(row)?,
        body_hash: row.bytes("body_hash")?.unwrap_or_default(),
        fencing: row.number("fencing")?,
        state,
        recorded: unsigned(row.number("recorded")?),
        output: row.flag("output")?,
        attempts: u32::try_from(row.number("attempts")?).unwrap_or(u32::MAX),
        sent: row.bytes("sent")?.unwrap_or_default(),
        created_at: row.number("created_at")?,
    })
}

/// A row of `call_events`.
pub(super) fn batch(row: &impl CallRow) -> sqlx::Result<Batch> {
    Ok(Batch {
        seq: unsigned(row.number("seq")?),
        last: unsigned(row.number("last")?),
        events: row.bytes("events")?.unwrap_or_default().into(),
    })
}

pub(super) fn id(row: &impl CallRow) -> sqlx::Result<TurnId> {
    TurnId::parse(&row.text("id")?).map_err(|error| sqlx::Error::Decode(error.into()))
}

pub(super) fn request_id(row: &impl CallRow) -> sqlx::Result<RequestId> {
    RequestId::parse(&row.text("request_id")?).map_err(|error| sqlx::Error::Decode(error.into()))
}

pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
