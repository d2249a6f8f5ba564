//! The request for a generation.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};
use tutti_error::Reason;
use tutti_types::llm::{
    Content, Effort, Format, Generation, MediaSource, Message, Part, Sampling, Tool, ToolCall, ToolMode,
};

use crate::{HttpRequest, ProviderError, Result, Target};

pub(super) fn generate(generation: &Generation, target: &Target, stream: bool) -> Result<HttpRequest> {
    let mut warnings = Vec::new();
    let mut body = json!({
        "model": target.model,
        // Its default is true.
        "stream": stream,
        // Else the beginning of a long conversation is lost without a word.
        "truncate": false,
        "messages": messages(&generation.messages, target)?,
        "options": options(&generation.sampling, target, &mut warnings),
    });
    let tools = tools(generation, &mut warnings)?;
    if !tools.is_empty() {
        body["tools"] = Value::Array(tools);
    }
    match &generation.format {
        Format::Text => {}
        Format::Json => body["format"] = json!("json"),
        Format::Schema(wanted) => body["format"] = wanted.schema.clone(),
    }
    if let Some(think) = think(generation.sampling.effort, target, &mut warnings) {
        body["think"] = think;
    }
    Ok(HttpRequest { body: Some(body.to_string().into()), path: "/api/chat".into(), headers: Vec::new(), warnings })
}

fn messages(messages: &[Message], target: &Target) -> Result<Vec<Value>> {
    messages
        .iter()
        .map(|message| {
            let mut out = match message {
                Message::System { .. } => json!({"role": "system"}),
                Message::User { .. } => json!({"role": "user"}),
                Message::Assistant { parts, tool_calls } => assistant(parts, tool_calls, target)?,
                // Results are matched by the tool's name; newer servers read the id too.
                Message::Tool { call_id, name, .. } => {
                    json!({"role": "tool", "tool_name": name, "tool_call_id": call_id})
                }
            };
            out["content"] = json!(message.text());
            let images = images(message.parts())?;
            if !images.is_empty() {
                out["images"] = Value::Array(images);
            }
            Ok(out)
        })
        .collect()
}

fn assistant(parts: &[Part], tool_calls: &[ToolCall], target: &Target) -> Result<Value> {
    let mut out = json!({"role": "assistant"});
    let state = |part: &Part| match &part.content {
        Content::Reasoning(r) => r.state.as_ref()?.for_target(&target.provider, &target.model).cloned(),
        _ => None,
    };
    let thinking: String =
        parts.iter().filter_map(state).map(|data| String::from_utf8_lossy(&data).into_owned()).collect();
    if !thinking.is_empty() {
        out["thinking"] = json!(thinking);
    }
    if !tool_calls.is_empty() {
        out["tool_calls"] = tool_calls.iter().map(call).collect::<Result<_>>()?;
    }
    Ok(out)
}

fn call(call: &ToolCall) -> Result<Value> {
    let arguments: Map<String, Value> = serde_json::from_str(&call.arguments)
        .map_err(|_| ProviderError::malformed("the arguments of an earlier tool call are no JSON object"))?;
    Ok(json!({"id": call.id, "function": {"name": call.name, "arguments": arguments}}))
}

/// Pictures as bare base64; there is no place for anything else.
fn images(parts: &[Part]) -> Result<Vec<Value>> {
    let mut out = Vec::new();
    for part in parts {
        match &part.content {
            Content::Text(_) | Content::Reasoning(_) => {}
            Content::Image(media) => match &media.source {
                MediaSource::Inline(bytes) => out.push(json!(STANDARD.encode(bytes))),
                MediaSource::Url(_) => return Err(unsupported("Ollama takes pictures inline only")),
            },
            Content::Audio(_) => return Err(unsupported("Ollama takes no sounds")),
            Content::File(_) => return Err(unsupported("Ollama takes no documents")),
        }
    }
    Ok(out)
}

fn options(asked: &Sampling, target: &Target, warnings: &mut Vec<String>) -> Value {
    let mut out = Map::new();
    let cap = match (asked.max_output_tokens, target.max_output_tokens) {
        (Some(asked), Some(most)) if asked > most => {
            warnings.push(format!("the model writes at most {most} tokens; the output cap was lowered to that"));
            Some(most)
        }
        (asked, _) => asked,
    };
    let numbers = [
        ("num_predict", cap.map(Value::from)),
        ("temperature", asked.temperature.map(Value::from)),
        ("top_p", asked.top_p.map(Value::from)),
        ("top_k", asked.top_k.map(Value::from)),
        ("seed", asked.seed.map(Value::from)),
        ("presence_penalty", asked.presence_penalty.map(Value::from)),
        ("frequency_penalty", asked.frequency_penalty.map(Value::from)),
        ("stop", (!asked.stop.is_empty()).then(|| json!(asked.stop))),
    ];
    out.extend(numbers.into_iter().filter_map(|(field, value)| Some((field.to_owned(), value?))));
    Value::Object(out)
}

fn tools(generation: &Generation, warnings: &mut Vec<String>) -> Result<Vec<Value>> {
    if generation.tools.is_empty() {
        return Ok(Vec::new());
    }
    match generation.tool_choice.mode {
        ToolMode::Auto => {}
        // There is no switch, so the model does not get to see them.
        ToolMode::None => return Ok(Vec::new()),
        ToolMode::Required | ToolMode::Tool(_) => return Err(unsupported("Ollama can't require a tool call")),
    }
    if generation.tool_choice.parallel == Some(false) {
        warnings.push("several calls in one answer can't be forbidden here".into());
    }
    let tool = |tool: &Tool| {
        let function = json!({"name": tool.name, "description": tool.description, "parameters": tool.parameters});
        json!({"type": "function", "function": function})
    };
    Ok(generation.tools.iter().map(tool).collect())
}

fn think(effort: Option<Effort>, target: &Target, warnings: &mut Vec<String>) -> Option<Value> {
    let effort = effort?;
    if !target.reasoning {
        if effort != Effort::None {
            warnings.push("the model does not reason, as far as is known; the effort was left out".into());
        }
        return None;
    }
    // Only gpt-oss has levels, and can't be told not to think.
    if !target.model.contains("gpt-oss") {
        return Some(json!(effort != Effort::None));
    }
    Some(json!(match effort {
        Effort::None | Effort::Minimal | Effort::Low => "low",
        Effort::Medium => "medium",
        Effort::High | Effort::Max => "high",
    }))
}

fn unsupported(message: &str) -> ProviderError {
    ProviderError::new(Reason::Unsupported, message)
}
