//! Sessions in SQLite.

use std::{path::Path, time::SystemTime};

use async_trait::async_trait;
use prost::Message as _;
use sqlx::{Row as _, Sqlite as Db, Transaction, migrate::Migrator, sqlite::SqliteRow};
use tutti_error::{Error, Reason, Result};
use tutti_proto::{
    llm::v1::{Message, Role},
    memory::v1::{HistoryEntry, Session, TurnState, history_entry::Kind},
};
use tutti_store::{Sqlite, unavailable};
use tutti_types::{Scope, time};

use super::{Append, Appended, Store, ViewQuery, Visible};

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// The embedded store.
pub(crate) struct SqliteStore(Sqlite);

impl SqliteStore {
    /// Opens `memory.db` in the data folder.
    pub(crate) async fn open(data_dir: &Path) -> Result<Self> {
        Sqlite::open(data_dir, "memory", &MIGRATIONS).await.map(Self)
    }

    async fn begin(&self, doing: &'static str) -> Result<Transaction<'static, Db>> {
        self.0.writer().begin().await.map_err(unavailable(doing))
    }
}

const APPEND: &str = "append to the session";

#[async_trait]
impl Store for SqliteStore {
    async fn append(&self, scope: &Scope, append: Append) -> Result<Appended> {
        let mut tx = self.begin(APPEND).await?;
        if let Some(existing) = existing(&mut tx, scope, &append).await? {
            return Ok(existing);
        }
        let before = open_session(&mut tx, scope, &append).await?;
        open_turn(&mut tx, scope, &append).await?;
        let now = time::unix_micros(SystemTime::now());
        for (offset, (message, tokens)) in append.messages.iter().enumerate() {
            let seq = before + 1 + i64::try_from(offset).unwrap_or(i64::MAX);
            sqlx::query(
                "INSERT INTO log (org, session_id, seq, turn_id, backend, model, role, tokens, message, created_at)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            )
            .bind(&scope.org)
            .bind(&append.session_id)
            .bind(seq)
            .bind(&append.turn_id)
            .bind(&append.backend)
            .bind(&append.model)
            .bind(message.role)
            .bind(tokens)
            .bind(message.encode_to_vec())
            .bind(now)
            .execute(&mut *tx)
            .await
            .map_err(unavailable(APPEND))?;
        }
        let count = i64::try_from(append.messages.len()).unwrap_or(i64::MAX);
        let first_seq = if count == 0 { 0 } else { before + 1 };
        let last_seq = if count == 0 { 0 } else { before + count };
        record_append(&mut tx, scope, &append, first_seq, last_seq).await?;
        sqlx::query(
            "UPDATE sessions SET last_seq = last_seq + ?, messages = messages + ?, updated_at = ?
             WHERE org = ? AND session_id = ?",
        )
        .bind(count)
        .bind(count)
        .bind(now)
        .bind(&scope.org)
        .bind(&append.session_id)
        .execute(&mut *tx)
        .await
        .map_err(unavailable(APPEND))?;
        tx.commit().await.map_err(unavailable(APPEND))?;
        Ok(Appended { first_seq, last_seq, existing: false })
    }

    async fn visible(&self, scope: &Scope, query: &ViewQuery) -> Result<Visible> {
        let doing = "read the session";
        let mark: i64 = sqlx::query_scalar(
            "SELECT coalesce(max(seq), 0) FROM log
             WHERE org = ? AND session_id = ? AND message IS NULL AND backend IN ('', ?)",
        )
        .bind(&scope.org)
        .bind(&query.session_id)
        .bind(&query.backend)
        .fetch_one(self.0.readers())
        .await
        .map_err(unavailable(doing))?;
        // Newest messages, and beyond them only the system's.
        let rows = sqlx::query(
            "WITH shown AS (
                 SELECT l.seq, l.role FROM log l
                 JOIN turns t ON t.org = l.org AND t.session_id = l.session_id AND t.turn_id = l.turn_id
                 WHERE l.org = ?1 AND l.session_id = ?2 AND l.seq > ?3 AND l.message IS NOT NULL AND l.turn_id <> ?4
                   AND (?5 = 0 OR t.backend = ?6)),
             placed AS (SELECT seq, role, row_number() OVER (ORDER BY seq DESC) AS place, count(*) OVER () AS total FROM shown)
             SELECT l.tokens, l.message, p.total FROM placed p
             JOIN log l ON l.org = ?1 AND l.session_id = ?2 AND l.seq = p.seq
             WHERE p.place <= ?7 OR p.role = ?8 ORDER BY p.seq",
        )
        .bind(&scope.org)
        .bind(&query.session_id)
        .bind(mark)
        .bind(&query.turn_id)
        .bind(i64::from(query.own_turns_only))
        .bind(&query.backend)
        .bind(i64::try_from(query.newest).unwrap_or(i64::MAX))
        .bind(i32::from(Role::System))
        .fetch_all(self.0.readers())
        .await
        .map_err(unavailable(doing))?;
        let total: i64 = rows.first().map_or(0, |row| row.get("total"));
        let messages = rows.iter().map(|row| Ok((decode(row)?, row.get("tokens")))).collect::<Result<Vec<_>>>()?;
        let older = total - i64::try_from(messages.len()).unwrap_or(i64::MAX);
        Ok(Visible { messages, older })
    }

