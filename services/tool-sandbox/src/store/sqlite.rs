//! The books in SQLite.

use std::{path::Path, time::Duration};

use async_trait::async_trait;
use prost::Message as _;
use sqlx::{QueryBuilder, Row as _, Sqlite as Db, SqliteConnection, migrate::Migrator, sqlite::SqliteRow};
use tutti_error::{Error, Reason, Result};
use tutti_proto::llm::v1::Attribution;
use tutti_store::{Sqlite, unavailable};
use tutti_types::Scope;

use super::{AuditStore, Begun, Previous};
use crate::domain::{CallResult, Claim, Decision, Ending, Filter, NewRecord, Record, Verdict};

static MIGRATOR: Migrator = sqlx::migrate!("migrations/sqlite");

/// Books in a file of the data folder.
#[derive(Debug, Clone)]
pub(crate) struct SqliteStore(Sqlite);

impl SqliteStore {
    /// Opens `sandbox.db`, made when it is missing.
    ///
    /// # Errors
    /// STORE_UNAVAILABLE with the reason.
    pub(crate) async fn open(data_dir: &Path) -> Result<Self> {
        Ok(Self(Sqlite::open(data_dir, "sandbox", &MIGRATOR).await?))
    }
}

#[async_trait]
impl AuditStore for SqliteStore {
    async fn begin(
        &self,
        scope: &Scope,
        record: &NewRecord,
        claim: Option<&Claim>,
        ending: Option<&Ending>,
    ) -> Result<Begun> {
        let failed = unavailable("record a tool call");
        let mut transaction = self.0.writer().begin().await.map_err(&failed)?;
        let seq = insert(&mut transaction, scope, record).await.map_err(&failed)?;
        if let Some(ending) = ending {
            complete(&mut transaction, scope, seq, ending).await.map_err(&failed)?;
        }
        if let Some(claim) = claim {
            let taken = sqlx::query(
                "INSERT INTO claims (org, idempotency_key, seq, body_hash) VALUES (?, ?, ?, ?)
                 ON CONFLICT (org, idempotency_key) DO NOTHING",
            )
            .bind(&scope.org)
            .bind(&claim.key)
            .bind(seq)
            .bind(&claim.body_hash)
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?
            .rows_affected()
                == 0;
            if taken {
                transaction.rollback().await.map_err(&failed)?;
                let gone = || Error::internal("a claimed idempotency key has vanished");
                return Ok(Begun::Taken(self.previous(scope, &claim.key).await?.ok_or_else(gone)?));
            }
        }
        transaction.commit().await.map_err(&failed)?;
        Ok(Begun::New(seq))
    }

    async fn finish(&self, scope: &Scope, seq: i64, ending: &Ending, result: Option<&CallResult>) -> Result<()> {
        let failed = unavailable("complete the record of a tool call");
        let mut transaction = self.0.writer().begin().await.map_err(&failed)?;
        complete(&mut transaction, scope, seq, ending).await.map_err(&failed)?;
        if let Some(result) = result {
            let json = serde_json::to_string(result).map_err(Error::internal)?;
            sqlx::query("UPDATE claims SET result = ? WHERE org = ? AND seq = ? AND result IS NULL")
                .bind(json)
                .bind(&scope.org)
                .bind(seq)
                .execute(&mut *transaction)
                .await
                .map_err(&failed)?;
        }
        transaction.commit().await.map_err(&failed)
    }

    async fn previous(&self, scope: &Scope, key: &str) -> Result<Option<Previous>> {
        let failed = unavailable("look up an idempotency key");
        let row = sqlx::query("SELECT seq, body_hash, result FROM claims WHERE org = ? AND idempotency_key = ?")
            .bind(&scope.org)
            .bind(key)
            .fetch_optional(self.0.readers())
            .await
            .map_err(&failed)?;
        let Some(row) = row else { return Ok(None) };
        let result: Option<String> = row.try_get("result").map_err(&failed)?;
        let result = result.map(|json| serde_json::from_str(&json)).transpose().map_err(Error::internal)?;
        Ok(Some(Previous {
            seq: row.try_get("seq").map_err(&failed)?,
            body_hash: row.try_get("body_hash").map_err(&failed)?,
            result,
        }))
    }

    async fn query(&self, scope: &Scope, filter: &Filter) -> Result<Vec<Record>> {
        let failed = unavailable("read the audit");
        let rows = select(scope, filter).build().fetch_all(self.0.readers()).await.map_err(&failed)?;
        rows.iter().map(record).collect::<sqlx::Result<_>>().map_err(&failed)
    }

    async fn close(&self) {
        self.0.close().await;
    }
}

