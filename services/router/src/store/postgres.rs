//! The calls in Postgres, which any number of replicas share.
//!
//! READ COMMITTED is enough: a key is claimed by its unique row, and whoever writes to a call changes its row first, where
//! the fencing number tells late owners from the present one.
//!
//! A replica has a lease that it renews while it lives; a running call whose owner's lease ran out may be taken over.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use sqlx::{
    AssertSqlSafe, PgConnection, Postgres as Db, Row as _,
    migrate::Migrator,
    postgres::{PgArguments, PgRow},
    query::Query,
};
use tokio::task::{AbortHandle, JoinSet};
use tutti_config::PostgresConfig;
use tutti_error::Result;
use tutti_server::Readiness;
use tutti_store::{Failure, Leases as _, Postgres, PostgresLeases, Schema, retry};
use tutti_types::{RequestId, Scope, TurnId};

use super::{
    CallStore, Claimed,
    row::{self, COLUMNS, signed},
};
use crate::domain::keyed::{Batch, Call, Ending, Held, NewCall, Owned, Progress};

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

/// Batches that are read at once.
const PAGE: i64 = 64;
/// Calls that are forgotten at once.
const PURGED: i64 = 500;
/// A lease is renewed so often in its time.
const PULSES: u32 = 5;
/// Whether the owner of a call lives.
const ALIVE: &str = "EXISTS (SELECT FROM router.leases l
                             WHERE l.org = '' AND l.name = c.owner AND l.expires_at > clock_timestamp())";

/// The tables of the router.
pub fn schema() -> Schema {
    Schema::new("router", &MIGRATIONS)
}

/// Calls in the schema `router` of a database.
#[derive(Debug, Clone)]
pub(crate) struct PostgresStore {
    database: Postgres,
    /// The name of this replica's lease.
    replica: String,
    pulse: Arc<Pulse>,
}

/// Renews the lease until it is ended or dropped.
#[derive(Debug)]
struct Pulse {
    end: AbortHandle,
    _task: JoinSet<()>,
}

impl Pulse {
    fn of(leases: PostgresLeases, replica: String, lease: Duration) -> Self {
        let mut task = JoinSet::new();
        let end = task.spawn(async move {
            loop {
                tokio::time::sleep(lease / PULSES).await;
                // Anew, if it ran out while the database was away. A failure is in the log; the next pulse may succeed.
                let _ = leases.acquire("", &replica, &replica, lease).await;
            }
        });
        Self { end, _task: task }
    }
}

impl PostgresStore {
    /// Opens the tables, waiting for the database if it is away; `readiness` knows when it is. An owner that is silent for
    /// `lease` is taken for dead.
    ///
    /// # Errors
    /// STORE_UNAVAILABLE; the message says why, and names `tutti migrate` when that is what is missing.
    pub(crate) async fn open(config: &PostgresConfig, lease: Duration, readiness: &Readiness) -> Result<Self> {
        let schema = schema();
        let database = Postgres::connect_waiting(config, &schema, readiness).await?;
        let leases = PostgresLeases::new(database.clone(), &schema);
        let replica = RequestId::generate().to_string();
        leases.acquire("", &replica, &replica, lease).await?;
        let pulse = Arc::new(Pulse::of(leases, replica.clone(), lease));
        Ok(Self { database, replica, pulse })
    }

    /// A statement, prepared where it may be.
    fn query(&self, sql: &'static str) -> Query<'static, Db, PgArguments> {
        sqlx::query(sql).persistent(self.database.prepares())
    }

    /// A call that satisfies the condition.
    fn select(&self, condition: &str) -> Query<'static, Db, PgArguments> {
        let sql = format!("SELECT {COLUMNS}, {ALIVE} AS alive FROM router.calls c WHERE {condition}");
        sqlx::query(AssertSqlSafe(sql)).persistent(self.database.prepares())
    }

    async fn try_claim(&self, scope: &Scope, call: &NewCall, expired: i64) -> Result<Option<Claimed>, Failure> {
        let mut tx = self.database.begin().await?;
        let made = self
            .query(
                "INSERT INTO router.calls (org, id, idempotency_key, request_id, body_hash, owner, created_at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7)
                 ON CONFLICT (org, idempotency_key) WHERE NOT released DO NOTHING",
            )
            .bind(&scope.org)
            .bind(call.id.to_string())
            .bind(&call.key)
            .bind(call.request_id.to_string())
            .bind(&call.body_hash)
            .bind(&self.replica)
            .bind(call.created_at)
            .execute(&mut *tx)
            .await?;
        if made.rows_affected() == 1 {
            tx.commit().await?;
            return Ok(Some(Claimed::New(Held { scope: scope.clone(), id: call.id, fencing: 1 })));
        }
        let found = self
            .select("org = $1 AND idempotency_key = $2 AND NOT released")
            .bind(&scope.org)
            .bind(&call.key)
            .fetch_optional(&mut *tx)
            .await?;
        // Freed in between, if it isn't there.
        let found = found.as_ref().map(row::call).transpose()?;
        if found.as_ref().is_some_and(|found| found.created_at < expired) {
            self.query(
                "UPDATE router.calls SET released = TRUE
                 WHERE org = $1 AND idempotency_key = $2 AND NOT released AND created_at < $3",
            )
            .bind(&scope.org)
            .bind(&call.key)
            .bind(expired)
            .execute(&mut *tx)
            .await?;
            tx.commit().await?;
            return Ok(None);
        }
        tx.commit().await?;
        Ok(found.map(Claimed::Taken))
    }

