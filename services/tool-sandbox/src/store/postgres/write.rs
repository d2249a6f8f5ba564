//! Adding to the books.

use prost::Message as _;
use sqlx::{PgConnection, Row as _};
use tutti_store::Failure;
use tutti_types::Scope;

use super::PostgresStore;
use crate::{
    domain::{Canonical, Claim, Ending, Head, NewRecord, Verdict},
    store::row,
};

/// Keys that are forgotten at once.
const PURGED: i64 = 500;

/// As Postgres can keep it: its texts have no NUL. Done before the row is hashed.
pub(super) fn storable_call(record: &NewRecord) -> NewRecord {
    NewRecord {
        tool_call_id: storable(&record.tool_call_id),
        arguments_json: storable(&record.arguments_json),
        verdict: Verdict::new(record.verdict.decision, storable(&record.verdict.because)),
        ..record.clone()
    }
}

/// [`storable_call`] for its end.
pub(super) fn storable_ending(ending: &Ending) -> Ending {
    Ending { error: storable(&ending.error), ..ending.clone() }
}

fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

impl PostgresStore {
    /// Records a call; its number. `None`, and nothing recorded, when its key stands for another call.
    pub(super) async fn try_begin(
        &self,
        scope: &Scope,
        record: &NewRecord,
        claim: Option<&Claim>,
        ending: Option<&Ending>,
    ) -> Result<Option<i64>, Failure> {
        let mut tx = self.database.begin().await?;
        let (last, seq) = self.lock_head(&mut tx, scope).await?;
        let mut head = last.with(&Canonical::started(scope, seq, record));
        let claimed = self.insert(&mut tx, scope, seq, record, &head, claim).await?;
        if claim.is_some() && !claimed {
            tx.rollback().await?;
            return Ok(None);
        }
        if let Some(ending) = ending {
            head = head.with(&Canonical::finished(scope, seq, ending));
            self.insert_ending(&mut tx, scope, seq, ending, &head, None).await?;
        }
        tx.commit().await?;
        Ok(Some(seq))
    }

    /// Completes a record of the org that is not complete.
    pub(super) async fn try_finish(
        &self,
        scope: &Scope,
        seq: i64,
        ending: &Ending,
        result: Option<&str>,
    ) -> Result<(), Failure> {
        let mut tx = self.database.begin().await?;
        let (last, _) = self.lock_head(&mut tx, scope).await?;
        let open: bool = self
            .query(
                "SELECT EXISTS (SELECT FROM sandbox.tool_calls WHERE org = $1 AND seq = $2)
                    AND NOT EXISTS (SELECT FROM sandbox.tool_call_endings WHERE seq = $2)",
            )
            .bind(&scope.org)
            .bind(seq)
            .fetch_one(&mut *tx)
            .await?
            .try_get(0)?;
        if !open {
            return Ok(());
        }
        let head = last.with(&Canonical::finished(scope, seq, ending));
        self.insert_ending(&mut tx, scope, seq, ending, &head, result).await?;
        Ok(tx.commit().await?)
    }

    pub(super) async fn try_purge(&self, before: i64) -> Result<u64, Failure> {
        let mut tx = self.database.begin().await?;
        // Replicas that purge at the same time take other rows each, and wait for nobody.
        let purged = self
            .query(
                "DELETE FROM sandbox.claims WHERE (org, idempotency_key) IN
                     (SELECT org, idempotency_key FROM sandbox.claims WHERE claimed_at < $1
                      LIMIT $2 FOR UPDATE SKIP LOCKED)",
            )
            .bind(before)
            .bind(PURGED)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(purged.rows_affected())
    }

    /// The end of the org's chain, which nobody else can move until the transaction ends, and a number for a new call:
    /// drawn with the head locked, so that an org's numbers grow along its chain.
    async fn lock_head(&self, connection: &mut PgConnection, scope: &Scope) -> sqlx::Result<(Head, i64)> {
        let found = self
            .query(
                "INSERT INTO sandbox.chain_heads AS h (org, link, hash) VALUES ($1, 0, '')
                 ON CONFLICT (org) DO UPDATE SET link = h.link
                 RETURNING h.link, h.hash, nextval('sandbox.tool_calls_seq') AS seq",
            )
            .bind(&scope.org)
            .fetch_one(connection)
            .await?;
        Ok((row::head(&found)?, found.try_get("seq")?))
    }

    /// Adds a call at the head, and its claim, in one statement: all of an org's calls wait for each other here. Whether
    /// the key was free.
    async fn insert(
        &self,
        connection: &mut PgConnection,
        scope: &Scope,
        seq: i64,
        record: &NewRecord,
        head: &Head,
        claim: Option<&Claim>,
    ) -> sqlx::Result<bool> {
        self.query(
            "WITH moved AS (UPDATE sandbox.chain_heads SET link = $3, hash = $4 WHERE org = $2),
                 called AS (INSERT INTO sandbox.tool_calls (seq, org, link, hash, principal, request_id, session_id,
                     tool_call_id, tool, workspace, arguments_json, attribution, decision, decided_because, isolation,
                     started_at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)),
                 claimed AS (INSERT INTO sandbox.claims (org, idempotency_key, seq, body_hash, claimed_at, owner)
                 SELECT $2, $17::text, $1, $18::bytea, $16, $19::text WHERE $17::text IS NOT NULL
                 ON CONFLICT (org, idempotency_key) DO NOTHING RETURNING seq)
             SELECT EXISTS (SELECT FROM claimed)",
        )
        .bind(seq)
        .bind(&scope.org)
        .bind(head.link)
        .bind(&head.hash)
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
        .bind(claim.map(|claim| claim.key.as_str()))
        .bind(claim.map(|claim| claim.body_hash.as_slice()))
        .bind(&self.replica)
        .fetch_one(connection)
        .await?
        .try_get(0)
    }

    /// Adds a call's end at the head, and its result to its claim, in one statement.
    async fn insert_ending(
        &self,
        connection: &mut PgConnection,
        scope: &Scope,
        seq: i64,
        ending: &Ending,
        head: &Head,
        result: Option<&str>,
    ) -> sqlx::Result<()> {
        self.query(
            "WITH moved AS (UPDATE sandbox.chain_heads SET link = $3, hash = $4 WHERE org = $2),
                 answered AS (UPDATE sandbox.claims SET result = $11
                 WHERE org = $2 AND seq = $1 AND result IS NULL AND $11::text IS NOT NULL)
             INSERT INTO sandbox.tool_call_endings (seq, org, link, hash, success, reason, error, exit_code,
                 output_bytes, duration_micros)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind(seq)
        .bind(&scope.org)
        .bind(head.link)
        .bind(&head.hash)
        .bind(ending.success)
        .bind(ending.reason.map_or("", |reason| reason.as_str_name()))
        .bind(&ending.error)
        .bind(ending.exit_code)
        .bind(i64::try_from(ending.output_bytes).unwrap_or(i64::MAX))
        .bind(i64::try_from(ending.duration.as_micros()).unwrap_or(i64::MAX))
        .bind(result)
        .execute(connection)
        .await?;
        Ok(())
    }
}
