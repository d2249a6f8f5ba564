//! The books in SQLite.

use std::path::Path;

use async_trait::async_trait;
use prost::Message as _;
use sqlx::{Row as _, Sqlite as Db, SqliteConnection, migrate::Migrator};
use tutti_error::{Error, Result};
use tutti_store::{Sqlite, unavailable};
use tutti_types::Scope;

use super::{
    AuditStore, Begun, Previous,
    row::{chained, finished, head, record, started},
    select,
};
use crate::domain::{
    CallResult, Canonical, ChainedRow, Claim, Ending, Filter, Head, Integrity, NewRecord, Record, follow,
};

static MIGRATOR: Migrator = sqlx::migrate!("migrations/sqlite");

/// Rows of a chain that are checked at once.
const CHECKED: i64 = 1000;
/// Keys that are forgotten at once: everybody waits for the writer.
const PURGED: i64 = 500;

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

    /// Runs a statement behind the back of the trait.
    #[cfg(test)]
    pub(super) async fn change(&self, sql: &str) -> sqlx::Result<()> {
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(self.0.writer()).await.map(|_| ())
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
                "INSERT INTO claims (org, idempotency_key, seq, body_hash, claimed_at) VALUES (?, ?, ?, ?, ?)
                 ON CONFLICT (org, idempotency_key) DO NOTHING",
            )
            .bind(&scope.org)
            .bind(&claim.key)
            .bind(seq)
            .bind(&claim.body_hash)
            .bind(record.started_at)
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
        if !is_open(&mut transaction, scope, seq).await.map_err(&failed)? {
            return Ok(());
        }
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
            // There is one process, and it keeps its keys.
            runs_elsewhere: false,
        }))
    }

    async fn query(&self, scope: &Scope, filter: &Filter) -> Result<Vec<Record>> {
        let failed = unavailable("read the audit");
        let rows = select::<Db>(("tool_calls", "tool_call_endings"), scope, filter)
            .build()
            .fetch_all(self.0.readers())
            .await
            .map_err(&failed)?;
        rows.iter().map(record).collect::<sqlx::Result<_>>().map_err(&failed)
    }

    async fn verify(&self, scope: &Scope) -> Result<Integrity> {
        let failed = unavailable("check the audit");
        let row = sqlx::query("SELECT link, hash FROM chain_heads WHERE org = ?").bind(&scope.org);
        let row = row.fetch_optional(self.0.readers()).await.map_err(&failed)?;
        let head = row.as_ref().map(head).transpose().map_err(&failed)?.unwrap_or_default();
        let mut checked = Head::default();
        while checked.link < head.link {
            let links = (checked.link, head.link.min(checked.link + CHECKED));
            let rows = self.chained(scope, links).await.map_err(&failed)?;
            checked = match follow(checked, &rows) {
                Err(broken) => return Ok(broken),
                Ok(checked) if checked.link < links.1 => return Ok(Integrity::Broken { link: checked.link + 1 }),
                Ok(checked) => checked,
            };
        }
        let fits = checked == head;
        Ok(if fits { Integrity::Intact { rows: head.link } } else { Integrity::Broken { link: head.link } })
    }

    async fn purge_claims(&self, before: i64) -> Result<u64> {
        let purge = sqlx::query(
            "DELETE FROM claims WHERE (org, idempotency_key) IN
                 (SELECT org, idempotency_key FROM claims WHERE claimed_at < ? LIMIT ?)",
        );
        let purged = purge.bind(before).bind(PURGED).execute(self.0.writer()).await;
        Ok(purged.map_err(unavailable("forget idempotency keys"))?.rows_affected())
    }

    async fn close(&self) {
        self.0.close().await;
    }
}

