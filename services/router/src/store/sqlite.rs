//! The calls in SQLite. One process at a time has the file, so that whoever ran a call before this one is dead.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Row as _, Sqlite as Db, migrate::Migrator, query::Query, sqlite::SqliteArguments};
use tutti_error::Result;
use tutti_store::{Sqlite, unavailable};
use tutti_types::{RequestId, Scope, TurnId, time};

use super::{
    CallStore, Claimed,
    row::{self, COLUMNS, signed},
};
use crate::domain::keyed::{Batch, Call, Ending, Held, NewCall, Owned, Progress};

static MIGRATOR: Migrator = sqlx::migrate!("migrations/sqlite");

/// Batches that are read at once.
const PAGE: i64 = 64;
/// Calls that are forgotten at once: everybody waits for the writer.
const PURGED: i64 = 500;

/// Calls in a file of the data folder.
#[derive(Debug, Clone)]
pub(crate) struct SqliteStore {
    database: Sqlite,
    /// This process.
    owner: String,
}

impl SqliteStore {
    /// Opens `router.db`, made when it is missing.
    ///
    /// # Errors
    /// STORE_UNAVAILABLE with the reason.
    pub(crate) async fn open(data_dir: &Path) -> Result<Self> {
        let database = Sqlite::open(data_dir, "router", &MIGRATOR).await?;
        Ok(Self { database, owner: RequestId::generate().to_string() })
    }

    /// Another process, as far as the calls are concerned.
    #[cfg(test)]
    pub(super) fn successor(&self) -> Self {
        Self { database: self.database.clone(), owner: RequestId::generate().to_string() }
    }

