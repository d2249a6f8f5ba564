//! `GetUsage` and `ListUsage`.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use tutti_error::{Error, Result};
use tutti_proto::ledger::v1 as wire;
use tutti_types::{AttemptId, time};

use super::field;
use crate::domain::{Cursor, Dimension, Filter, Group, Micros, Record, State};

/// Bound of the groups of one answer.
pub(super) const MAX_GROUPS: u32 = 1000;
const MAX_DIMENSIONS: usize = 3;
const DEFAULT_PAGE: u32 = 100;
const MAX_PAGE: u32 = 1000;

pub(super) fn sums(asked: wire::GetUsageRequest) -> Result<(Filter, Vec<Dimension>)> {
    if asked.group_by.len() > MAX_DIMENSIONS {
        return Err(Error::invalid("group_by", format!("must be at most {MAX_DIMENSIONS} dimensions")));
    }
    let mut by = Vec::new();
    for (index, number) in asked.group_by.iter().enumerate() {
        let field = format!("group_by[{index}]");
        let dimension = dimension(field::known(&field, *number)?)
            .ok_or_else(|| Error::invalid(field.as_str(), "must name a dimension"))?;
        if by.contains(&dimension) {
            return Err(Error::invalid(field, "is named twice"));
        }
        by.push(dimension);
    }
    Ok((filter(asked.filter.unwrap_or_default())?, by))
}

pub(super) fn page(asked: wire::ListUsageRequest) -> Result<(Filter, u32, Option<Cursor>)> {
    let size = match u32::try_from(asked.page_size) {
        Ok(0) => DEFAULT_PAGE,
        Ok(size) => size.min(MAX_PAGE),
        Err(_) => return Err(Error::invalid("page_size", "must not be negative")),
    };
    let after = match asked.page_token.as_str() {
        "" => None,
        token => Some(cursor(token).ok_or_else(|| {
            Error::invalid("page_token", "must be a next_page_token of an earlier answer, unchanged")
        })?),
    };
    Ok((filter(asked.filter.unwrap_or_default())?, size, after))
}

/// A cursor as text that callers hand back: base64 of `<micros>:<attempt id>`.
pub(super) fn token(cursor: Cursor) -> String {
    URL_SAFE_NO_PAD.encode(format!("{}:{}", cursor.created_at, cursor.attempt_id))
}

fn cursor(token: &str) -> Option<Cursor> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
    let (created_at, attempt_id) = text.split_once(':')?;
    Some(Cursor { created_at: created_at.parse().ok()?, attempt_id: AttemptId::parse(attempt_id).ok()? })
}

fn dimension(named: wire::UsageDimension) -> Option<Dimension> {
    use wire::UsageDimension as D;
    Some(match named {
        D::Unspecified => return None,
        D::Backend => Dimension::Backend,
        D::Model => Dimension::Model,
        D::Session => Dimension::Session,
        D::Project => Dimension::Project,
        D::Task => Dimension::Task,
        D::Credential => Dimension::Credential,
        D::Hour => Dimension::Hour,
        D::Day => Dimension::Day,
        D::Team => Dimension::Team,
        D::Provider => Dimension::Provider,
    })
}

fn filter(asked: wire::UsageFilter) -> Result<Filter> {
    let given = |value: String| Some(value).filter(|value| !value.is_empty());
    let moment = |field, value: Option<prost_types::Timestamp>| value.map(|v| field::moment(field, &v)).transpose();
    let attempt = given(asked.attempt_id)
        .map(|id| AttemptId::parse(&id).map_err(|_| Error::invalid("filter.attempt_id", "must be a UUID")));
    let state = |(index, number): (usize, &i32)| {
        State::from_number(*number)
            .ok_or_else(|| Error::invalid(format!("filter.states[{index}]"), "must be a state of a record"))
    };
    Ok(Filter {
        attempt_id: attempt.transpose()?,
        request_id: given(asked.request_id),
        backend: given(asked.backend),
        provider: given(asked.provider),
        model: given(asked.model),
        session_id: given(asked.session_id),
        project: given(asked.project),
        task_id: given(asked.task_id),
        team: given(asked.team),
        run_id: given(asked.run_id),
        states: asked.states.iter().enumerate().map(state).collect::<Result<_>>()?,
        from: moment("filter.from", asked.from)?,
        to: moment("filter.to", asked.to)?,
    })
}

pub(super) fn group(group: Group) -> wire::UsageGroup {
    let totals = group.totals;
    let latency = |micros: Micros| time::to_wire(std::time::Duration::from_micros(u64::try_from(micros).unwrap_or(0)));
    wire::UsageGroup {
        key: group.key,
        totals: Some(wire::UsageTotals {
            attempts: totals.attempts,
            requests: totals.requests,
            errors: totals.errors,
            tokens: Some(totals.tokens.into()),
            cost_nano_usd: totals.cost.0,
            held_nano_usd: totals.held.0,
            mean_latency: totals.mean_latency.map(latency),
            assumed: totals.assumed,
        }),
    }
}

pub(super) fn record(record: Record, org: &str) -> wire::UsageRecord {
    let asked = record.reservation;
    wire::UsageRecord {
        attempt_id: asked.attempt_id.to_string(),
        request_id: asked.request_id,
        org: org.to_owned(),
        attribution: Some(asked.attribution),
        backend: asked.backend,
        provider: asked.provider,
        model: asked.model,
        credential: asked.credential,
        state: record.state.number(),
        held_nano_usd: record.held.0,
        tokens: Some(record.tokens.into()),
        cost_nano_usd: record.cost.0,
        price_estimated: asked.prices.estimated,
        tokens_estimated: record.tokens_estimated,
        over_hold: record.over_hold,
        outcome: record.outcome.into(),
        reason: record.reason.into(),
        finish_reason: record.finish_reason.into(),
        latency: record.latency.map(time::to_wire),
        time_to_first_token: record.time_to_first_token.map(time::to_wire),
        provider_request_id: record.provider_request_id,
        created_at: Some(time::from_unix_micros(record.created_at)),
        settled_at: record.settled_at.map(time::from_unix_micros),
        prices: Some(asked.prices.into()),
    }
}
