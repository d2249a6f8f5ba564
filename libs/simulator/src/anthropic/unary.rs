//! A complete Messages answer.

use serde_json::{Value, json};

use crate::digest;
use crate::plan::{Finish, Plan, Segment, ToolCall, Usage};

pub(crate) fn message(plan: &Plan) -> Value {
    let content: Vec<Value> = plan.segments.iter().map(|part| block(part, plan.thinks())).collect();
    let mut message = skeleton(plan);
    message["content"] = Value::Array(content);
    let (reason, sequence) = stop(plan);
    message["stop_reason"] = json!(reason);
    message["stop_sequence"] = json!(sequence);
    if reason == "refusal" {
        message["stop_details"] = refusal();
    }
    if let Some(usage) = &plan.usage {
        message["usage"] = usage_of(usage, usage.output);
    }
    message
}

/// The members that the unary answer and `message_start` share, without usage.
pub(crate) fn skeleton(plan: &Plan) -> Value {
    json!({"id": format!("msg_sim{}", digest::token(plan.seed, 21)), "type": "message",
        "role": "assistant", "model": plan.model, "content": [],
        "stop_reason": null, "stop_sequence": null})
}

/// Ids made after reasoning say so (`toolu_simr`): their reasoning must come back.
pub(crate) fn call_id(call: &ToolCall, thought: bool) -> String {
    let mark = if thought { "simr" } else { "sim" };
    format!("toolu_{mark}{}", call.key)
}

fn block(part: &Segment, thought: bool) -> Value {
    match part {
        Segment::Think(text) => {
            json!({"type": "thinking", "thinking": text, "signature": digest::sign(text)})
        }
        Segment::Text(text) => json!({"type": "text", "text": text}),
        Segment::Tool(call) => json!({"type": "tool_use", "id": call_id(call, thought),
            "name": call.name, "input": call.args_object()}),
    }
}

/// The stop reason and the sequence that came up.
pub(crate) fn stop(plan: &Plan) -> (&str, Option<&str>) {
    match &plan.finish {
        Finish::Stop => ("end_turn", None),
        Finish::StopSequence(stop) => ("stop_sequence", Some(stop)),
        Finish::Length => ("max_tokens", None),
        Finish::ToolCalls => ("tool_use", None),
        Finish::ContentFilter => ("refusal", None),
        Finish::Error => ("error", None),
        Finish::Raw(reason) => (reason, None),
    }
}

/// What `stop_details` says of a refusal.
pub(crate) fn refusal() -> Value {
    json!({"type": "refusal", "category": null, "explanation": "Refused as scripted."})
}

/// Usage with `output` tokens so far. `input_tokens` excludes what the cache took part in.
pub(crate) fn usage_of(usage: &Usage, output: u64) -> Value {
    json!({
        "input_tokens": usage.input.saturating_sub(usage.cached + usage.cache_write),
        "cache_creation_input_tokens": usage.cache_write,
        "cache_read_input_tokens": usage.cached,
        "cache_creation": {"ephemeral_5m_input_tokens": usage.cache_write,
            "ephemeral_1h_input_tokens": 0},
        "output_tokens": output,
        "output_tokens_details": {"thinking_tokens": usage.reasoning.min(output)},
        "service_tier": "standard",
    })
}