    /// A call that satisfies the condition; its first variable is this process.
    fn select(&self, condition: &str) -> Query<'static, Db, SqliteArguments> {
        let sql = format!("SELECT {COLUMNS}, owner = ?1 AS alive FROM calls WHERE {condition}");
        sqlx::query(AssertSqlSafe(sql)).bind(self.owner.clone())
    }

    async fn try_claim(&self, scope: &Scope, call: &NewCall, expired: i64) -> sqlx::Result<Option<Claimed>> {
        let find = || {
            let select = self.select("org = ?2 AND idempotency_key = ?3 AND released = 0");
            select.bind(scope.org.clone()).bind(call.key.clone()).fetch_optional(self.database.readers())
        };
        // Most keys that are known are known for long: those who only read don't wait for the writer.
        let known = find().await?.as_ref().map(row::call).transpose()?;
        if let Some(known) = known {
            if known.created_at >= expired {
                return Ok(Some(Claimed::Taken(known)));
            }
            let free = sqlx::query("UPDATE calls SET released = 1 WHERE org = ? AND id = ? AND created_at < ?");
            free.bind(&scope.org).bind(known.id.to_string()).bind(expired).execute(self.database.writer()).await?;
        }
        let made = sqlx::query(
            "INSERT INTO calls (org, id, idempotency_key, request_id, body_hash, owner, created_at, read_at)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (org, idempotency_key) WHERE released = 0 DO NOTHING",
        )
        .bind(&scope.org)
        .bind(call.id.to_string())
        .bind(&call.key)
        .bind(call.request_id.to_string())
        .bind(&call.body_hash)
        .bind(&self.owner)
        .bind(call.created_at)
        .bind(now())
        .execute(self.database.writer())
        .await?;
        // Else somebody was faster.
        let is_new = made.rows_affected() == 1;
        Ok(is_new.then(|| Claimed::New(Held { scope: scope.clone(), id: call.id, fencing: 1 })))
    }

    async fn try_write(&self, held: &Held, progress: &Progress, ending: Option<&Ending>) -> sqlx::Result<bool> {
        let (state, released, failure): (i16, bool, Option<&[u8]>) = match ending {
            None => (0, false, None),
            Some(Ending::Answered) => (1, false, None),
            Some(Ending::Failed(failure)) => (2, false, Some(failure)),
            Some(Ending::Released(failure)) => (2, true, Some(failure)),
        };
        let mut tx = self.database.writer().begin().await?;
        let written = sqlx::query(
            "UPDATE calls SET recorded = max(recorded, ?), output = max(output, ?), attempts = max(attempts, ?), sent = ?,
                              state = ?, released = ?, failure = ?
             WHERE org = ? AND id = ? AND fencing = ? AND state = 0",
        )
        .bind(progress.batch.as_ref().map_or(0, |batch| signed(batch.last)))
        .bind(progress.output)
        .bind(i64::from(progress.attempts))
        .bind(&progress.sent)
        .bind(state)
        .bind(released)
        .bind(failure)
        .bind(&held.scope.org)
        .bind(held.id.to_string())
        .bind(held.fencing)
        .execute(&mut *tx)
        .await?;
        if written.rows_affected() == 0 {
            return Ok(false);
        }
        if let Some(batch) = &progress.batch {
            sqlx::query("INSERT INTO call_events (org, call_id, seq, last, events) VALUES (?, ?, ?, ?, ?)")
                .bind(&held.scope.org)
                .bind(held.id.to_string())
                .bind(signed(batch.seq))
                .bind(signed(batch.last))
                .bind(batch.events.as_ref())
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    async fn try_batches(&self, query: Query<'_, Db, SqliteArguments>) -> sqlx::Result<Vec<Batch>> {
        query.fetch_all(self.database.readers()).await?.iter().map(row::batch).collect()
    }
}

fn now() -> i64 {
    time::unix_micros(SystemTime::now())
}

#[async_trait]
impl CallStore for SqliteStore {
    async fn claim(&self, scope: &Scope, call: &NewCall, expired: i64) -> Result<Claimed> {
        loop {
            let claimed = self.try_claim(scope, call, expired).await;
            if let Some(claimed) = claimed.map_err(unavailable("claim an idempotency key"))? {
                return Ok(claimed);
            }
        }
    }

    async fn find(&self, scope: &Scope, request: RequestId) -> Result<Option<Call>> {
        let failed = unavailable("find a call");
        let select = self.select("org = ?2 AND request_id = ?3 ORDER BY created_at DESC, id DESC LIMIT 1");
        let select = select.bind(scope.org.clone()).bind(request.to_string());
        let found = select.fetch_optional(self.database.readers()).await.map_err(&failed)?;
        found.as_ref().map(row::call).transpose().map_err(&failed)
    }

    async fn look(&self, scope: &Scope, id: TurnId, reading: bool) -> Result<Option<Call>> {
        let failed = unavailable("look at a call");
        if reading {
            let read = sqlx::query("UPDATE calls SET read_at = ? WHERE org = ? AND id = ? AND state = 0");
            let read = read.bind(now()).bind(&scope.org).bind(id.to_string());
            read.execute(self.database.writer()).await.map_err(&failed)?;
        }
        let select = self.select("org = ?2 AND id = ?3").bind(scope.org.clone()).bind(id.to_string());
        let found = select.fetch_optional(self.database.readers()).await.map_err(&failed)?;
        found.as_ref().map(row::call).transpose().map_err(&failed)
    }

    async fn events(&self, scope: &Scope, id: TurnId, after: u64) -> Result<Vec<Batch>> {
        let select = sqlx::query(
            "SELECT seq, last, events FROM call_events WHERE org = ? AND call_id = ? AND last > ? ORDER BY seq LIMIT ?",
        );
        let select = select.bind(&scope.org).bind(id.to_string()).bind(signed(after)).bind(PAGE);
        self.try_batches(select).await.map_err(unavailable("read the events of a call"))
    }

    async fn last(&self, scope: &Scope, id: TurnId) -> Result<Option<Batch>> {
        let select = sqlx::query(
            "SELECT seq, last, events FROM call_events WHERE org = ? AND call_id = ? ORDER BY seq DESC LIMIT 1",
        );
        let last = self.try_batches(select.bind(&scope.org).bind(id.to_string())).await;
        Ok(last.map_err(unavailable("read the answer of a call"))?.pop())
    }

    async fn write(&self, held: &Held, progress: &Progress, ending: Option<&Ending>) -> Result<bool> {
        self.try_write(held, progress, ending).await.map_err(unavailable("record a call"))
    }

    async fn take_over(&self, scope: &Scope, id: TurnId, fencing: i64) -> Result<Option<(Held, Call)>> {
        let failed = unavailable("take a call over");
        let sql = format!(
            "UPDATE calls SET owner = ?1, fencing = fencing + 1, attempts = attempts + 1
             WHERE org = ?2 AND id = ?3 AND fencing = ?4 AND state = 0 AND owner <> ?1 RETURNING {COLUMNS}, 1 AS alive"
        );
        let taken = sqlx::query(AssertSqlSafe(sql))
            .bind(&self.owner)
            .bind(&scope.org)
            .bind(id.to_string())
            .bind(fencing)
            .fetch_optional(self.database.writer())
            .await
            .map_err(&failed)?;
        let call = taken.as_ref().map(row::call).transpose().map_err(&failed)?;
        Ok(call.map(|call| (Held { scope: scope.clone(), id, fencing: call.fencing }, call)))
    }

    async fn cancel(&self, scope: &Scope, request: RequestId) -> Result<bool> {
        let cancel = sqlx::query("UPDATE calls SET cancelled = 1 WHERE org = ? AND request_id = ? AND state = 0");
        let cancel = cancel.bind(&scope.org).bind(request.to_string());
        let done = cancel.execute(self.database.writer()).await.map_err(unavailable("cancel a call"))?;
        Ok(done.rows_affected() > 0)
    }

    async fn owned(&self) -> Result<Vec<Owned>> {
        let failed = unavailable("look after running calls");
        let select =
            sqlx::query("SELECT org, id, fencing, cancelled, read_at FROM calls WHERE owner = ? AND state = 0");
        let rows = select.bind(&self.owner).fetch_all(self.database.readers()).await.map_err(&failed)?;
        let now = now();
        let owned = |row: &sqlx::sqlite::SqliteRow| {
            let unread = row::unsigned(now.saturating_sub(row.try_get("read_at")?));
            Ok(Owned {
                org: row.try_get("org")?,
                id: row::id(row)?,
                fencing: row.try_get("fencing")?,
                cancelled: row.try_get("cancelled")?,
                unread: Duration::from_micros(unread),
            })
        };
        rows.iter().map(owned).collect::<sqlx::Result<_>>().map_err(&failed)
    }

    async fn purge(&self, before: i64) -> Result<u64> {
        let purge = sqlx::query(
            "DELETE FROM calls WHERE (org, id) IN (SELECT org, id FROM calls WHERE created_at < ? LIMIT ?)",
        );
        let purged = purge.bind(before).bind(PURGED).execute(self.database.writer()).await;
        Ok(purged.map_err(unavailable("forget calls"))?.rows_affected())
    }

    async fn close(&self) {
        self.database.close().await;
    }
}
