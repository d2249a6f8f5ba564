//! The books in Postgres, which any number of replicas share.
//!
//! READ COMMITTED is enough: who writes to an org's chain locks its head first, so that rows follow each other; a key is
//! claimed by its unique row. What is locked after the head (a claim) is locked by nobody who then waits for a head.
//!
//! A replica has a lease that it renews while it lives. A claimed call without a result runs as long as the lease of its
//! replica; after that nobody knows how far it came.

mod write;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use sqlx::{
    Postgres as Db, QueryBuilder, Row as _,
    migrate::Migrator,
    postgres::{PgArguments, PgRow},
    query::Query,
};
use tokio::task::{AbortHandle, JoinSet};
use tutti_config::PostgresConfig;
use tutti_error::{Error, Result};
use tutti_server::Readiness;
use tutti_store::{Failure, Leases as _, Postgres, PostgresLeases, Schema, retry};
use tutti_types::{RequestId, Scope};

use super::{AuditStore, Begun, Previous, row, select};
use crate::domain::{CallResult, ChainedRow, Claim, Ending, Filter, Head, Integrity, NewRecord, Record, follow};

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

/// Rows of a chain that are checked at once.
const CHECKED: i64 = 1000;
/// How long a replica that says nothing may still be running its calls, and how often it says something.
const LIFE: Duration = Duration::from_secs(15);
const PULSE: Duration = Duration::from_secs(4);

/// The tables of the books.
pub fn schema() -> Schema {
    Schema::new("sandbox", &MIGRATIONS)
}

/// Books in the schema `sandbox` of a database.
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
    fn of(leases: PostgresLeases, replica: String) -> Self {
        let mut task = JoinSet::new();
        let end = task.spawn(async move {
            loop {
                tokio::time::sleep(PULSE).await;
                // Anew, if it ran out while the database was away. A failure is in the log; the next pulse may succeed.
                let _ = leases.acquire("", &replica, &replica, LIFE).await;
            }
        });
        Self { end, _task: task }
    }
}

impl PostgresStore {
    /// Opens the books, waiting for the database if it is away; `readiness` knows when it is.
    ///
    /// # Errors
    /// STORE_UNAVAILABLE; the message says why, and names `tutti migrate` when that is what is missing.
    pub(crate) async fn open(config: &PostgresConfig, readiness: &Readiness) -> Result<Self> {
        let schema = schema();
        let database = Postgres::connect_waiting(config, &schema, readiness).await?;
        let leases = PostgresLeases::new(database.clone(), &schema);
        let replica = RequestId::generate().to_string();
        leases.acquire("", &replica, &replica, LIFE).await?;
        let pulse = Arc::new(Pulse::of(leases, replica.clone()));
        Ok(Self { database, replica, pulse })
    }

