//! The books in Postgres, which any number of replicas share.
//!
//! Why READ COMMITTED is enough: every rule of a record concerns that record alone, so it is enough that nobody else
//! changes it between our reading and our writing. A transaction locks the rows it reads (`FOR UPDATE`) before it
//! decides about them; what it inserts is unique by its key, and if another replica was faster with the same attempt,
//! the transaction is made anew and finds that row. The expiry takes only rows that nobody has locked
//! (`SKIP LOCKED`), so two replicas never assume the same hold, and a settlement that is being written goes first.
//!
//! Why there are no deadlocks: a transaction locks all its rows in the order of their keys, then inserts in that order,
//! and then waits for nobody any more; the expiry never waits.
//!
//! A transaction keeps its changes until its end: three statements for a whole group of changes, whose round trips are
//! what a networked store costs.

use std::collections::BTreeSet;

use async_trait::async_trait;
use serde::Serialize;
use sqlx::{Postgres as Db, migrate::Migrator, types::Json};
use tutti_config::PostgresConfig;
use tutti_error::Result;
use tutti_server::Readiness;
use tutti_store::{Failure, Postgres, Schema, retry, within};
use tutti_types::{AttemptId, Scope};

use super::{
    Commit, Store, Transaction,
    query::{self, Dialect},
    records::Records,
    row::RecordRow,
};
use crate::domain::{Cursor, Dimension, Filter, Group, Micros, Page, Record};

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

const DIALECT: Dialect = Dialect {
    records: "ledger.records",
    hour: "to_char(to_timestamp(created_at / 1000000) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:00:00\"Z\"')",
    day: "to_char(to_timestamp(created_at / 1000000) AT TIME ZONE 'UTC', 'YYYY-MM-DD')",
};

/// The tables of the books.
pub fn schema() -> Schema {
    Schema::new("ledger", &MIGRATIONS)
}

/// The books in the schema `ledger` of a database.
#[derive(Debug)]
pub struct PostgresStore {
    database: Postgres,
}

impl PostgresStore {
    /// Opens the books, waiting for the database if it is away; `readiness` knows when it is.
    ///
    /// # Errors
    /// STORE_UNAVAILABLE; the message says why, and names `tutti migrate` when that is what is missing.
    pub async fn open(config: &PostgresConfig, readiness: &Readiness) -> Result<Self> {
        Ok(Self { database: Postgres::connect_waiting(config, &schema(), readiness).await? })
    }

