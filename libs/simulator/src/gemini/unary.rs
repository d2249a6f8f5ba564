//! A complete `GenerateContentResponse`.

use serde_json::{Map, Value, json};

use super::signs;
use crate::digest;
use crate::plan::{Finish, Plan, Segment, ToolCall, Usage};

/// A scripted finish reason by which the prompt itself is blocked.
const BLOCKED: &str = "blocked";

pub(crate) fn response(plan: &Plan) -> Value {
    let mut answer = skeleton(plan);
    if is_blocked(plan) {
        answer["promptFeedback"] = json!({"blockReason": "SAFETY"});
    } else {
        let candidates: Vec<Value> = (0..plan.choices).map(|n| candidate(plan, n)).collect();
        answer["candidates"] = Value::Array(candidates);
    }
    if let Some(usage) = &plan.usage {
        answer["usageMetadata"] = usage_of(usage, usage.output);
    }
    answer
}

pub(crate) fn is_blocked(plan: &Plan) -> bool {
    matches!(&plan.finish, Finish::Raw(reason) if reason == BLOCKED)
}

pub(crate) fn skeleton(plan: &Plan) -> Value {
    json!({"modelVersion": plan.model, "responseId": digest::token(plan.seed, 22)})
}

fn candidate(plan: &Plan, index: u64) -> Value {
    let mut parts = Vec::new();
    let mut calls = 0;
    for segment in &plan.segments {
        match segment {
            Segment::Think(text) => parts.push(json!({"text": text, "thought": true})),
            Segment::Text(text) => parts.push(json!({"text": text})),
            Segment::Tool(call) => {
                parts.extend(call_part(plan, call, calls == 0));
                calls += 1;
            }
        }
    }
    if calls == 0
        && signs(&plan.model)
        && let Some(last) = parts.last_mut()
    {
        last["thoughtSignature"] = json!(digest::sign("text"));
    }
    let mut content = json!({"role": "model"});
    if !parts.is_empty() {
        content["parts"] = Value::Array(parts);
    }
    let mut candidate = json!({"content": content, "finishReason": finish(plan)});
    if index > 0 {
        candidate["index"] = json!(index);
    }
    candidate
}

/// A call, unless a limit broke its arguments. The first of a step carries the signature.
pub(crate) fn call_part(plan: &Plan, call: &ToolCall, first: bool) -> Option<Value> {
    let args: Value = serde_json::from_str(&call.args).ok().filter(Value::is_object)?;
    let mut function = json!({"name": call.name, "args": args});
    if signs(&plan.model) {
        function["id"] = json!(call.key);
    }
    let mut part = json!({"functionCall": function});
    if first && signs(&plan.model) {
        part["thoughtSignature"] = json!(digest::sign(&call.name));
    }
    Some(part)
}

pub(crate) fn finish(plan: &Plan) -> &str {
    match &plan.finish {
        Finish::Stop | Finish::StopSequence(_) | Finish::ToolCalls => "STOP",
        Finish::Length => "MAX_TOKENS",
        Finish::ContentFilter => "SAFETY",
        Finish::Error => "OTHER",
        Finish::Raw(reason) => reason,
    }
}

/// Usage with `output` tokens so far, without what is 0. Thoughts are no candidates' tokens.
pub(crate) fn usage_of(usage: &Usage, output: u64) -> Value {
    let thoughts = usage.reasoning.min(output);
    let figures = [
        ("promptTokenCount", usage.input),
        ("cachedContentTokenCount", usage.cached),
        ("candidatesTokenCount", output - thoughts),
        ("thoughtsTokenCount", thoughts),
        ("totalTokenCount", usage.input.saturating_add(output)),
    ];
    let mut members: Map<String, Value> = figures
        .into_iter()
        .filter(|(_, figure)| *figure > 0)
        .map(|(name, figure)| (name.to_owned(), json!(figure)))
        .collect();
    let details = json!([{"modality": "TEXT", "tokenCount": usage.input}]);
    members.insert("promptTokensDetails".to_owned(), details);
    Value::Object(members)
}