    /// A statement, prepared where it may be.
    fn query(&self, sql: &'static str) -> Query<'static, Db, PgArguments> {
        sqlx::query(sql).persistent(self.database.prepares())
    }

    async fn try_previous(&self, scope: &Scope, key: &str) -> Result<Option<Previous>, Failure> {
        let mut tx = self.database.begin().await?;
        let row = self
            .query(
                "SELECT seq, body_hash, result,
                        result IS NULL AND owner <> $3 AND EXISTS (SELECT FROM sandbox.leases l
                            WHERE l.org = '' AND l.name = owner AND l.expires_at > clock_timestamp()) AS runs
                 FROM sandbox.claims WHERE org = $1 AND idempotency_key = $2",
            )
            .bind(&scope.org)
            .bind(key)
            .bind(&self.replica)
            .fetch_optional(&mut *tx)
            .await?;
        tx.commit().await?;
        let Some(row) = row else { return Ok(None) };
        let result: Option<String> = row.try_get("result")?;
        let result = result.map(|json| serde_json::from_str(&json)).transpose().map_err(Error::internal)?;
        let (seq, body_hash) = (row.try_get("seq")?, row.try_get("body_hash")?);
        Ok(Some(Previous { seq, body_hash, result, runs_elsewhere: row.try_get("runs")? }))
    }

    async fn try_select(&self, scope: &Scope, filter: &Filter) -> Result<Vec<Record>, Failure> {
        let mut query: QueryBuilder<Db> = select(("sandbox.tool_calls", "sandbox.tool_call_endings"), scope, filter);
        let mut tx = self.database.begin().await?;
        let rows = query.build().persistent(self.database.prepares()).fetch_all(&mut *tx).await?;
        tx.commit().await?;
        Ok(rows.iter().map(row::record).collect::<sqlx::Result<_>>()?)
    }

    async fn try_head(&self, scope: &Scope) -> Result<Head, Failure> {
        let mut tx = self.database.begin().await?;
        let query = self.query("SELECT link, hash FROM sandbox.chain_heads WHERE org = $1");
        let found = query.bind(&scope.org).fetch_optional(&mut *tx).await?;
        tx.commit().await?;
        Ok(found.as_ref().map(row::head).transpose()?.unwrap_or_default())
    }

    /// The rows in these places of the org's chain: after the first, up to the second.
    async fn try_chained(&self, scope: &Scope, (after, last): (i64, i64)) -> Result<Vec<ChainedRow>, Failure> {
        let mut tx = self.database.begin().await?;
        let calls = self.query("SELECT * FROM sandbox.tool_calls WHERE org = $1 AND link > $2 AND link <= $3");
        let calls = calls.bind(&scope.org).bind(after).bind(last).fetch_all(&mut *tx).await?;
        let endings = self.query("SELECT * FROM sandbox.tool_call_endings WHERE org = $1 AND link > $2 AND link <= $3");
        let endings = endings.bind(&scope.org).bind(after).bind(last).fetch_all(&mut *tx).await?;
        tx.commit().await?;
        let calls = calls.iter().map(|call| row::chained(call, row::started(call)));
        let endings = endings.iter().map(|end: &PgRow| row::chained(end, row::finished(scope, end)));
        let mut rows = calls.chain(endings).collect::<sqlx::Result<Vec<_>>>()?;
        rows.sort_by_key(|row| row.link);
        Ok(rows)
    }
}

#[async_trait]
impl AuditStore for PostgresStore {
    async fn begin(
        &self,
        scope: &Scope,
        record: &NewRecord,
        claim: Option<&Claim>,
        ending: Option<&Ending>,
    ) -> Result<Begun> {
        let record = write::storable_call(record);
        let ending = ending.map(write::storable_ending);
        let begin = || self.try_begin(scope, &record, claim, ending.as_ref());
        if let Some(seq) = retry("record a tool call", begin).await? {
            return Ok(Begun::New(seq));
        }
        let previous = match claim {
            Some(claim) => self.previous(scope, &claim.key).await?,
            None => None,
        };
        previous.map(Begun::Taken).ok_or_else(|| Error::internal("a claimed idempotency key has vanished"))
    }

    async fn finish(&self, scope: &Scope, seq: i64, ending: &Ending, result: Option<&CallResult>) -> Result<()> {
        let ending = write::storable_ending(ending);
        let result = result.map(serde_json::to_string).transpose().map_err(Error::internal)?;
        let finish = || self.try_finish(scope, seq, &ending, result.as_deref());
        retry("complete the record of a tool call", finish).await
    }

    async fn previous(&self, scope: &Scope, key: &str) -> Result<Option<Previous>> {
        retry("look up an idempotency key", || self.try_previous(scope, key)).await
    }

    async fn query(&self, scope: &Scope, filter: &Filter) -> Result<Vec<Record>> {
        retry("read the audit", || self.try_select(scope, filter)).await
    }

    async fn verify(&self, scope: &Scope) -> Result<Integrity> {
        let head = retry("check the audit", || self.try_head(scope)).await?;
        let mut checked = Head::default();
        while checked.link < head.link {
            let links = (checked.link, head.link.min(checked.link + CHECKED));
            let rows = retry("check the audit", || self.try_chained(scope, links)).await?;
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
        retry("forget idempotency keys", || self.try_purge(before)).await
    }

    async fn close(&self) {
        self.pulse.end.abort();
        self.database.close().await;
    }
}
