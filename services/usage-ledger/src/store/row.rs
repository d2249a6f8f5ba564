//! A record as a row, the same in both stores.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use sqlx::{FromRow, types::Json};
use tutti_error::{Error, Result};
use tutti_proto::llm::v1::{AttemptOutcome, Attribution, ErrorReason, FinishReason};
use tutti_types::{AttemptId, NanoUsd, TokenCounts, UnitPrices};

use crate::domain::{Micros, Record, Reservation, State};

/// Tokens by class, as columns or JSON.
#[derive(Debug, Clone, Copy, FromRow, Serialize, Deserialize)]
pub(super) struct TokensRow {
    pub(super) fresh_input: i64,
    pub(super) cache_read: i64,
    pub(super) cache_write_5m: i64,
    pub(super) cache_write_1h: i64,
    pub(super) visible_output: i64,
    pub(super) reasoning: i64,
}

impl From<TokenCounts> for TokensRow {
    fn from(tokens: TokenCounts) -> Self {
        let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        Self {
            fresh_input: signed(tokens.fresh_input),
            cache_read: signed(tokens.cache_read),
            cache_write_5m: signed(tokens.cache_write_5m),
            cache_write_1h: signed(tokens.cache_write_1h),
            visible_output: signed(tokens.visible_output),
            reasoning: signed(tokens.reasoning),
        }
    }
}

impl From<TokensRow> for TokenCounts {
    fn from(row: TokensRow) -> Self {
        let unsigned = |count: i64| u64::try_from(count).unwrap_or(0);
        Self {
            fresh_input: unsigned(row.fresh_input),
            cache_read: unsigned(row.cache_read),
            cache_write_5m: unsigned(row.cache_write_5m),
            cache_write_1h: unsigned(row.cache_write_1h),
            visible_output: unsigned(row.visible_output),
            reasoning: unsigned(row.reasoning),
        }
    }
}

/// Unit prices, as JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct PricesRow {
    input: i64,
    cache_read: i64,
    cache_write_5m: i64,
    cache_write_1h: i64,
    output: i64,
    catalogue_version: String,
    estimated: bool,
}

impl From<&UnitPrices> for PricesRow {
    fn from(prices: &UnitPrices) -> Self {
        Self {
            input: prices.input,
            cache_read: prices.cache_read,
            cache_write_5m: prices.cache_write_5m,
            cache_write_1h: prices.cache_write_1h,
            output: prices.output,
            catalogue_version: prices.catalogue_version.clone(),
            estimated: prices.estimated,
        }
    }
}

impl From<PricesRow> for UnitPrices {
    fn from(row: PricesRow) -> Self {
        Self {
            input: row.input,
            cache_read: row.cache_read,
            cache_write_5m: row.cache_write_5m,
            cache_write_1h: row.cache_write_1h,
            output: row.output,
            catalogue_version: row.catalogue_version,
            estimated: row.estimated,
        }
    }
}

#[derive(Debug, FromRow, Serialize)]
struct AttributionRow {
    team: String,
    project: String,
    job: String,
    node: String,
    run_id: String,
    agent: String,
    session_id: String,
    task_id: String,
    phase: String,
    tags: Json<BTreeMap<String, String>>,
}

impl From<&Attribution> for AttributionRow {
    fn from(of: &Attribution) -> Self {
        Self {
            team: of.team.clone(),
            project: of.project.clone(),
            job: of.job.clone(),
            node: of.node.clone(),
            run_id: of.run_id.clone(),
            agent: of.agent.clone(),
            session_id: of.session_id.clone(),
            task_id: of.task_id.clone(),
            phase: of.phase.clone(),
            tags: Json(of.tags.clone()),
        }
    }
}

impl From<AttributionRow> for Attribution {
    fn from(row: AttributionRow) -> Self {
        Self {
            team: row.team,
            project: row.project,
            job: row.job,
            node: row.node,
            run_id: row.run_id,
            agent: row.agent,
            session_id: row.session_id,
            task_id: row.task_id,
            phase: row.phase,
            tags: row.tags.0,
        }
    }
}

