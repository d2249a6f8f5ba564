//! The query for records, in the SQL of both databases.

use sqlx::{Database, Encode, QueryBuilder, Type};
use tutti_types::Scope;

use crate::domain::Filter;

/// Only the conditions that are asked for, so that each has its index. The tables are those of the calls and of their
/// endings.
pub(super) fn select<D>((calls, endings): (&str, &str), scope: &Scope, filter: &Filter) -> QueryBuilder<D>
where
    D: Database,
    String: for<'q> Encode<'q, D> + Type<D>,
    i64: for<'q> Encode<'q, D> + Type<D>,
{
    let mut query = QueryBuilder::new(
        "SELECT c.*, e.seq AS ended, e.success, e.reason, e.error, e.exit_code, e.output_bytes, e.duration_micros FROM ",
    );
    query.push(calls).push(" c LEFT JOIN ").push(endings).push(" e ON e.seq = c.seq WHERE c.org = ");
    query.push_bind(scope.org.clone());
    let texts = [
        (" AND c.request_id = ", &filter.request_id),
        (" AND c.session_id = ", &filter.session_id),
        (" AND c.tool = ", &filter.tool),
        (" AND c.workspace = ", &filter.workspace),
    ];
    for (condition, value) in texts.into_iter().filter(|(_, value)| !value.is_empty()) {
        query.push(condition).push_bind(value.clone());
    }
    let numbers =
        [(" AND c.started_at >= ", filter.from), (" AND c.started_at < ", filter.to), (" AND c.seq < ", filter.below)];
    for (condition, value) in numbers.into_iter().filter_map(|(condition, value)| Some((condition, value?))) {
        query.push(condition).push_bind(value);
    }
    query.push(" ORDER BY c.seq DESC LIMIT ").push_bind(filter.limit);
    query
}
