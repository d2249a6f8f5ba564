//! Sums and lists. They read beside the writer and never hold it up.

use sqlx::{QueryBuilder, Row as _, Sqlite, SqlitePool, sqlite::SqliteRow};
use tutti_error::Result;
use tutti_store::unavailable;
use tutti_types::{NanoUsd, Scope, TokenCounts};

use super::row::{RecordRow, TokensRow};
use crate::domain::{Cursor, Dimension, Filter, Group, Page, Record, State, Totals};

/// The columns of [`Totals`], by position after the key. State 1 is reserved, 2 settled, 4 assumed; outcome 2 failed.
const TOTALS: &str = "COALESCE(SUM(state IN (2, 4)), 0), COUNT(DISTINCT request_id), COALESCE(SUM(outcome = 2), 0), \
    COALESCE(SUM(cost_nano_usd), 0) AS cost, COALESCE(SUM(held_nano_usd) FILTER (WHERE state = 1), 0) AS held, \
    CAST(AVG(latency_us) FILTER (WHERE state = 2) AS INTEGER), COALESCE(SUM(state = 4), 0), \
    COALESCE(SUM(fresh_input), 0) AS fresh_input, COALESCE(SUM(cache_read), 0) AS cache_read, \
    COALESCE(SUM(cache_write_5m), 0) AS cache_write_5m, COALESCE(SUM(cache_write_1h), 0) AS cache_write_1h, \
    COALESCE(SUM(visible_output), 0) AS visible_output, COALESCE(SUM(reasoning), 0) AS reasoning";

pub(super) async fn usage(
    pool: &SqlitePool,
    scope: &Scope,
    filter: &Filter,
    by: &[Dimension],
    limit: u32,
) -> Result<Vec<Group>> {
    let mut query = QueryBuilder::new("SELECT ");
    for dimension in by {
        query.push(expression(*dimension)).push(", ");
    }
    query.push(TOTALS).push(" FROM records");
    push_filter(&mut query, scope, filter);
    let keys = (1..=by.len()).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
    if by.is_empty() {
        query.push(" LIMIT ");
    } else {
        query.push(" GROUP BY ").push(&keys).push(" ORDER BY cost DESC, held DESC, ").push(&keys).push(" LIMIT ");
    }
    query.push_bind(limit);
    let rows = query.build().fetch_all(pool).await.map_err(unavailable("sum usage"))?;
    let groups = rows.iter().map(|row| group(row, by.len())).collect::<sqlx::Result<Vec<_>>>();
    groups.map_err(unavailable("sum usage"))
}

fn expression(dimension: Dimension) -> &'static str {
    match dimension {
        Dimension::Backend => "backend",
        Dimension::Model => "model",
        Dimension::Session => "session_id",
        Dimension::Project => "project",
        Dimension::Task => "task_id",
        Dimension::Credential => "credential",
        Dimension::Hour => "strftime('%Y-%m-%dT%H:00:00Z', created_at / 1000000, 'unixepoch')",
        Dimension::Day => "strftime('%Y-%m-%d', created_at / 1000000, 'unixepoch')",
        Dimension::Team => "team",
        Dimension::Provider => "provider",
    }
}

fn group(row: &SqliteRow, dimensions: usize) -> sqlx::Result<Group> {
    use sqlx::FromRow as _;
    let key = (0..dimensions).map(|at| row.try_get(at)).collect::<sqlx::Result<_>>()?;
    let totals = Totals {
        attempts: row.try_get(dimensions)?,
        requests: row.try_get(dimensions + 1)?,
        errors: row.try_get(dimensions + 2)?,
        cost: NanoUsd(row.try_get(dimensions + 3)?),
        held: NanoUsd(row.try_get(dimensions + 4)?),
        mean_latency: row.try_get(dimensions + 5)?,
        assumed: row.try_get(dimensions + 6)?,
        tokens: TokenCounts::from(TokensRow::from_row(row)?),
    };
    Ok(Group { key, totals })
}

pub(super) async fn list(
    pool: &SqlitePool,
    scope: &Scope,
    filter: &Filter,
    size: u32,
    after: Option<Cursor>,
) -> Result<Page> {
    let mut query = QueryBuilder::new("SELECT * FROM records");
    push_filter(&mut query, scope, filter);
    if let Some(after) = after {
        query.push(" AND (created_at, attempt_id) < (").push_bind(after.created_at);
        query.push(", ").push_bind(after.attempt_id.to_string()).push(")");
    }
    query.push(" ORDER BY created_at DESC, attempt_id DESC LIMIT ");
    // One more tells whether there is a next page.
    query.push_bind(size.saturating_add(1));
    let rows: Vec<RecordRow> = query.build_query_as().fetch_all(pool).await.map_err(unavailable("list usage"))?;
    let mut records = rows.into_iter().map(Record::try_from).collect::<Result<Vec<_>>>()?;
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    let more = records.len() > size;
    records.truncate(size);
    let last = records.last().filter(|_| more);
    let next = last.map(|record| Cursor { created_at: record.created_at, attempt_id: record.attempt_id() });
    Ok(Page { records, next })
}

fn push_filter(query: &mut QueryBuilder<Sqlite>, scope: &Scope, filter: &Filter) {
    query.push(" WHERE org = ").push_bind(scope.org.clone());
    let attempt = filter.attempt_id.map(|id| id.to_string());
    let equal = [
        (" AND attempt_id = ", &attempt),
        (" AND request_id = ", &filter.request_id),
        (" AND backend = ", &filter.backend),
        (" AND provider = ", &filter.provider),
        (" AND model = ", &filter.model),
        // The second condition lets SQLite use the partial index.
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
