//! Appending to a turn.

use std::time::SystemTime;

use prost::Message as _;
use sqlx::{Postgres as Db, Row as _, Transaction, postgres::PgRow};
use tutti_error::{Error, Result};
use tutti_proto::memory::v1::TurnState;
use tutti_store::Failure;
use tutti_types::{Scope, time};

use super::PostgresStore;
use crate::store::{Append, Appended};

impl PostgresStore {
    pub(super) async fn try_append(&self, scope: &Scope, append: &Append) -> Result<Appended, Failure> {
        let mut tx = self.0.begin().await?;
        let now = time::unix_micros(SystemTime::now());
        let before = self.open_session(&mut tx, scope, append, now).await?;
        // Looked for with the session locked: another replica may have made the same append just now.
        if let Some(existing) = self.existing(&mut tx, scope, append).await? {
            return Ok(existing);
        }
        let is_new = self.open_turn(&mut tx, scope, append, now).await?;
        self.log(&mut tx, scope, append, (before, now)).await?;
        let count = i64::try_from(append.messages.len()).unwrap_or(i64::MAX);
        let (first_seq, last_seq) = if count == 0 { (0, 0) } else { (before + 1, before + count) };
        self.query(
            "INSERT INTO memory.appends (org, session_id, turn_id, idx, first_seq, last_seq)
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(&scope.org)
        .bind(&append.session_id)
        .bind(&append.turn_id)
        .bind(i64::from(append.index))
        .bind(first_seq)
        .bind(last_seq)
        .execute(&mut *tx)
        .await?;
        self.query(
            "UPDATE memory.sessions
             SET last_seq = last_seq + $3, messages = messages + $3, turns = turns + $4, updated_at = $5
             WHERE org = $1 AND session_id = $2",
        )
        .bind(&scope.org)
        .bind(&append.session_id)
        .bind(count)
        .bind(i64::from(is_new))
        .bind(now)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(Appended { first_seq, last_seq, existing: false })
    }

    /// Makes the session when it is new, locks it, and gives the last number in its log.
    async fn open_session(
        &self,
        tx: &mut Transaction<'_, Db>,
        scope: &Scope,
        append: &Append,
        now: i64,
    ) -> sqlx::Result<i64> {
        self.query(
            "INSERT INTO memory.sessions AS s (org, session_id, created_at, updated_at, last_seq, messages, turns)
             VALUES ($1, $2, $3, $3, 0, 0, 0)
             ON CONFLICT (org, session_id) DO UPDATE SET updated_at = excluded.updated_at RETURNING s.last_seq",
        )
        .bind(&scope.org)
        .bind(&append.session_id)
        .bind(now)
        .fetch_one(&mut **tx)
        .await?
        .try_get(0)
    }

    async fn existing(
        &self,
        tx: &mut Transaction<'_, Db>,
        scope: &Scope,
        append: &Append,
    ) -> sqlx::Result<Option<Appended>> {
        let row = self
            .query(
                "SELECT first_seq, last_seq FROM memory.appends
                 WHERE org = $1 AND session_id = $2 AND turn_id = $3 AND idx = $4",
            )
            .bind(&scope.org)
            .bind(&append.session_id)
            .bind(&append.turn_id)
            .bind(i64::from(append.index))
            .fetch_optional(&mut **tx)
            .await?;
        let appended = |row: PgRow| {
            Ok(Appended { first_seq: row.try_get("first_seq")?, last_seq: row.try_get("last_seq")?, existing: true })
        };
        row.map(appended).transpose()
    }

    /// Makes the turn when it is new, moves it to its state, and refuses one that is closed. Whether it is new.
    async fn open_turn(
        &self,
        tx: &mut Transaction<'_, Db>,
        scope: &Scope,
        append: &Append,
        now: i64,
    ) -> Result<bool, Failure> {
        let row = self
            .query("SELECT state FROM memory.turns WHERE org = $1 AND session_id = $2 AND turn_id = $3 FOR UPDATE")
            .bind(&scope.org)
            .bind(&append.session_id)
            .bind(&append.turn_id)
            .fetch_optional(&mut **tx)
            .await?;
        let state: Option<i32> = row.map(|row| row.try_get("state")).transpose()?;
        if state.is_some_and(|state| state != i32::from(TurnState::Open)) {
            return Err(Error::invalid("turn_id", "the turn is closed; nothing can be appended to it").into());
        }
        self.query(
            "INSERT INTO memory.turns AS t (org, session_id, turn_id, state, backend, used_at)
             VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (org, session_id, turn_id) DO UPDATE SET state = excluded.state, used_at = excluded.used_at,
                 backend = CASE WHEN excluded.backend = '' THEN t.backend ELSE excluded.backend END",
        )
        .bind(&scope.org)
        .bind(&append.session_id)
        .bind(&append.turn_id)
        .bind(i32::from(append.state))
        .bind(&append.backend)
        .bind(now)
        .execute(&mut **tx)
        .await?;
        Ok(state.is_none())
    }

    /// Writes the messages after number `before`, all at once.
    async fn log(
        &self,
        tx: &mut Transaction<'_, Db>,
        scope: &Scope,
        append: &Append,
        (before, now): (i64, i64),
    ) -> sqlx::Result<()> {
        let messages = append.messages.iter();
        let roles: Vec<i32> = messages.clone().map(|(message, _)| message.role).collect();
        let tokens: Vec<i64> = messages.clone().map(|(_, tokens)| *tokens).collect();
        let bytes: Vec<Vec<u8>> = messages.map(|(message, _)| message.encode_to_vec()).collect();
        self.query(
            "INSERT INTO memory.log (org, session_id, seq, turn_id, backend, model, role, tokens, message, created_at)
             SELECT $1, $2, $3 + n, $4, $5, $6, role, tokens, message, $7
             FROM UNNEST($8::int[], $9::bigint[], $10::bytea[]) WITH ORDINALITY AS m (role, tokens, message, n)",
        )
        .bind(&scope.org)
        .bind(&append.session_id)
        .bind(before)
        .bind(&append.turn_id)
        .bind(&append.backend)
        .bind(&append.model)
        .bind(now)
        .bind(roles)
        .bind(tokens)
        .bind(bytes)
        .execute(&mut **tx)
        .await?;
        Ok(())
    }
}