    async fn try_usage(
        &self,
        scope: &Scope,
        filter: &Filter,
        by: &[Dimension],
        limit: u32,
    ) -> Result<Vec<Group>, Failure> {
        let mut query = query::usage::<Db>(&DIALECT, scope, filter, by, limit);
        let mut transaction = self.database.begin().await?;
        let rows = query.build().persistent(self.database.prepares()).fetch_all(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(rows.iter().map(|row| query::group(row, by.len())).collect::<sqlx::Result<_>>()?)
    }

    async fn try_list(
        &self,
        scope: &Scope,
        filter: &Filter,
        size: u32,
        after: Option<Cursor>,
    ) -> Result<Vec<RecordRow>, Failure> {
        let mut query = query::list::<Db>(&DIALECT, scope, filter, size, after);
        let mut transaction = self.database.begin().await?;
        let rows = query.build_query_as().persistent(self.database.prepares()).fetch_all(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(rows)
    }

    async fn try_orgs_with_due_holds(&self, now: Micros) -> Result<Vec<String>, Failure> {
        let mut transaction = self.database.begin().await?;
        // State 1 is reserved. The index of the holds is small, however many records there are.
        let sql = "SELECT DISTINCT org FROM ledger.records WHERE state = 1 AND expires_at <= $1";
        let query = sqlx::query_scalar(sql).bind(now).persistent(self.database.prepares());
        let orgs = query.fetch_all(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(orgs)
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn begin(&self) -> Result<Box<dyn Transaction>> {
        let transaction = within("begin a transaction", self.database.begin()).await?;
        Ok(Box::new(PostgresTransaction {
            transaction,
            prepares: self.database.prepares(),
            records: Records::default(),
            overtaken: false,
        }))
    }

    async fn orgs_with_due_holds(&self, now: Micros) -> Result<Vec<String>> {
        retry("look for expired holds", || self.try_orgs_with_due_holds(now)).await
    }

    async fn usage(&self, scope: &Scope, filter: &Filter, by: &[Dimension], limit: u32) -> Result<Vec<Group>> {
        retry("sum usage", || self.try_usage(scope, filter, by, limit)).await
    }

    async fn list(&self, scope: &Scope, filter: &Filter, size: u32, after: Option<Cursor>) -> Result<Page> {
        query::page(retry("list usage", || self.try_list(scope, filter, size, after)).await?, size)
    }

    async fn close(&self) {
        self.database.close().await;
    }
}

struct PostgresTransaction {
    transaction: sqlx::Transaction<'static, Db>,
    prepares: bool,
    records: Records,
    /// Another replica inserted an attempt that was not there when it was asked for.
    overtaken: bool,
}

/// A record as the database takes and gives it.
#[derive(Debug, Serialize, sqlx::FromRow)]
struct OrgRow {
    org: String,
    #[sqlx(flatten)]
    #[serde(flatten)]
    row: RecordRow,
}

fn with_orgs(rows: Vec<OrgRow>) -> Result<Vec<(String, Record)>> {
    rows.into_iter().map(|row| Ok((row.org, Record::try_from(row.row)?))).collect()
}

/// All columns, by name: a later migration may add some that this version does not know.
const COLUMNS: &str = "org, attempt_id, request_id, principal, backend, provider, model, credential, team, project, job, \
    node, run_id, agent, session_id, task_id, phase, tags, state, worst_case, prices, held_nano_usd, fresh_input, \
    cache_read, cache_write_5m, cache_write_1h, visible_output, reasoning, cost_nano_usd, over_hold, tokens_estimated, \
    outcome, reason, finish_reason, latency_us, first_token_us, provider_request_id, created_at, expires_at, settled_at";

/// Those that a settlement, release or expiry changes.
const CHANGED: &str = "state = n.state, fresh_input = n.fresh_input, cache_read = n.cache_read, \
    cache_write_5m = n.cache_write_5m, cache_write_1h = n.cache_write_1h, visible_output = n.visible_output, \
    reasoning = n.reasoning, cost_nano_usd = n.cost_nano_usd, over_hold = n.over_hold, \
    tokens_estimated = n.tokens_estimated, prices = n.prices, outcome = n.outcome, reason = n.reason, \
    finish_reason = n.finish_reason, latency_us = n.latency_us, first_token_us = n.first_token_us, \
    provider_request_id = n.provider_request_id, settled_at = n.settled_at";

/// Reads and locks attempts, in the order in which they are named. The planner can't pull up a subquery that locks, so
/// that there is one plan: the primary key for each attempt. A join may become a scan of all records, and stay one in
/// the plan that is kept from when the table was small.
const FIND: &str = "SELECT found.* FROM UNNEST($1::text[], $2::text[]) AS asked (org, attempt_id),
    LATERAL (SELECT * FROM ledger.records r
             WHERE r.org = asked.org AND r.attempt_id = asked.attempt_id FOR UPDATE) found";

/// Changes attempts, found as by [`FIND`].
fn update() -> String {
    format!(
        "UPDATE ledger.records r SET {CHANGED} FROM (
             SELECT told.*, found.place FROM jsonb_populate_recordset(NULL::ledger.records, $1) told,
             LATERAL (SELECT ctid AS place FROM ledger.records
                      WHERE org = told.org AND attempt_id = told.attempt_id FOR UPDATE) found
         ) n WHERE r.ctid = n.place"
    )
}

impl PostgresTransaction {
    /// Writes what was changed so far, so that queries see it.
    async fn flush(&mut self) -> Result<()> {
        let new = self.records.take_new();
        if !new.is_empty() {
            let sql = format!(
                "INSERT INTO ledger.records ({COLUMNS})
                 SELECT {COLUMNS} FROM jsonb_populate_recordset(NULL::ledger.records, $1) ORDER BY org, attempt_id
                 ON CONFLICT (org, attempt_id) DO NOTHING"
            );
            self.overtaken |= self.write("reserve attempts", sql, &new).await? < new.len() as u64;
        }
        let changed = self.records.take_changed();
        if !changed.is_empty() {
            self.write("settle attempts", update(), &changed).await?;
        }
        Ok(())
    }

    /// Runs a statement on many records; how many rows it wrote.
    async fn write(&mut self, doing: &'static str, sql: String, records: &[(String, Record)]) -> Result<u64> {
        let rows: Vec<_> =
            records.iter().map(|(org, record)| OrgRow { org: org.clone(), row: record.into() }).collect();
        let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(Json(rows)).persistent(self.prepares);
        Ok(within(doing, query.execute(&mut *self.transaction)).await?.rows_affected())
    }
}

#[async_trait]
impl Transaction for PostgresTransaction {
    async fn expect(&mut self, attempts: &[(&Scope, AttemptId)]) -> Result<()> {
        let asked: Vec<_> = attempts.iter().map(|(scope, attempt)| (scope.org.as_str(), *attempt)).collect();
        // In one order, so that replicas which want the same attempts don't wait for each other in a circle.
        let in_order: BTreeSet<_> = asked.iter().map(|(org, attempt)| (*org, attempt.to_string())).collect();
        let (orgs, ids): (Vec<&str>, Vec<String>) = in_order.into_iter().unzip();
        let rows: Vec<OrgRow> = within(
            "find attempts",
            sqlx::query_as(FIND).bind(orgs).bind(ids).persistent(self.prepares).fetch_all(&mut *self.transaction),
        )
        .await?;
        self.records.read(&asked, with_orgs(rows)?);
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
        let rows: Vec<OrgRow> = within(
            "look for expired holds",
            sqlx::query_as(
                "SELECT * FROM ledger.records WHERE org = $1 AND state = 1 AND expires_at <= $2
                 ORDER BY expires_at LIMIT $3 FOR UPDATE SKIP LOCKED",
            )
            .bind(&scope.org)
            .bind(now)
            .bind(i64::from(limit))
            .persistent(self.prepares)
            .fetch_all(&mut *self.transaction),
        )
        .await?;
        Ok(with_orgs(rows)?.into_iter().map(|(_, record)| record).collect())
    }

    async fn commit(mut self: Box<Self>) -> Result<Commit> {
        self.flush().await?;
        if self.overtaken {
            within("roll back", self.transaction.rollback()).await?;
            return Ok(Commit::Again);
        }
        within("commit", self.transaction.commit()).await?;
        Ok(Commit::Durable)
    }
}

#[cfg(test)]
mod tests;