async fn insert(connection: &mut SqliteConnection, scope: &Scope, record: &NewRecord) -> sqlx::Result<i64> {
    let inserted = sqlx::query(
        "INSERT INTO tool_calls (org, principal, request_id, session_id, tool_call_id, tool, workspace, arguments_json,
                                 attribution, decision, decided_because, isolation, started_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(&scope.org)
    .bind(&scope.principal)
    .bind(&record.request_id)
    .bind(&record.attribution.session_id)
    .bind(&record.tool_call_id)
    .bind(&record.tool)
    .bind(&record.workspace)
    .bind(&record.arguments_json)
    .bind(record.attribution.encode_to_vec())
    .bind(decision_name(record.verdict.decision))
    .bind(&record.verdict.because)
    .bind(&record.isolation)
    .bind(record.started_at)
    .execute(connection)
    .await?;
    Ok(inserted.last_insert_rowid())
}

async fn complete(connection: &mut SqliteConnection, scope: &Scope, seq: i64, ending: &Ending) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE tool_calls SET finished = 1, success = ?, reason = ?, error = ?, exit_code = ?, output_bytes = ?,
                               duration_micros = ?
         WHERE org = ? AND seq = ? AND finished = 0",
    )
    .bind(ending.success)
    .bind(ending.reason.map_or("", |reason| reason.as_str_name()))
    .bind(&ending.error)
    .bind(ending.exit_code)
    .bind(i64::try_from(ending.output_bytes).unwrap_or(i64::MAX))
    .bind(i64::try_from(ending.duration.as_micros()).unwrap_or(i64::MAX))
    .bind(&scope.org)
    .bind(seq)
    .execute(connection)
    .await?;
    Ok(())
}

/// Only the conditions that are asked for, so that each has its index.
fn select(scope: &Scope, filter: &Filter) -> QueryBuilder<Db> {
    let mut query = QueryBuilder::new("SELECT * FROM tool_calls WHERE org = ");
    query.push_bind(scope.org.clone());
    let texts = [
        (" AND request_id = ", &filter.request_id),
        (" AND session_id = ", &filter.session_id),
        (" AND tool = ", &filter.tool),
        (" AND workspace = ", &filter.workspace),
    ];
    for (condition, value) in texts.into_iter().filter(|(_, value)| !value.is_empty()) {
        query.push(condition).push_bind(value.clone());
    }
    let numbers =
        [(" AND started_at >= ", filter.from), (" AND started_at < ", filter.to), (" AND seq < ", filter.below)];
    for (condition, value) in numbers.into_iter().filter_map(|(condition, value)| Some((condition, value?))) {
        query.push(condition).push_bind(value);
    }
    query.push(" ORDER BY seq DESC LIMIT ").push_bind(filter.limit);
    query
}

fn record(row: &SqliteRow) -> sqlx::Result<Record> {
    let attribution: Vec<u8> = row.try_get("attribution")?;
    let decision: String = row.try_get("decision")?;
    Ok(Record {
        seq: row.try_get("seq")?,
        org: row.try_get("org")?,
        principal: row.try_get("principal")?,
        call: NewRecord {
            request_id: row.try_get("request_id")?,
            tool_call_id: row.try_get("tool_call_id")?,
            tool: row.try_get("tool")?,
            workspace: row.try_get("workspace")?,
            arguments_json: row.try_get("arguments_json")?,
            attribution: Attribution::decode(attribution.as_slice()).map_err(|e| sqlx::Error::Decode(e.into()))?,
            verdict: Verdict::new(decision_of(&decision)?, row.try_get::<String, _>("decided_because")?),
            isolation: row.try_get("isolation")?,
            started_at: row.try_get("started_at")?,
        },
        ending: row.try_get::<bool, _>("finished")?.then(|| ending(row)).transpose()?,
    })
}

fn ending(row: &SqliteRow) -> sqlx::Result<Ending> {
    let reason: String = row.try_get("reason")?;
    let micros: i64 = row.try_get("duration_micros")?;
    let bytes: i64 = row.try_get("output_bytes")?;
    Ok(Ending {
        success: row.try_get("success")?,
        reason: Reason::from_str_name(&reason),
        error: row.try_get("error")?,
        exit_code: row.try_get("exit_code")?,
        output_bytes: u64::try_from(bytes).unwrap_or(0),
        duration: Duration::from_micros(u64::try_from(micros).unwrap_or(0)),
    })
}

const DECISIONS: [(Decision, &str); 3] =
    [(Decision::Allowed, "allowed"), (Decision::Denied, "denied"), (Decision::NeedsApproval, "needs_approval")];

fn decision_name(decision: Decision) -> &'static str {
    DECISIONS.iter().find(|(known, _)| *known == decision).map_or("", |(_, name)| name)
}

fn decision_of(name: &str) -> sqlx::Result<Decision> {
    let unknown = || sqlx::Error::Decode(format!("the decision {name:?} is not known").into());
    DECISIONS.iter().find(|(_, known)| *known == name).map(|(decision, _)| *decision).ok_or_else(unknown)
}
