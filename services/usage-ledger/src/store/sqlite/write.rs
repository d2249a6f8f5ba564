//! Reading and writing many records with few statements: each statement of sqlx is a trip to the database's thread and
//! back, which takes longer than the statement.

use std::{fmt::Write as _, sync::LazyLock};

use sqlx::{AssertSqlSafe, FromRow, Sqlite, SqliteConnection, query::Query, sqlite::SqliteArguments, types::Json};
use tutti_error::Result;
use tutti_store::unavailable;
use tutti_types::AttemptId;

use super::super::row::{PricesRow, RecordRow, TokensRow, micros};
use crate::domain::Record;

/// Rows of one statement. Few sizes, so that the statements stay prepared.
const SIZES: [usize; 4] = [64, 16, 4, 1];

const COLUMNS: &[&str] = &[
    "org",
    "attempt_id",
    "request_id",
    "principal",
    "backend",
    "provider",
    "model",
    "credential",
    "team",
    "project",
    "job",
    "node",
    "run_id",
    "agent",
    "session_id",
    "task_id",
    "phase",
    "tags",
    "state",
    "worst_case",
    "prices",
    "held_nano_usd",
    "created_at",
    "expires_at",
    "fresh_input",
    "cache_read",
    "cache_write_5m",
    "cache_write_1h",
    "visible_output",
    "reasoning",
    "cost_nano_usd",
    "over_hold",
    "tokens_estimated",
    "outcome",
    "reason",
    "finish_reason",
    "latency_us",
    "first_token_us",
    "provider_request_id",
    "settled_at",
];
/// Those that a settlement, a release or the expiry changes.
const CHANGING: &[&str] = &[
    "state",
    "prices",
    "fresh_input",
    "cache_read",
    "cache_write_5m",
    "cache_write_1h",
    "visible_output",
    "reasoning",
    "cost_nano_usd",
    "over_hold",
    "tokens_estimated",
    "outcome",
    "reason",
    "finish_reason",
    "latency_us",
    "first_token_us",
    "provider_request_id",
    "settled_at",
];

static SAVE: LazyLock<[String; SIZES.len()]> = LazyLock::new(|| SIZES.map(save_of));

fn save_of(rows: usize) -> String {
    let row = format!("({})", vec!["?"; COLUMNS.len()].join(", "));
    let mut sql = format!("INSERT INTO records ({}) VALUES {}", COLUMNS.join(", "), vec![row; rows].join(", "));
    let changes: Vec<_> = CHANGING.iter().map(|column| format!("{column} = excluded.{column}")).collect();
    // Writing into a String can't fail.
    let _ = write!(sql, " ON CONFLICT (org, attempt_id) DO UPDATE SET {}", changes.join(", "));
    sql
}

/// Adds these records, or writes what has changed in those that are there.
pub(super) async fn save(connection: &mut SqliteConnection, records: &[(String, Record)]) -> Result<()> {
    let mut rest = records;
    for (size, sql) in SIZES.into_iter().zip(SAVE.iter()) {
        while let Some((now, later)) = rest.split_at_checked(size) {
            let query = now
                .iter()
                .fold(sqlx::query(AssertSqlSafe(sql.as_str())), |query, (org, record)| bind(query, org, record));
            query.execute(&mut *connection).await.map_err(unavailable("write attempts"))?;
            rest = later;
        }
    }
    Ok(())
}

type Statement<'q> = Query<'q, Sqlite, SqliteArguments>;

/// The values of one row, in the order of [`COLUMNS`].
fn bind<'q>(query: Statement<'q>, org: &'q str, record: &'q Record) -> Statement<'q> {
    let (asked, tokens) = (&record.reservation, TokensRow::from(record.tokens));
    let of = &asked.attribution;
    query
        .bind(org)
        .bind(asked.attempt_id.to_string())
        .bind(&asked.request_id)
        .bind(&record.principal)
        .bind(&asked.backend)
        .bind(&asked.provider)
        .bind(&asked.model)
        .bind(&asked.credential)
        .bind(&of.team)
        .bind(&of.project)
        .bind(&of.job)
        .bind(&of.node)
        .bind(&of.run_id)
        .bind(&of.agent)
        .bind(&of.session_id)
        .bind(&of.task_id)
        .bind(&of.phase)
        .bind(Json(&of.tags))
        .bind(record.state.number())
        .bind(Json(TokensRow::from(asked.worst_case)))
        .bind(Json(PricesRow::from(&asked.prices)))
        .bind(record.held.0)
        .bind(record.created_at)
        .bind(asked.expires_at)
        .bind(tokens.fresh_input)
        .bind(tokens.cache_read)
        .bind(tokens.cache_write_5m)
        .bind(tokens.cache_write_1h)
        .bind(tokens.visible_output)
        .bind(tokens.reasoning)
        .bind(record.cost.0)
        .bind(record.over_hold)
        .bind(record.tokens_estimated)
        .bind(record.outcome as i32)
        .bind(record.reason as i32)
        .bind(record.finish_reason as i32)
        .bind(record.latency.map(micros))
        .bind(record.time_to_first_token.map(micros))
        .bind(&record.provider_request_id)
        .bind(record.settled_at)
}

const LOAD: &str =
    "SELECT * FROM records WHERE (org, attempt_id) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?))";

#[derive(Debug, FromRow)]
struct OrgRow {
    org: String,
    #[sqlx(flatten)]
    record: RecordRow,
}

/// The records there are of these attempts, with their orgs.
pub(super) async fn load(
    connection: &mut SqliteConnection,
    attempts: &[(&str, AttemptId)],
) -> Result<Vec<(String, Record)>> {
    let keys: Vec<_> = attempts.iter().map(|(org, attempt)| (org, attempt.to_string())).collect();
    let rows: Vec<OrgRow> =
        sqlx::query_as(LOAD).bind(Json(keys)).fetch_all(connection).await.map_err(unavailable("find attempts"))?;
    rows.into_iter().map(|row| Ok((row.org, Record::try_from(row.record)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn attempts_are_found_by_the_primary_key() {
        let dir = tempfile::tempdir().unwrap();
        let database = tutti_store::Sqlite::open(dir.path(), "ledger", &super::super::MIGRATIONS).await.unwrap();
        let plan: Vec<(i64, i64, i64, String)> = sqlx::query_as(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {LOAD}")))
            .bind("[]")
            .fetch_all(database.readers())
            .await
            .unwrap();
        assert!(plan.iter().any(|step| step.3.contains("SEARCH records USING INDEX sqlite_autoindex")), "{plan:?}");
    }
}
