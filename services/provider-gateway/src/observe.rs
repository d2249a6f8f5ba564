//! What operators see of an attempt: a span by the GenAI conventions of OpenTelemetry, and metrics. Prompts and answers
//! stand in the span only where the configuration asks for it.

use std::time::Duration;

use serde_json::{Value as Json, json};
use tracing::Span;
use tutti_error::Reason;
use tutti_proto::llm::v1::{AttemptOutcome, FinishReason, Message, Role, Usage};
use tutti_telemetry::{self as telemetry, Array, Metrics, Value, set};
use tutti_types::{AttemptId, llm::Completion};

use crate::{domain::resolve::Resolved, plan::Plan};

/// The label of models that neither the catalogue nor the configuration has.
const OTHER: &str = "other";

/// The span of an attempt, from its reservation to its end; an empty one when nobody records the trace.
pub(crate) fn span(plan: &Plan, id: AttemptId) -> Span {
    if !telemetry::is_exporting() {
        return Span::none();
    }
    let span = telemetry::child(&format!("{} {}", plan.operation.name(), plan.target.model), true);
    if span.is_none() {
        return span;
    }
    set(&span, "gen_ai.operation.name", plan.operation.name());
    set(&span, "gen_ai.provider.name", provider_name(&plan.target.provider).to_owned());
    set(&span, "gen_ai.request.model", plan.target.model.clone());
    set(&span, "tutti.backend", plan.backend.config.name.clone());
    set(&span, "tutti.attempt_id", id.to_string());
    if let Some((host, port)) = plan.backend.upstream().ok().and_then(|upstream| upstream.address()) {
        set(&span, "server.address", host);
        set(&span, "server.port", i64::from(port));
    }
    if let Some(prompt) = &plan.prompt {
        set(&span, "gen_ai.input.messages", prompt.clone());
    }
    span
}

/// Notes what was answered, whole or in part.
pub(crate) fn answered(span: &Span, completion: &Completion) {
    if span.is_none() {
        return;
    }
    model(span, &completion.model);
    if let Some(text) = telemetry::redacted(&completion.text()) {
        let calls = completion.tool_calls.iter().map(|call| tool_call(&call.id, &call.name, &call.arguments));
        let parts: Vec<Json> = std::iter::once(text_part(&text)).chain(calls).collect();
        set(span, "gen_ai.output.messages", json!([{ "role": "assistant", "parts": parts }]).to_string());
    }
}

/// Notes which model answered.
pub(crate) fn model(span: &Span, model: &str) {
    if !span.is_none() && !model.is_empty() {
        set(span, "gen_ai.response.model", model.to_owned());
    }
}

/// The prompt as a span may have it, if it may.
pub(crate) fn prompt(messages: &[Message]) -> Option<String> {
    if !telemetry::captures_content() {
        return None;
    }
    let shown = |message: &Message| {
        let text = telemetry::redacted(&message.text).unwrap_or_default();
        let calls = message.tool_calls.iter().map(|call| tool_call(&call.id, &call.name, &call.arguments_json));
        let parts: Vec<Json> = std::iter::once(text_part(&text)).chain(calls).collect();
        json!({ "role": role(message.role()), "parts": parts })
    };
    Some(Json::Array(messages.iter().map(shown).collect()).to_string())
}

fn text_part(text: &str) -> Json {
    json!({ "type": "text", "content": text })
}

fn tool_call(id: &str, name: &str, arguments: &str) -> Json {
    let arguments = telemetry::redacted(arguments).unwrap_or_default();
    json!({ "type": "tool_call", "id": id, "name": name, "arguments": arguments })
}

fn role(role: Role) -> String {
    role.as_str_name().trim_start_matches("ROLE_").to_lowercase()
}

/// How an attempt ended.
pub(crate) struct Ended<'a> {
    pub(crate) outcome: AttemptOutcome,
    pub(crate) reason: Reason,
    pub(crate) finish: FinishReason,
    pub(crate) http_status: u16,
    pub(crate) usage: &'a Usage,
    /// From sending to the first piece of output.
    pub(crate) first_output: Option<Duration>,
}