    async fn history(&self, scope: &Scope, session_id: &str, after_seq: i64, limit: i64) -> Result<Vec<HistoryEntry>> {
        known(self.0.readers(), scope, session_id).await?;
        let rows = sqlx::query(
            "SELECT l.seq, l.turn_id, l.backend, l.model, l.tokens, l.message, l.created_at, t.state
             FROM log l LEFT JOIN turns t ON t.org = l.org AND t.session_id = l.session_id AND t.turn_id = l.turn_id
             WHERE l.org = ? AND l.session_id = ? AND l.seq > ? ORDER BY l.seq LIMIT ?",
        )
        .bind(&scope.org)
        .bind(session_id)
        .bind(after_seq)
        .bind(limit)
        .fetch_all(self.0.readers())
        .await
        .map_err(unavailable("read the session"))?;
        rows.iter().map(entry).collect()
    }

    async fn reset(&self, scope: &Scope, session_id: &str, backend: &str) -> Result<i64> {
        let doing = "reset the context";
        let mut tx = self.begin(doing).await?;
        known(&mut *tx, scope, session_id).await?;
        let now = time::unix_micros(SystemTime::now());
        let seq: i64 = sqlx::query_scalar(
            "UPDATE sessions SET last_seq = last_seq + 1, updated_at = ? WHERE org = ? AND session_id = ? RETURNING last_seq",
        )
        .bind(now)
        .bind(&scope.org)
        .bind(session_id)
        .fetch_one(&mut *tx)
        .await
        .map_err(unavailable(doing))?;
        sqlx::query(
            "INSERT INTO log (org, session_id, seq, turn_id, backend, model, role, tokens, message, created_at)
             VALUES (?, ?, ?, '', ?, '', 0, 0, NULL, ?)",
        )
        .bind(&scope.org)
        .bind(session_id)
        .bind(seq)
        .bind(backend)
        .bind(now)
        .execute(&mut *tx)
        .await
        .map_err(unavailable(doing))?;
        tx.commit().await.map_err(unavailable(doing))?;
        Ok(seq)
    }

    async fn sessions(&self, scope: &Scope, before: Option<(i64, String)>, limit: i64) -> Result<Vec<Session>> {
        let (used, id) = before.unwrap_or((i64::MAX, String::new()));
        let rows = sqlx::query(
            "SELECT session_id, created_at, updated_at, messages, turns FROM sessions
             WHERE org = ? AND (updated_at < ? OR (updated_at = ? AND session_id > ?))
             ORDER BY updated_at DESC, session_id LIMIT ?",
        )
        .bind(&scope.org)
        .bind(used)
        .bind(used)
        .bind(id)
        .bind(limit)
        .fetch_all(self.0.readers())
        .await
        .map_err(unavailable("list sessions"))?;
        Ok(rows.iter().map(session).collect())
    }

    async fn delete(&self, scope: &Scope, session_id: &str) -> Result<i64> {
        let doing = "delete the session";
        let messages: Option<i64> =
            sqlx::query_scalar("DELETE FROM sessions WHERE org = ? AND session_id = ? RETURNING messages")
                .bind(&scope.org)
                .bind(session_id)
                .fetch_optional(self.0.writer())
                .await
                .map_err(unavailable(doing))?;
        messages.ok_or_else(|| unknown(session_id))
    }

    async fn close_abandoned(&self, before: i64) -> Result<u64> {
        let closed = sqlx::query(
            "UPDATE turns SET state = ? WHERE state = ? AND coalesce(
                 (SELECT l.created_at FROM appends a
                  JOIN log l ON l.org = a.org AND l.session_id = a.session_id AND l.seq = a.last_seq
                  WHERE a.org = turns.org AND a.session_id = turns.session_id AND a.turn_id = turns.turn_id
                  ORDER BY a.idx DESC LIMIT 1),
                 (SELECT s.updated_at FROM sessions s WHERE s.org = turns.org AND s.session_id = turns.session_id)) < ?",
        )
        .bind(i32::from(TurnState::Incomplete))
        .bind(i32::from(TurnState::Open))
        .bind(before)
        .execute(self.0.writer())
        .await
        .map_err(unavailable("close abandoned turns"))?;
        Ok(closed.rows_affected())
    }

    async fn close(&self) {
        self.0.close().await;
    }
}

fn unknown(session_id: &str) -> Error {
    Error::new(Reason::UnknownSession, format!("there is no session \"{session_id}\""))
}

async fn known<'e>(db: impl sqlx::Executor<'e, Database = Db>, scope: &Scope, session_id: &str) -> Result<()> {
    sqlx::query("SELECT 1 FROM sessions WHERE org = ? AND session_id = ?")
        .bind(&scope.org)
        .bind(session_id)
        .fetch_optional(db)
        .await
        .map_err(unavailable("read the session"))?
        .map(drop)
        .ok_or_else(|| unknown(session_id))
}

