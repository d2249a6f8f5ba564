//! The books in SQLite.

mod write;

use std::path::Path;

use async_trait::async_trait;
use sqlx::{Sqlite, migrate::Migrator};
use tutti_error::Result;
use tutti_store::unavailable;
use tutti_types::{AttemptId, Scope};

use super::{
    Commit, Store, Transaction,
    query::{self, Dialect},
    records::Records,
    row::RecordRow,
};
use crate::domain::{Cursor, Dimension, Filter, Group, Micros, Page, Record};

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

const DIALECT: Dialect = Dialect {
    records: "records",
    hour: "strftime('%Y-%m-%dT%H:00:00Z', created_at / 1000000, 'unixepoch')",
    day: "strftime('%Y-%m-%d', created_at / 1000000, 'unixepoch')",
};

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
        Ok(Box::new(SqliteTransaction { transaction, records: Records::default() }))
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
        let mut query = query::usage::<Sqlite>(&DIALECT, scope, filter, by, limit);
        let failed = unavailable("sum usage");
        let rows = query.build().fetch_all(self.database.readers()).await.map_err(&failed)?;
        rows.iter().map(|row| query::group(row, by.len())).collect::<sqlx::Result<_>>().map_err(failed)
    }

    async fn list(&self, scope: &Scope, filter: &Filter, size: u32, after: Option<Cursor>) -> Result<Page> {
        let mut query = query::list::<Sqlite>(&DIALECT, scope, filter, size, after);
        let rows: Vec<RecordRow> =
            query.build_query_as().fetch_all(self.database.readers()).await.map_err(unavailable("list usage"))?;
        query::page(rows, size)
    }

    async fn close(&self) {
        self.database.close().await;
    }
}

struct SqliteTransaction {
    transaction: sqlx::Transaction<'static, Sqlite>,
    records: Records,
}

impl SqliteTransaction {
    /// Writes what was changed so far, so that queries see it.
    async fn flush(&mut self) -> Result<()> {
        write::save(&mut self.transaction, &self.records.take_changed()).await
    }
}

#[async_trait]
impl Transaction for SqliteTransaction {
    async fn expect(&mut self, attempts: &[(&Scope, AttemptId)]) -> Result<()> {
        let unknown: Vec<_> = attempts.iter().map(|(scope, attempt)| (scope.org.as_str(), *attempt)).collect();
        let found = write::load(&mut self.transaction, &unknown).await?;
        self.records.read(&unknown, found);
        Ok(())
    }

    async fn insert(&mut self, scope: &Scope, record: &Record) -> Result<bool> {
        let is_new = self.find(scope, record.attempt_id()).await?.is_none();
        if is_new {
            self.records.change(&scope.org, record);
        }
        Ok(is_new)
    }

    async fn find(&mut self, scope: &Scope, attempt: AttemptId) -> Result<Option<Record>> {
        if self.records.get(&scope.org, attempt).is_none() {
            self.expect(&[(scope, attempt)]).await?;
        }
        Ok(self.records.get(&scope.org, attempt).flatten().cloned())
    }

    async fn update(&mut self, scope: &Scope, record: &Record) -> Result<()> {
        self.records.change(&scope.org, record);
        Ok(())
    }

    async fn due_holds(&mut self, scope: &Scope, now: Micros, limit: u32) -> Result<Vec<Record>> {
        self.flush().await?;
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

    async fn commit(mut self: Box<Self>) -> Result<Commit> {
        self.flush().await?;
        self.transaction.commit().await.map_err(unavailable("commit"))?;
        Ok(Commit::Durable)
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