impl SqliteStore {
    /// The rows in these places of the org's chain: after the first, up to the second.
    async fn chained(&self, scope: &Scope, (after, last): (i64, i64)) -> sqlx::Result<Vec<ChainedRow>> {
        let calls = sqlx::query("SELECT * FROM tool_calls WHERE org = ? AND link > ? AND link <= ?");
        let calls = calls.bind(&scope.org).bind(after).bind(last).fetch_all(self.0.readers()).await?;
        let endings = sqlx::query("SELECT * FROM tool_call_endings WHERE org = ? AND link > ? AND link <= ?");
        let endings = endings.bind(&scope.org).bind(after).bind(last).fetch_all(self.0.readers()).await?;
        let calls = calls.iter().map(|row| chained(row, started(row)));
        let endings = endings.iter().map(|row| chained(row, finished(scope, row)));
        let mut rows = calls.chain(endings).collect::<sqlx::Result<Vec<_>>>()?;
        rows.sort_by_key(|row| row.link);
        Ok(rows)
    }
}

async fn insert(connection: &mut SqliteConnection, scope: &Scope, record: &NewRecord) -> sqlx::Result<i64> {
    // This is the only connection that writes, and no row is ever taken out.
    let seq: i64 =
        sqlx::query_scalar("SELECT coalesce(max(seq), 0) + 1 FROM tool_calls").fetch_one(&mut *connection).await?;
    let head = append(connection, scope, &Canonical::started(scope, seq, record)).await?;
    sqlx::query(
        "INSERT INTO tool_calls (seq, org, link, hash, principal, request_id, session_id, tool_call_id, tool, workspace,
                                 arguments_json, attribution, decision, decided_because, isolation, started_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(seq)
    .bind(&scope.org)
    .bind(head.link)
    .bind(head.hash)
    .bind(&scope.principal)
    .bind(&record.request_id)
    .bind(&record.attribution.session_id)
    .bind(&record.tool_call_id)
    .bind(&record.tool)
    .bind(&record.workspace)
    .bind(&record.arguments_json)
    .bind(record.attribution.encode_to_vec())
    .bind(record.verdict.decision.name())
    .bind(&record.verdict.because)
    .bind(&record.isolation)
    .bind(record.started_at)
    .execute(connection)
    .await?;
    Ok(seq)
}

/// Whether it is a call of that org that has no end yet.
async fn is_open(connection: &mut SqliteConnection, scope: &Scope, seq: i64) -> sqlx::Result<bool> {
    let open = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM tool_calls WHERE org = ? AND seq = ?)
            AND NOT EXISTS (SELECT 1 FROM tool_call_endings WHERE seq = ?)",
    );
    open.bind(&scope.org).bind(seq).bind(seq).fetch_one(connection).await
}

async fn complete(connection: &mut SqliteConnection, scope: &Scope, seq: i64, ending: &Ending) -> sqlx::Result<()> {
    let head = append(connection, scope, &Canonical::finished(scope, seq, ending)).await?;
    sqlx::query(
        "INSERT INTO tool_call_endings (seq, org, link, hash, success, reason, error, exit_code, output_bytes,
                                        duration_micros)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(seq)
    .bind(&scope.org)
    .bind(head.link)
    .bind(head.hash)
    .bind(ending.success)
    .bind(ending.reason.map_or("", |reason| reason.as_str_name()))
    .bind(&ending.error)
    .bind(ending.exit_code)
    .bind(i64::try_from(ending.output_bytes).unwrap_or(i64::MAX))
    .bind(i64::try_from(ending.duration.as_micros()).unwrap_or(i64::MAX))
    .execute(connection)
    .await?;
    Ok(())
}

/// Moves the head of the org's chain to this row. The new head is what the row is stored with.
async fn append(connection: &mut SqliteConnection, scope: &Scope, row: &Canonical) -> sqlx::Result<Head> {
    let last = sqlx::query("SELECT link, hash FROM chain_heads WHERE org = ?").bind(&scope.org);
    let last = last.fetch_optional(&mut *connection).await?.as_ref().map(head).transpose()?.unwrap_or_default();
    let next = last.with(row);
    sqlx::query(
        "INSERT INTO chain_heads (org, link, hash) VALUES (?, ?, ?)
         ON CONFLICT (org) DO UPDATE SET link = excluded.link, hash = excluded.hash",
    )
    .bind(&scope.org)
    .bind(next.link)
    .bind(&next.hash)
    .execute(connection)
    .await?;
    Ok(next)
}
