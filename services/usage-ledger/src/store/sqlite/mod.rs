//! The books in SQLite.

mod query;
mod row;

use std::path::Path;

use async_trait::async_trait;
use sqlx::{Sqlite, migrate::Migrator, types::Json};
use tutti_error::Result;
use tutti_store::unavailable;
use tutti_types::{AttemptId, Scope};

use self::row::{PricesRow, RecordRow, TokensRow, micros};
use super::{Store, Transaction};
use crate::domain::{Cursor, Dimension, Filter, Group, Micros, Page, Record};

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// The books in `ledger.db` of a folder.
#[derive(Debug)]
pub struct SqliteStore {
    database: tutti_store::Sqlite,
}

impl SqliteStore {
    /// Opens the books, making what is missing.
    ///
    /// # Errors
    /// STORE_UNAVAILABLE; the message says why.
    pub async fn open(dir: &Path) -> Result<Self> {
        Ok(Self { database: tutti_store::Sqlite::open(dir, "ledger", &MIGRATIONS).await? })
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn begin(&self) -> Result<Box<dyn Transaction>> {
        let transaction = self.database.writer().begin().await.map_err(unavailable("begin a transaction"))?;
        Ok(Box::new(SqliteTransaction { transaction }))
    }

    async fn orgs_with_due_holds(&self, now: Micros) -> Result<Vec<String>> {
        // State 1 is reserved. The index of the holds is small, however many records there are.
        sqlx::query_scalar(
            "SELECT DISTINCT org FROM records INDEXED BY records_held WHERE state = 1 AND expires_at <= ?",
        )
        .bind(now)
        .fetch_all(self.database.readers())
        .await
        .map_err(unavailable("look for expired holds"))
    }

    async fn usage(&self, scope: &Scope, filter: &Filter, by: &[Dimension], limit: u32) -> Result<Vec<Group>> {
        query::usage(self.database.readers(), scope, filter, by, limit).await
    }

    async fn list(&self, scope: &Scope, filter: &Filter, size: u32, after: Option<Cursor>) -> Result<Page> {
        query::list(self.database.readers(), scope, filter, size, after).await
    }

    async fn close(&self) {
        self.database.close().await;
    }
}

struct SqliteTransaction {
    transaction: sqlx::Transaction<'static, Sqlite>,
}

#[async_trait]
impl Transaction for SqliteTransaction {
    async fn insert(&mut self, scope: &Scope, record: &Record) -> Result<bool> {
        let asked = &record.reservation;
        let of = &asked.attribution;
        let done = sqlx::query(
            "INSERT INTO records (org, attempt_id, request_id, principal, backend, provider, model, credential, team, \
             project, job, node, run_id, agent, session_id, task_id, phase, tags, state, worst_case, prices, \
             held_nano_usd, created_at, expires_at, fresh_input, cache_read, cache_write_5m, cache_write_1h, \
             visible_output, reasoning, cost_nano_usd, over_hold, tokens_estimated, outcome, reason, finish_reason, \
             provider_request_id) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, \
             0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, '') \
             ON CONFLICT (org, attempt_id) DO NOTHING",
        )
        .bind(&scope.org)
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
        .execute(&mut *self.transaction)
        .await
        .map_err(unavailable("reserve an attempt"))?;
        Ok(done.rows_affected() == 1)
    }

    async fn find(&mut self, scope: &Scope, attempt: AttemptId) -> Result<Option<Record>> {
        let row: Option<RecordRow> = sqlx::query_as("SELECT * FROM records WHERE org = ? AND attempt_id = ?")
            .bind(&scope.org)
            .bind(attempt.to_string())
            .fetch_optional(&mut *self.transaction)
            .await
            .map_err(unavailable("find an attempt"))?;
        row.map(Record::try_from).transpose()
    }

    async fn update(&mut self, scope: &Scope, record: &Record) -> Result<()> {
        let tokens = TokensRow::from(record.tokens);
        sqlx::query(
            "UPDATE records SET state = ?, fresh_input = ?, cache_read = ?, cache_write_5m = ?, cache_write_1h = ?, \
             visible_output = ?, reasoning = ?, cost_nano_usd = ?, over_hold = ?, tokens_estimated = ?, prices = ?, \
             outcome = ?, reason = ?, finish_reason = ?, latency_us = ?, first_token_us = ?, \
             provider_request_id = ?, settled_at = ? \
             WHERE org = ? AND attempt_id = ?",
        )
        .bind(record.state.number())
        .bind(tokens.fresh_input)
        .bind(tokens.cache_read)
        .bind(tokens.cache_write_5m)
        .bind(tokens.cache_write_1h)
        .bind(tokens.visible_output)
        .bind(tokens.reasoning)
        .bind(record.cost.0)
        .bind(record.over_hold)
        .bind(record.tokens_estimated)
        .bind(Json(PricesRow::from(&record.reservation.prices)))
        .bind(record.outcome as i32)
        .bind(record.reason as i32)
        .bind(record.finish_reason as i32)
        .bind(record.latency.map(micros))
        .bind(record.time_to_first_token.map(micros))
        .bind(&record.provider_request_id)
        .bind(record.settled_at)
        .bind(&scope.org)
        .bind(record.attempt_id().to_string())
        .execute(&mut *self.transaction)
        .await
        .map_err(unavailable("settle an attempt"))?;
        Ok(())
    }

    async fn due_holds(&mut self, scope: &Scope, now: Micros, limit: u32) -> Result<Vec<Record>> {
        let rows: Vec<RecordRow> = sqlx::query_as(
            "SELECT * FROM records INDEXED BY records_held WHERE org = ? AND state = 1 AND expires_at <= ? \
             ORDER BY expires_at LIMIT ?",
        )
        .bind(&scope.org)
        .bind(now)
        .bind(limit)
        .fetch_all(&mut *self.transaction)
        .await
        .map_err(unavailable("look for expired holds"))?;
        rows.into_iter().map(Record::try_from).collect()
    }

    async fn commit(self: Box<Self>) -> Result<()> {
        self.transaction.commit().await.map_err(unavailable("commit"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The store and the folder that it lives in.
    async fn open() -> (SqliteStore, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        (SqliteStore::open(dir.path()).await.unwrap(), dir)
    }

    crate::store::contract::suite!(open);

    #[tokio::test]
    async fn lists_and_windows_are_read_from_indexes() {
        let (store, _dir) = open().await;
        for (condition, index) in [
            ("created_at >= 1 AND created_at < 2", "records_by_time"),
            ("request_id = 'r'", "records_by_request"),
            ("session_id <> '' AND session_id = 's'", "records_by_session"),
        ] {
            let sql = format!("EXPLAIN QUERY PLAN SELECT * FROM records WHERE org = 'o' AND {condition}");
            let plan: Vec<(i64, i64, i64, String)> =
                sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_all(store.database.readers()).await.unwrap();
            assert!(plan.iter().any(|step| step.3.contains(index)), "{condition}: {plan:?}");
        }
    }
}