async fn existing(tx: &mut Transaction<'_, Db>, scope: &Scope, append: &Append) -> Result<Option<Appended>> {
    let row = sqlx::query(
        "SELECT first_seq, last_seq FROM appends WHERE org = ? AND session_id = ? AND turn_id = ? AND idx = ?",
    )
    .bind(&scope.org)
    .bind(&append.session_id)
    .bind(&append.turn_id)
    .bind(append.index)
    .fetch_optional(&mut **tx)
    .await
    .map_err(unavailable(APPEND))?;
    Ok(row.map(|r| Appended { first_seq: r.get("first_seq"), last_seq: r.get("last_seq"), existing: true }))
}

/// Makes the session when it is new, and gives the last number in its log.
async fn open_session(tx: &mut Transaction<'_, Db>, scope: &Scope, append: &Append) -> Result<i64> {
    let now = time::unix_micros(SystemTime::now());
    sqlx::query_scalar(
        "INSERT INTO sessions (org, session_id, created_at, updated_at, last_seq, messages, turns)
         VALUES (?, ?, ?, ?, 0, 0, 0)
         ON CONFLICT (org, session_id) DO UPDATE SET updated_at = excluded.updated_at RETURNING last_seq",
    )
    .bind(&scope.org)
    .bind(&append.session_id)
    .bind(now)
    .bind(now)
    .fetch_one(&mut **tx)
    .await
    .map_err(unavailable(APPEND))
}

/// Makes the turn when it is new, moves it to its state, and refuses one that is closed.
async fn open_turn(tx: &mut Transaction<'_, Db>, scope: &Scope, append: &Append) -> Result<()> {
    let state: Option<i32> =
        sqlx::query_scalar("SELECT state FROM turns WHERE org = ? AND session_id = ? AND turn_id = ?")
            .bind(&scope.org)
            .bind(&append.session_id)
            .bind(&append.turn_id)
            .fetch_optional(&mut **tx)
            .await
            .map_err(unavailable(APPEND))?;
    match state {
        Some(state) if state != i32::from(TurnState::Open) => {
            return Err(Error::invalid("turn_id", "the turn is closed; nothing can be appended to it"));
        }
        Some(_) => {}
        None => {
            sqlx::query("UPDATE sessions SET turns = turns + 1 WHERE org = ? AND session_id = ?")
                .bind(&scope.org)
                .bind(&append.session_id)
                .execute(&mut **tx)
                .await
                .map_err(unavailable(APPEND))?;
        }
    }
    sqlx::query(
        "INSERT INTO turns (org, session_id, turn_id, state, backend) VALUES (?, ?, ?, ?, ?)
         ON CONFLICT (org, session_id, turn_id) DO UPDATE SET state = excluded.state,
             backend = CASE WHEN excluded.backend = '' THEN backend ELSE excluded.backend END",
    )
    .bind(&scope.org)
    .bind(&append.session_id)
    .bind(&append.turn_id)
    .bind(i32::from(append.state))
    .bind(&append.backend)
    .execute(&mut **tx)
    .await
    .map_err(unavailable(APPEND))?;
    Ok(())
}

async fn record_append(
    tx: &mut Transaction<'_, Db>,
    scope: &Scope,
    append: &Append,
    first: i64,
    last: i64,
) -> Result<()> {
    sqlx::query("INSERT INTO appends (org, session_id, turn_id, idx, first_seq, last_seq) VALUES (?, ?, ?, ?, ?, ?)")
        .bind(&scope.org)
        .bind(&append.session_id)
        .bind(&append.turn_id)
        .bind(append.index)
        .bind(first)
        .bind(last)
        .execute(&mut **tx)
        .await
        .map_err(unavailable(APPEND))?;
    Ok(())
}

fn decode(row: &SqliteRow) -> Result<Message> {
    let bytes: &[u8] = row.get("message");
    Message::decode(bytes).map_err(|error| Error::internal(format!("a stored message can't be read: {error}")))
}

fn entry(row: &SqliteRow) -> Result<HistoryEntry> {
    let is_message = row.get::<Option<&[u8]>, _>("message").is_some();
    Ok(HistoryEntry {
        seq: row.get("seq"),
        turn_id: row.get("turn_id"),
        turn_state: row.get::<Option<i32>, _>("state").unwrap_or_default(),
        backend: row.get("backend"),
        model: row.get("model"),
        created_at: Some(time::from_unix_micros(row.get("created_at"))),
        kind: Some(if is_message { Kind::Message(decode(row)?) } else { Kind::Reset(true) }),
        tokens: row.get("tokens"),
    })
}

fn session(row: &SqliteRow) -> Session {
    Session {
        session_id: row.get("session_id"),
        created_at: Some(time::from_unix_micros(row.get("created_at"))),
        updated_at: Some(time::from_unix_micros(row.get("updated_at"))),
        messages: row.get("messages"),
        turns: row.get("turns"),
    }
}
