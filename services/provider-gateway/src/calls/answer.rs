//! The answer that both forms of a generation end with.

use std::time::Duration;

use tutti_proto::{
    gateway::v1::GenerateResponse,
    llm::v1::{Attempt, FinishReason, Usage},
};
use tutti_types::{
    llm::{Completion, Finish},
    time,
};

use crate::plan::Plan;

/// What is told of a generation that ended, well or not.
pub(super) fn response(
    plan: &Plan,
    completion: &Completion,
    finish: FinishReason,
    attempts: Vec<Attempt>,
    first_token: Option<Duration>,
) -> GenerateResponse {
    let model = if completion.model.is_empty() { &plan.target.model } else { &completion.model };
    GenerateResponse {
        request_id: plan.request_id.to_string(),
        message: Some(completion.to_wire_message()),
        finish_reason: finish.into(),
        usage: Some(sum(&attempts)),
        backend: plan.backend.config.name.clone(),
        provider: plan.target.provider.clone(),
        model: model.clone(),
        provider_request_id: completion.provider_request_id.clone(),
        attempts,
        cached: false,
        latency: Some(time::to_wire(plan.arrived.elapsed())),
        time_to_first_token: first_token.map(time::to_wire),
        warnings: plan.warnings.iter().chain(&completion.warnings).cloned().collect(),
        raw: String::new(),
        provider_finish_reason: completion.raw_finish.clone(),
    }
}

/// An answer of which nothing came.
pub(super) fn nothing() -> Completion {
    Completion {
        parts: Vec::new(),
        tool_calls: Vec::new(),
        finish: Finish::Stop,
        raw_finish: String::new(),
        tokens: None,
        model: String::new(),
        provider_request_id: String::new(),
        warnings: Vec::new(),
    }
}

/// What all attempts used and cost together.
pub(super) fn sum(attempts: &[Attempt]) -> Usage {
    attempts.iter().filter_map(|attempt| attempt.usage).fold(Usage::default(), |sum, usage| Usage {
        input_tokens: sum.input_tokens.saturating_add(usage.input_tokens),
        cache_read_tokens: sum.cache_read_tokens.saturating_add(usage.cache_read_tokens),
        cache_write_tokens: sum.cache_write_tokens.saturating_add(usage.cache_write_tokens),
        output_tokens: sum.output_tokens.saturating_add(usage.output_tokens),
        reasoning_tokens: sum.reasoning_tokens.saturating_add(usage.reasoning_tokens),
        cost_nano_usd: sum.cost_nano_usd.saturating_add(usage.cost_nano_usd),
        estimated: sum.estimated || usage.estimated,
    })
}
