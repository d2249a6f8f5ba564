//! A complete Chat Completions answer.

use serde_json::{Value, json};

use super::dialect::{Dialect, completion_id, now};
use crate::plan::Plan;

pub(crate) fn completion(plan: &Plan) -> Value {
    let dialect = Dialect::of(&plan.model);
    let choices: Vec<Value> = (0..plan.choices)
        .map(|index| {
            json!({"index": index, "message": message(plan, dialect), "logprobs": null,
                "finish_reason": dialect.finish(plan)})
        })
        .collect();
    let mut answer = json!({
        "id": completion_id(plan), "object": "chat.completion", "created": now(),
        "model": plan.model, "choices": choices,
        "service_tier": "default", "system_fingerprint": "sim",
    });
    if let Some(usage) = &plan.usage {
        answer["usage"] = dialect.usage(usage);
    }
    answer
}

fn message(plan: &Plan, dialect: Dialect) -> Value {
    let mut message = json!({"role": "assistant", "content": plan.text()});
    if dialect.is_strict() {
        message["refusal"] = Value::Null;
        message["annotations"] = json!([]);
    }
    if let Some(thought) = plan.thought() {
        if let Some(field) = dialect.thought_field() {
            message[field] = json!(thought);
        } else if dialect == Dialect::Mistral {
            message["content"] = json!([
                {"type": "thinking", "thinking": [{"type": "text", "text": thought}]},
                {"type": "text", "text": plan.text().unwrap_or_default()}
            ]);
        }
    }
    let calls: Vec<Value> = plan
        .calls()
        .map(|call| {
            json!({"id": dialect.call_id(call, plan.thinks()), "type": "function",
                "function": {"name": call.name, "arguments": call.args}})
        })
        .collect();
    if !calls.is_empty() {
        message["tool_calls"] = Value::Array(calls);
    }
    message
}
