//! Sums and lists as SQL that both stores speak.

use sqlx::{ColumnIndex, Database, Decode, Encode, FromRow, QueryBuilder, Row, Type};
use tutti_error::Result;
use tutti_types::{NanoUsd, Scope, TokenCounts};

use super::row::{RecordRow, TokensRow};
use crate::domain::{Cursor, Dimension, Filter, Group, Page, Record, State, Totals};

/// The columns of [`Totals`], by position after the key. State 1 is reserved, 2 settled, 4 assumed; outcome 2 failed.
const TOTALS: &str = "COUNT(*) FILTER (WHERE state IN (2, 4)), COUNT(DISTINCT request_id), \
    COUNT(*) FILTER (WHERE outcome = 2), \
    CAST(COALESCE(SUM(cost_nano_usd), 0) AS BIGINT) AS cost, \
    CAST(COALESCE(SUM(held_nano_usd) FILTER (WHERE state = 1), 0) AS BIGINT) AS held, \
    CAST(AVG(latency_us) FILTER (WHERE state = 2) AS BIGINT), COUNT(*) FILTER (WHERE state = 4), \
    CAST(COALESCE(SUM(fresh_input), 0) AS BIGINT) AS fresh_input, \
    CAST(COALESCE(SUM(cache_read), 0) AS BIGINT) AS cache_read, \
    CAST(COALESCE(SUM(cache_write_5m), 0) AS BIGINT) AS cache_write_5m, \
    CAST(COALESCE(SUM(cache_write_1h), 0) AS BIGINT) AS cache_write_1h, \
    CAST(COALESCE(SUM(visible_output), 0) AS BIGINT) AS visible_output, \
    CAST(COALESCE(SUM(reasoning), 0) AS BIGINT) AS reasoning";

/// What the two databases say differently.
pub(super) struct Dialect {
    /// The table of the records.
    pub(super) records: &'static str,
    /// The hour of `created_at`, as text.
    pub(super) hour: &'static str,
    /// The day of `created_at`, as text.
    pub(super) day: &'static str,
}

impl Dialect {
    fn expression(&self, dimension: Dimension) -> &'static str {
        match dimension {
            Dimension::Backend => "backend",
            Dimension::Model => "model",
            Dimension::Session => "session_id",
            Dimension::Project => "project",
            Dimension::Task => "task_id",
            Dimension::Credential => "credential",
            Dimension::Hour => self.hour,
            Dimension::Day => self.day,
            Dimension::Team => "team",
            Dimension::Provider => "provider",
        }
    }
}

/// The sums of a filter's records by these dimensions; its rows are for [`group`].
pub(super) fn usage<D>(
    dialect: &Dialect,
    scope: &Scope,
    filter: &Filter,
    by: &[Dimension],
    limit: u32,
) -> QueryBuilder<D>
where
    D: Database,
    String: for<'q> Encode<'q, D> + Type<D>,
    i64: for<'q> Encode<'q, D> + Type<D>,
    i32: for<'q> Encode<'q, D> + Type<D>,
{
    let mut query = QueryBuilder::new("SELECT ");
    for dimension in by {
        query.push(dialect.expression(*dimension)).push(", ");
    }
    query.push(TOTALS).push(" FROM ").push(dialect.records);
    push_filter(&mut query, scope, filter);
    let keys = (1..=by.len()).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
    if by.is_empty() {
        query.push(" LIMIT ");
    } else {
        query.push(" GROUP BY ").push(&keys).push(" ORDER BY cost DESC, held DESC, ").push(&keys).push(" LIMIT ");
    }
    query.push_bind(i64::from(limit));
    query
}

/// A row of [`usage`].
pub(super) fn group<'r, R>(row: &'r R, dimensions: usize) -> sqlx::Result<Group>
where
    R: Row,
    usize: ColumnIndex<R>,
    TokensRow: FromRow<'r, R>,
    String: Decode<'r, R::Database> + Type<R::Database>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
{
    let key = (0..dimensions).map(|at| row.try_get(at)).collect::<sqlx::Result<_>>()?;
    let count = |at: usize| row.try_get::<i64, _>(dimensions + at);
    let totals = Totals {
        attempts: count(0)?,
        requests: count(1)?,
        errors: count(2)?,
        cost: NanoUsd(count(3)?),
        held: NanoUsd(count(4)?),
        mean_latency: row.try_get(dimensions + 5)?,
        assumed: count(6)?,
        tokens: TokenCounts::from(TokensRow::from_row(row)?),
    };
    Ok(Group { key, totals })
}

/// The records of a page and one more, which tells whether there is a next page; its rows are for [`page`].
pub(super) fn list<D>(
    dialect: &Dialect,
    scope: &Scope,
    filter: &Filter,
    size: u32,
    after: Option<Cursor>,
) -> QueryBuilder<D>
where
    D: Database,
    String: for<'q> Encode<'q, D> + Type<D>,
    i64: for<'q> Encode<'q, D> + Type<D>,
    i32: for<'q> Encode<'q, D> + Type<D>,
{
    let mut query = QueryBuilder::new("SELECT * FROM ");
    query.push(dialect.records);
    push_filter(&mut query, scope, filter);
    if let Some(after) = after {
        query.push(" AND (created_at, attempt_id) < (").push_bind(after.created_at);
        query.push(", ").push_bind(after.attempt_id.to_string()).push(")");
    }
    query.push(" ORDER BY created_at DESC, attempt_id DESC LIMIT ");
    query.push_bind(i64::from(size) + 1);
    query
}

/// What [`list`] found.
pub(super) fn page(rows: Vec<RecordRow>, size: u32) -> Result<Page> {
    let mut records = rows.into_iter().map(Record::try_from).collect::<Result<Vec<_>>>()?;
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    let more = records.len() > size;
    records.truncate(size);
    let last = records.last().filter(|_| more);
    let next = last.map(|record| Cursor { created_at: record.created_at, attempt_id: record.attempt_id() });
    Ok(Page { records, next })
}

fn push_filter<D>(query: &mut QueryBuilder<D>, scope: &Scope, filter: &Filter)
where
    D: Database,
    String: for<'q> Encode<'q, D> + Type<D>,
    i64: for<'q> Encode<'q, D> + Type<D>,
    i32: for<'q> Encode<'q, D> + Type<D>,
{
    query.push(" WHERE org = ").push_bind(scope.org.clone());
    let attempt = filter.attempt_id.map(|id| id.to_string());
    let equal = [
        (" AND attempt_id = ", &attempt),
        (" AND request_id = ", &filter.request_id),
        (" AND backend = ", &filter.backend),
        (" AND provider = ", &filter.provider),
        (" AND model = ", &filter.model),
        // The second condition lets the partial index be used.
        (" AND session_id <> '' AND session_id = ", &filter.session_id),
        (" AND project = ", &filter.project),
        (" AND task_id = ", &filter.task_id),
        (" AND team = ", &filter.team),
        (" AND run_id = ", &filter.run_id),
    ];
    for (condition, value) in equal {
        if let Some(value) = value {
            query.push(condition).push_bind(value.clone());
        }
    }
    if !filter.states.is_empty() {
        query.push(" AND state IN (");
        let mut states = query.separated(", ");
        for state in filter.states.iter().copied().map(State::number) {
            states.push_bind(state);
        }
        query.push(")");
    }
    for (condition, moment) in [(" AND created_at >= ", filter.from), (" AND created_at < ", filter.to)] {
        if let Some(moment) = moment {
            query.push(condition).push_bind(moment);
        }
    }
}