/// Completes the span and counts.
pub(crate) fn ended(span: &Span, plan: &Plan, ended: &Ended<'_>) {
    if !span.is_none() {
        set(span, "gen_ai.usage.input_tokens", ended.usage.input_tokens);
        set(span, "gen_ai.usage.output_tokens", ended.usage.output_tokens);
        set(span, "gen_ai.usage.cache_read.input_tokens", ended.usage.cache_read_tokens);
        let finish = tail(ended.finish.as_str_name(), "FINISH_REASON_").to_lowercase();
        set(span, "gen_ai.response.finish_reasons", Value::Array(Array::String(vec![finish.into()])));
        set(span, "tutti.cost_nano_usd", ended.usage.cost_nano_usd);
        if ended.http_status > 0 {
            set(span, "http.response.status_code", i64::from(ended.http_status));
        }
        if ended.outcome != AttemptOutcome::Ok {
            telemetry::set_error(span, reason(ended.reason));
        }
    }
    if Metrics::are_recorded() {
        count(plan, ended);
    }
}

fn count(plan: &Plan, ended: &Ended<'_>) {
    let backend = &plan.backend.config.name;
    let model = model_label(&plan.model, &plan.backend.config.model);
    let outcome = tail(ended.outcome.as_str_name(), "ATTEMPT_OUTCOME_");
    let labels = [("backend", backend.clone()), ("model", model.to_owned())];
    metrics::counter!(Metrics::ATTEMPTS, "backend" => backend.clone(), "model" => model.to_owned(),
        "outcome" => outcome, "reason" => reason(ended.reason))
    .increment(1);
    let usage = ended.usage;
    // The parts are contained in the sums: nobody adds them up by mistake when they are kinds of their own.
    let kinds = [
        ("input", usage.input_tokens),
        ("cache_read", usage.cache_read_tokens),
        ("cache_write", usage.cache_write_tokens),
        ("output", usage.output_tokens),
        ("reasoning", usage.reasoning_tokens),
    ];
    for (kind, tokens) in kinds.into_iter().filter(|(_, tokens)| *tokens > 0) {
        metrics::counter!(Metrics::TOKENS, "backend" => backend.clone(), "model" => model.to_owned(), "kind" => kind)
            .increment(tokens.unsigned_abs());
    }
    metrics::counter!(Metrics::COST, &labels).increment(usage.cost_nano_usd.unsigned_abs());
    if let Some(first_output) = ended.first_output {
        metrics::histogram!(Metrics::FIRST_TOKEN, "backend" => backend.clone()).record(first_output);
    }
}

/// A name that callers can't make more of: the catalogue's, or the one that is configured.
fn model_label<'a>(model: &'a Resolved, configured: &'a str) -> &'a str {
    match &model.model {
        Some(known) => &known.id,
        None if model.wire == configured => configured,
        None => OTHER,
    }
}

fn reason(reason: Reason) -> &'static str {
    match reason {
        Reason::Unspecified => "",
        other => tail(other.as_str_name(), "ERROR_REASON_"),
    }
}

fn tail(name: &'static str, prefix: &str) -> &'static str {
    name.strip_prefix(prefix).unwrap_or(name)
}

/// The well-known value of `gen_ai.provider.name`, where the convention has one.
fn provider_name(provider: &str) -> &str {
    match provider {
        "claude" | "opus_self" => "anthropic",
        "gemini" | "google" => "gcp.gemini",
        "mistral" => "mistral_ai",
        "kimi" | "moonshot" => "moonshot_ai",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_cannot_make_series_by_naming_models() {
        let text = Metrics::of(|| {
            for n in 0..10_000 {
                let asked = Resolved { wire: format!("model-{n}"), model: None };
                let model = model_label(&asked, "model-7").to_owned();
                metrics::counter!(Metrics::ATTEMPTS, "model" => model).increment(1);
            }
        });
        let mut series: Vec<&str> = text.lines().filter(|line| line.starts_with("tutti_attempts_total{")).collect();
        // The exposition has no order.
        series.sort_unstable();
        assert_eq!(series, ["tutti_attempts_total{model=\"model-7\"} 1", "tutti_attempts_total{model=\"other\"} 9999"]);
    }

    #[test]
    fn reasons_have_the_name_that_callers_see() {
        assert_eq!((reason(Reason::BudgetExceeded), reason(Reason::Unspecified)), ("BUDGET_EXCEEDED", ""));
        assert_eq!(role(Role::Assistant), "assistant");
    }
}
