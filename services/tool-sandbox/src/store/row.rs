//! Rows of either database as what the domain knows.

use std::time::Duration;

use prost::Message as _;
use sqlx::{Row as _, postgres::PgRow, sqlite::SqliteRow};
use tutti_error::Reason;
use tutti_proto::llm::v1::Attribution;
use tutti_types::Scope;

use crate::domain::{Canonical, ChainedRow, Decision, Ending, Head, NewRecord, Record, Verdict};

/// A row of either database: its columns by name.
pub(super) trait BookRow {
    fn text(&self, column: &str) -> sqlx::Result<String>;
    fn bytes(&self, column: &str) -> sqlx::Result<Vec<u8>>;
    fn number(&self, column: &str) -> sqlx::Result<i64>;
    fn has(&self, column: &str) -> sqlx::Result<bool>;
    fn flag(&self, column: &str) -> sqlx::Result<bool>;
    fn code(&self, column: &str) -> sqlx::Result<Option<i32>>;
}

macro_rules! book_row {
    ($row:ty) => {
        impl BookRow for $row {
            fn text(&self, column: &str) -> sqlx::Result<String> {
                self.try_get(column)
            }
            fn bytes(&self, column: &str) -> sqlx::Result<Vec<u8>> {
                self.try_get(column)
            }
            fn number(&self, column: &str) -> sqlx::Result<i64> {
                self.try_get(column)
            }
            fn has(&self, column: &str) -> sqlx::Result<bool> {
                Ok(self.try_get::<Option<i64>, _>(column)?.is_some())
            }
            fn flag(&self, column: &str) -> sqlx::Result<bool> {
                self.try_get(column)
            }
            fn code(&self, column: &str) -> sqlx::Result<Option<i32>> {
                self.try_get(column)
            }
        }
    };
}
book_row!(SqliteRow);
book_row!(PgRow);

/// A row of `chain_heads`, and the place of any row in its chain.
pub(super) fn head(row: &impl BookRow) -> sqlx::Result<Head> {
    Ok(Head { link: row.number("link")?, hash: row.bytes("hash")? })
}

/// A row of either table of the chain.
pub(super) fn chained(row: &impl BookRow, canonical: sqlx::Result<Canonical>) -> sqlx::Result<ChainedRow> {
    let Head { link, hash } = head(row)?;
    // A row that can't be read was not written here.
    Ok(ChainedRow { link, hash, canonical: canonical.ok() })
}

/// What is hashed of a row of `tool_calls`.
pub(super) fn started(row: &impl BookRow) -> sqlx::Result<Canonical> {
    let call = call(row)?;
    // It has a column of its own for the filter, beside the attribution that is hashed.
    if row.text("session_id")? != call.attribution.session_id {
        return Err(sqlx::Error::Decode("the row names two sessions".into()));
    }
    let scope = Scope { org: row.text("org")?, principal: row.text("principal")? };
    Ok(Canonical::started(&scope, row.number("seq")?, &call))
}

/// What is hashed of a row of `tool_call_endings`.
pub(super) fn finished(scope: &Scope, row: &impl BookRow) -> sqlx::Result<Canonical> {
    Ok(Canonical::finished(scope, row.number("seq")?, &ending(row)?))
}

/// A call with its end, joined as `ended`.
pub(super) fn record(row: &impl BookRow) -> sqlx::Result<Record> {
    Ok(Record {
        seq: row.number("seq")?,
        org: row.text("org")?,
        principal: row.text("principal")?,
        call: call(row)?,
        ending: row.has("ended")?.then(|| ending(row)).transpose()?,
    })
}

fn call(row: &impl BookRow) -> sqlx::Result<NewRecord> {
    let decision = row.text("decision")?;
    let unknown = || sqlx::Error::Decode(format!("the decision {decision:?} is not known").into());
    let attribution = row.bytes("attribution")?;
    Ok(NewRecord {
        request_id: row.text("request_id")?,
        tool_call_id: row.text("tool_call_id")?,
        tool: row.text("tool")?,
        workspace: row.text("workspace")?,
        arguments_json: row.text("arguments_json")?,
        attribution: Attribution::decode(attribution.as_slice()).map_err(|e| sqlx::Error::Decode(e.into()))?,
        verdict: Verdict::new(Decision::of(&decision).ok_or_else(unknown)?, row.text("decided_because")?),
        isolation: row.text("isolation")?,
        started_at: row.number("started_at")?,
    })
}

fn ending(row: &impl BookRow) -> sqlx::Result<Ending> {
    Ok(Ending {
        success: row.flag("success")?,
        reason: Reason::from_str_name(&row.text("reason")?),
        error: row.text("error")?,
        exit_code: row.code("exit_code")?,
        output_bytes: u64::try_from(row.number("output_bytes")?).unwrap_or(0),
        duration: Duration::from_micros(u64::try_from(row.number("duration_micros")?).unwrap_or(0)),
    })
}