    async fn try_write(&self, held: &Held, progress: &Progress, ending: Option<&Ending>) -> Result<bool, Failure> {
        let (state, released, failure): (i16, bool, Option<&[u8]>) = match ending {
            None => (0, false, None),
            Some(Ending::Answered) => (1, false, None),
            Some(Ending::Failed(failure)) => (2, false, Some(failure)),
            Some(Ending::Released(failure)) => (2, true, Some(failure)),
        };
        let mut tx = self.database.begin().await?;
        let written = self
            .query(
                "UPDATE router.calls
                 SET recorded = greatest(recorded, $4), output = output OR $5, attempts = greatest(attempts, $6),
                     sent = $7, state = $8, released = $9, failure = $10
                 WHERE org = $1 AND id = $2 AND fencing = $3 AND state = 0",
            )
            .bind(&held.scope.org)
            .bind(held.id.to_string())
            .bind(held.fencing)
            .bind(progress.batch.as_ref().map_or(0, |batch| signed(batch.last)))
            .bind(progress.output)
            .bind(i64::from(progress.attempts))
            .bind(&progress.sent)
            .bind(state)
            .bind(released)
            .bind(failure)
            .execute(&mut *tx)
            .await?;
        if written.rows_affected() == 0 {
            return Ok(false);
        }
        if let Some(batch) = &progress.batch {
            self.insert(&mut tx, held, batch).await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    async fn insert(&self, connection: &mut PgConnection, held: &Held, batch: &Batch) -> sqlx::Result<()> {
        self.query("INSERT INTO router.call_events (org, call_id, seq, last, events) VALUES ($1, $2, $3, $4, $5)")
            .bind(&held.scope.org)
            .bind(held.id.to_string())
            .bind(signed(batch.seq))
            .bind(signed(batch.last))
            .bind(batch.events.as_ref())
            .execute(connection)
            .await
            .map(drop)
    }

    async fn try_take_over(&self, scope: &Scope, id: TurnId, fencing: i64) -> Result<Option<(Held, Call)>, Failure> {
        let mut tx = self.database.begin().await?;
        let sql = format!(
            "UPDATE router.calls c SET owner = $4, fencing = fencing + 1, attempts = attempts + 1
             WHERE org = $1 AND id = $2 AND fencing = $3 AND state = 0 AND NOT {ALIVE}
             RETURNING {COLUMNS}, TRUE AS alive"
        );
        let taken = sqlx::query(AssertSqlSafe(sql))
            .persistent(self.database.prepares())
            .bind(&scope.org)
            .bind(id.to_string())
            .bind(fencing)
            .bind(&self.replica)
            .fetch_optional(&mut *tx)
            .await?;
        tx.commit().await?;
        let Some(call) = taken.as_ref().map(row::call).transpose()? else { return Ok(None) };
        Ok(Some((Held { scope: scope.clone(), id, fencing: call.fencing }, call)))
    }

    async fn try_look(&self, scope: &Scope, id: TurnId, reading: bool) -> Result<Option<Call>, Failure> {
        let mut tx = self.database.begin().await?;
        if reading {
            self.query("UPDATE router.calls SET read_at = clock_timestamp() WHERE org = $1 AND id = $2 AND state = 0")
                .bind(&scope.org)
                .bind(id.to_string())
                .execute(&mut *tx)
                .await?;
        }
        let select = self.select("org = $1 AND id = $2").bind(&scope.org).bind(id.to_string());
        let found = select.fetch_optional(&mut *tx).await?;
        tx.commit().await?;
        Ok(found.as_ref().map(row::call).transpose()?)
    }

    async fn try_owned(&self) -> Result<Vec<Owned>, Failure> {
        let mut tx = self.database.begin().await?;
        let rows = self
            .query(
                "SELECT org, id, fencing, cancelled,
                        (extract(epoch FROM clock_timestamp() - read_at) * 1000)::BIGINT AS unread_millis
                 FROM router.calls WHERE owner = $1 AND state = 0",
            )
            .bind(&self.replica)
            .fetch_all(&mut *tx)
            .await?;
        tx.commit().await?;
        let owned = |row: &PgRow| {
            Ok(Owned {
                org: row.try_get("org")?,
                id: row::id(row)?,
                fencing: row.try_get("fencing")?,
                cancelled: row.try_get("cancelled")?,
                unread: Duration::from_millis(row::unsigned(row.try_get("unread_millis")?)),
            })
        };
        Ok(rows.iter().map(owned).collect::<sqlx::Result<_>>()?)
    }

    /// Runs a statement about rows of the org, in a transaction of its own, and gives what it found.
    async fn fetch(&self, query: Query<'static, Db, PgArguments>) -> Result<Vec<PgRow>, Failure> {
        let mut tx = self.database.begin().await?;
        let rows = query.fetch_all(&mut *tx).await?;
        tx.commit().await?;
        Ok(rows)
    }

    /// The same for one that changes rows: how many it was.
    async fn execute(&self, query: Query<'static, Db, PgArguments>) -> Result<u64, Failure> {
        let mut tx = self.database.begin().await?;
        let done = query.execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(done.rows_affected())
    }
}

fn batches(rows: &[PgRow]) -> Result<Vec<Batch>, Failure> {
    Ok(rows.iter().map(row::batch).collect::<sqlx::Result<_>>()?)
}

#[async_trait]
impl CallStore for PostgresStore {
    async fn claim(&self, scope: &Scope, call: &NewCall, expired: i64) -> Result<Claimed> {
        loop {
            let claimed = retry("claim an idempotency key", || self.try_claim(scope, call, expired)).await?;
            if let Some(claimed) = claimed {
                return Ok(claimed);
            }
        }
    }

    async fn find(&self, scope: &Scope, request: RequestId) -> Result<Option<Call>> {
        let rows = retry("find a call", || {
            let select = self.select("org = $1 AND request_id = $2 ORDER BY created_at DESC, id DESC LIMIT 1");
            self.fetch(select.bind(scope.org.clone()).bind(request.to_string()))
        });
        let rows = rows.await?;
        rows.first().map(row::call).transpose().map_err(tutti_store::unavailable("find a call"))
    }

    async fn look(&self, scope: &Scope, id: TurnId, reading: bool) -> Result<Option<Call>> {
        retry("look at a call", || self.try_look(scope, id, reading)).await
    }

    async fn events(&self, scope: &Scope, id: TurnId, after: u64) -> Result<Vec<Batch>> {
        retry("read the events of a call", || async {
            let sql = "SELECT seq, last, events FROM router.call_events
                       WHERE org = $1 AND call_id = $2 AND last > $3 ORDER BY seq LIMIT $4";
            let select = self.query(sql).bind(scope.org.clone()).bind(id.to_string()).bind(signed(after)).bind(PAGE);
            batches(&self.fetch(select).await?)
        })
        .await
    }

    async fn last(&self, scope: &Scope, id: TurnId) -> Result<Option<Batch>> {
        let last = retry("read the answer of a call", || async {
            let sql = "SELECT seq, last, events FROM router.call_events
                       WHERE org = $1 AND call_id = $2 ORDER BY seq DESC LIMIT 1";
            batches(&self.fetch(self.query(sql).bind(scope.org.clone()).bind(id.to_string())).await?)
        });
        Ok(last.await?.pop())
    }

    async fn write(&self, held: &Held, progress: &Progress, ending: Option<&Ending>) -> Result<bool> {
        retry("record a call", || self.try_write(held, progress, ending)).await
    }

    async fn take_over(&self, scope: &Scope, id: TurnId, fencing: i64) -> Result<Option<(Held, Call)>> {
        retry("take a call over", || self.try_take_over(scope, id, fencing)).await
    }

    async fn cancel(&self, scope: &Scope, request: RequestId) -> Result<bool> {
        let cancelled = retry("cancel a call", || {
            let sql = "UPDATE router.calls SET cancelled = TRUE WHERE org = $1 AND request_id = $2 AND state = 0";
            self.execute(self.query(sql).bind(scope.org.clone()).bind(request.to_string()))
        });
        Ok(cancelled.await? > 0)
    }

    async fn owned(&self) -> Result<Vec<Owned>> {
        retry("look after running calls", || self.try_owned()).await
    }

    async fn purge(&self, before: i64) -> Result<u64> {
        retry("forget calls", || {
            // Replicas that purge at the same time take other rows each, and wait for nobody.
            let sql = "DELETE FROM router.calls WHERE (org, id) IN
                           (SELECT org, id FROM router.calls WHERE created_at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)";
            self.execute(self.query(sql).bind(before).bind(PURGED))
        })
        .await
    }

    async fn close(&self) {
        self.pulse.end.abort();
        self.database.close().await;
    }
}