/// All columns but `org`, which the caller knows.
#[derive(Debug, FromRow, Serialize)]
pub(super) struct RecordRow {
    attempt_id: String,
    request_id: String,
    principal: String,
    backend: String,
    provider: String,
    model: String,
    credential: String,
    #[sqlx(flatten)]
    #[serde(flatten)]
    attribution: AttributionRow,
    state: i32,
    worst_case: Json<TokensRow>,
    prices: Json<PricesRow>,
    held_nano_usd: i64,
    #[sqlx(flatten)]
    #[serde(flatten)]
    tokens: TokensRow,
    cost_nano_usd: i64,
    over_hold: bool,
    tokens_estimated: bool,
    outcome: i32,
    reason: i32,
    finish_reason: i32,
    latency_us: Option<i64>,
    first_token_us: Option<i64>,
    provider_request_id: String,
    created_at: Micros,
    expires_at: Micros,
    settled_at: Option<Micros>,
}

impl From<&Record> for RecordRow {
    fn from(record: &Record) -> Self {
        let asked = &record.reservation;
        Self {
            attempt_id: asked.attempt_id.to_string(),
            request_id: asked.request_id.clone(),
            principal: record.principal.clone(),
            backend: asked.backend.clone(),
            provider: asked.provider.clone(),
            model: asked.model.clone(),
            credential: asked.credential.clone(),
            attribution: (&asked.attribution).into(),
            state: record.state.number(),
            worst_case: Json(asked.worst_case.into()),
            prices: Json((&asked.prices).into()),
            held_nano_usd: record.held.0,
            tokens: record.tokens.into(),
            cost_nano_usd: record.cost.0,
            over_hold: record.over_hold,
            tokens_estimated: record.tokens_estimated,
            outcome: record.outcome as i32,
            reason: record.reason as i32,
            finish_reason: record.finish_reason as i32,
            latency_us: record.latency.map(micros),
            first_token_us: record.time_to_first_token.map(micros),
            provider_request_id: record.provider_request_id.clone(),
            created_at: record.created_at,
            expires_at: asked.expires_at,
            settled_at: record.settled_at,
        }
    }
}

impl TryFrom<RecordRow> for Record {
    type Error = Error;

    /// INTERNAL when the row was not written by us.
    fn try_from(row: RecordRow) -> Result<Self> {
        let broken = || Error::internal(format!("the record of attempt {:?} is damaged", row.attempt_id));
        Ok(Self {
            state: State::from_number(row.state).ok_or_else(broken)?,
            outcome: AttemptOutcome::try_from(row.outcome).map_err(|_| broken())?,
            reason: ErrorReason::try_from(row.reason).map_err(|_| broken())?,
            finish_reason: FinishReason::try_from(row.finish_reason).map_err(|_| broken())?,
            reservation: Reservation {
                attempt_id: AttemptId::parse(&row.attempt_id).map_err(|_| broken())?,
                request_id: row.request_id,
                backend: row.backend,
                provider: row.provider,
                model: row.model,
                credential: row.credential,
                attribution: row.attribution.into(),
                worst_case: row.worst_case.0.into(),
                prices: row.prices.0.into(),
                expires_at: row.expires_at,
            },
            principal: row.principal,
            held: NanoUsd(row.held_nano_usd),
            tokens: row.tokens.into(),
            cost: NanoUsd(row.cost_nano_usd),
            over_hold: row.over_hold,
            tokens_estimated: row.tokens_estimated,
            latency: row.latency_us.map(duration),
            time_to_first_token: row.first_token_us.map(duration),
            provider_request_id: row.provider_request_id,
            created_at: row.created_at,
            settled_at: row.settled_at,
        })
    }
}

/// A duration as the column has it.
pub(super) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn duration(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}
