//! Sessions in Postgres, which any number of replicas share.
//!
//! READ COMMITTED is enough: whoever changes a session first locks its row (the upsert of an append, the update of a
//! reset, the delete), so that changes of one session follow each other, and each statement after that sees all that
//! came before. It is always the first lock, so that nobody waits in a circle.

mod append;

use std::time::SystemTime;

use async_trait::async_trait;
use prost::Message as _;
use sqlx::{
    Postgres as Db, Row as _,
    migrate::Migrator,
    postgres::{PgArguments, PgRow},
    query::Query,
};
use tutti_config::PostgresConfig;
use tutti_error::{Error, Reason, Result};
use tutti_proto::{
    llm::v1::{Message, Role},
    memory::v1::{HistoryEntry, Session, TurnState, history_entry::Kind},
};
use tutti_server::Readiness;
use tutti_store::{Failure, Postgres, Schema, retry};
use tutti_types::{Scope, time};

use super::{Append, Appended, Store, ViewQuery, Visible};

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

/// The tables of the sessions.
pub fn schema() -> Schema {
    Schema::new("memory", &MIGRATIONS)
}

/// The shared store: the schema `memory` of a database.
#[derive(Debug)]
pub(crate) struct PostgresStore(Postgres);

impl PostgresStore {
    /// Opens the sessions, waiting for the database if it is away; `readiness` knows when it is.
    ///
    /// # Errors
    /// STORE_UNAVAILABLE; the message says why, and names `tutti migrate` when that is what is missing.
    pub(crate) async fn open(config: &PostgresConfig, readiness: &Readiness) -> Result<Self> {
        Postgres::connect_waiting(config, &schema(), readiness).await.map(Self)
    }

    /// A statement, prepared where it may be.
    fn query(&self, sql: &'static str) -> Query<'static, Db, PgArguments> {
        sqlx::query(sql).persistent(self.0.prepares())
    }

    async fn try_visible(&self, scope: &Scope, query: &ViewQuery) -> Result<Visible, Failure> {
        let mut tx = self.0.begin().await?;
        let mark: i64 = self
            .query(
                "SELECT coalesce(max(seq), 0) FROM memory.log
                 WHERE org = $1 AND session_id = $2 AND message IS NULL AND backend IN ('', $3)",
            )
            .bind(&scope.org)
            .bind(&query.session_id)
            .bind(&query.backend)
            .fetch_one(&mut *tx)
            .await?
            .try_get(0)?;
        // Newest messages, and beyond them only the system's.
        let rows = self
            .query(
                "WITH shown AS (
                     SELECT l.seq, l.role FROM memory.log l
                     JOIN memory.turns t ON t.org = l.org AND t.session_id = l.session_id AND t.turn_id = l.turn_id
                     WHERE l.org = $1 AND l.session_id = $2 AND l.seq > $3 AND l.message IS NOT NULL AND l.turn_id <> $4
                       AND (NOT $5 OR t.backend = $6)),
                 placed AS (SELECT seq, role, row_number() OVER (ORDER BY seq DESC) AS place, count(*) OVER () AS total
                            FROM shown)
                 SELECT l.tokens, l.message, p.total FROM placed p
                 JOIN memory.log l ON l.org = $1 AND l.session_id = $2 AND l.seq = p.seq
                 WHERE p.place <= $7 OR p.role = $8 ORDER BY p.seq",
            )
            .bind(&scope.org)
            .bind(&query.session_id)
            .bind(mark)
            .bind(&query.turn_id)
            .bind(query.own_turns_only)
            .bind(&query.backend)
            .bind(i64::try_from(query.newest).unwrap_or(i64::MAX))
            .bind(i32::from(Role::System))
            .fetch_all(&mut *tx)
            .await?;
        tx.commit().await?;
        let total: i64 = rows.first().map_or(Ok(0), |row| row.try_get("total"))?;
        let message = |row: &PgRow| Ok((decode(row.try_get("message")?)?, row.try_get("tokens")?));
        let messages = rows.iter().map(message).collect::<Result<Vec<_>, Failure>>()?;
        let older = total - i64::try_from(messages.len()).unwrap_or(i64::MAX);
        Ok(Visible { messages, older })
    }

    async fn try_history(
        &self,
        scope: &Scope,
        session_id: &str,
        after_seq: i64,
        limit: i64,
    ) -> Result<Vec<HistoryEntry>, Failure> {
        let mut tx = self.0.begin().await?;
        self.query("SELECT FROM memory.sessions WHERE org = $1 AND session_id = $2")
            .bind(&scope.org)
            .bind(session_id)
            .fetch_optional(&mut *tx)
            .await?
            .ok_or_else(|| unknown(session_id))?;
        let rows = self
            .query(
                "SELECT l.seq, l.turn_id, l.backend, l.model, l.tokens, l.message, l.created_at, t.state
                 FROM memory.log l LEFT JOIN memory.turns t
                     ON t.org = l.org AND t.session_id = l.session_id AND t.turn_id = l.turn_id
                 WHERE l.org = $1 AND l.session_id = $2 AND l.seq > $3 ORDER BY l.seq LIMIT $4",
            )
            .bind(&scope.org)
            .bind(session_id)
            .bind(after_seq)
            .bind(limit)
            .fetch_all(&mut *tx)
            .await?;
        tx.commit().await?;
        rows.iter().map(entry).collect()
    }

    async fn try_reset(&self, scope: &Scope, session_id: &str, backend: &str) -> Result<i64, Failure> {
        let mut tx = self.0.begin().await?;
        let now = time::unix_micros(SystemTime::now());
        let seq: i64 = self
            .query(
                "UPDATE memory.sessions SET last_seq = last_seq + 1, updated_at = $3
                 WHERE org = $1 AND session_id = $2 RETURNING last_seq",
            )
            .bind(&scope.org)
            .bind(session_id)
            .bind(now)
            .fetch_optional(&mut *tx)
            .await?
            .ok_or_else(|| unknown(session_id))?
            .try_get(0)?;
        self.query(
            "INSERT INTO memory.log (org, session_id, seq, turn_id, backend, model, role, tokens, message, created_at)
             VALUES ($1, $2, $3, '', $4, '', 0, 0, NULL, $5)",
        )
        .bind(&scope.org)
        .bind(session_id)
        .bind(seq)
        .bind(backend)
        .bind(now)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(seq)
    }

    async fn try_sessions(&self, scope: &Scope, (used, id): (i64, &str), limit: i64) -> Result<Vec<Session>, Failure> {
        let mut tx = self.0.begin().await?;
        let rows = self
            .query(
                "SELECT session_id, created_at, updated_at, messages, turns FROM memory.sessions
                 WHERE org = $1 AND (updated_at < $2 OR (updated_at = $2 AND session_id > $3))
                 ORDER BY updated_at DESC, session_id LIMIT $4",
            )
            .bind(&scope.org)
            .bind(used)
            .bind(id)
            .bind(limit)
            .fetch_all(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(rows.iter().map(session).collect::<sqlx::Result<_>>()?)
    }

    async fn try_delete(&self, scope: &Scope, session_id: &str) -> Result<i64, Failure> {
        let mut tx = self.0.begin().await?;
        let messages: i64 = self
            .query("DELETE FROM memory.sessions WHERE org = $1 AND session_id = $2 RETURNING messages")
            .bind(&scope.org)
            .bind(session_id)
            .fetch_optional(&mut *tx)
            .await?
            .ok_or_else(|| unknown(session_id))?
            .try_get(0)?;
        tx.commit().await?;
        Ok(messages)
    }

    async fn try_close_abandoned(&self, before: i64) -> Result<u64, Failure> {
        let mut tx = self.0.begin().await?;
        // State 1 is open. A turn that somebody is appending to is not abandoned.
        let closed = self
            .query(
                "UPDATE memory.turns SET state = $2 WHERE (org, session_id, turn_id) IN
                     (SELECT org, session_id, turn_id FROM memory.turns WHERE state = 1 AND used_at < $1
                      FOR UPDATE SKIP LOCKED)",
            )
            .bind(before)
            .bind(i32::from(TurnState::Incomplete))
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(closed.rows_affected())
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn append(&self, scope: &Scope, append: Append) -> Result<Appended> {
        retry("append to the session", || self.try_append(scope, &append)).await
    }

    async fn visible(&self, scope: &Scope, query: &ViewQuery) -> Result<Visible> {
        retry("read the session", || self.try_visible(scope, query)).await
    }

    async fn history(&self, scope: &Scope, session_id: &str, after_seq: i64, limit: i64) -> Result<Vec<HistoryEntry>> {
        retry("read the session", || self.try_history(scope, session_id, after_seq, limit)).await
    }

    async fn reset(&self, scope: &Scope, session_id: &str, backend: &str) -> Result<i64> {
        retry("reset the context", || self.try_reset(scope, session_id, backend)).await
    }

    async fn sessions(&self, scope: &Scope, before: Option<(i64, String)>, limit: i64) -> Result<Vec<Session>> {
        let (used, id) = before.unwrap_or((i64::MAX, String::new()));
        retry("list sessions", || self.try_sessions(scope, (used, &id), limit)).await
    }

    async fn delete(&self, scope: &Scope, session_id: &str) -> Result<i64> {
        retry("delete the session", || self.try_delete(scope, session_id)).await
    }

    async fn close_abandoned(&self, before: i64) -> Result<u64> {
        retry("close abandoned turns", || self.try_close_abandoned(before)).await
    }

    async fn close(&self) {
        self.0.close().await;
    }
}

fn unknown(session_id: &str) -> Error {
    Error::new(Reason::UnknownSession, format!("there is no session \"{session_id}\""))
}

fn decode(bytes: &[u8]) -> Result<Message> {
    Message::decode(bytes).map_err(|error| Error::internal(format!("a stored message can't be read: {error}")))
}

fn entry(row: &PgRow) -> Result<HistoryEntry, Failure> {
    let message: Option<&[u8]> = row.try_get("message")?;
    Ok(HistoryEntry {
        seq: row.try_get("seq")?,
        turn_id: row.try_get("turn_id")?,
        turn_state: row.try_get::<Option<i32>, _>("state")?.unwrap_or_default(),
        backend: row.try_get("backend")?,
        model: row.try_get("model")?,
        created_at: Some(time::from_unix_micros(row.try_get("created_at")?)),
        kind: Some(message.map(decode).transpose()?.map_or(Kind::Reset(true), Kind::Message)),
        tokens: row.try_get("tokens")?,
    })
}

fn session(row: &PgRow) -> sqlx::Result<Session> {
    Ok(Session {
        session_id: row.try_get("session_id")?,
        created_at: Some(time::from_unix_micros(row.try_get("created_at")?)),
        updated_at: Some(time::from_unix_micros(row.try_get("updated_at")?)),
        messages: row.try_get("messages")?,
        turns: row.try_get("turns")?,
    })
}
