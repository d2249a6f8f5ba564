//! Reads a Messages request.

use std::collections::HashMap;

use serde_json::Value;

use crate::ask::{Ask, Output, Role, ToolChoice, ToolSpec, Turn};
use crate::json;

/// Tokens an image or a document counts.
const MEDIA_TOKENS: u64 = 400;

pub(crate) fn read(body: &Value) -> Ask {
    let mut ask = Ask::new(json::text(body, "model"));
    ask.stream = json::flag(body, "stream");
    ask.max_tokens = body.get("max_tokens").and_then(Value::as_u64);
    ask.stops = json::texts(body, "stop_sequences");
    ask.think = match body.get("thinking").map(|thinking| json::text(thinking, "type")) {
        Some("enabled" | "adaptive" | "between_tools") => Some(true),
        Some("disabled") => Some(false),
        _ => None,
    };
    let choice = body.get("tool_choice").unwrap_or(&Value::Null);
    ask.parallel = !json::flag(choice, "disable_parallel_tool_use");
    ask.choice = match json::text(choice, "type") {
        "any" => ToolChoice::Any,
        "tool" => ToolChoice::Named(json::text(choice, "name").to_owned()),
        "none" => ToolChoice::None,
        _ => ToolChoice::Auto,
    };
    if let Some(schema) = body.pointer("/output_config/format/schema") {
        ask.output = Output::Schema(schema.clone());
    }
    for tool in json::list(body, "tools") {
        ask.tools.push(ToolSpec {
            name: json::text(tool, "name").to_owned(),
            schema: tool.get("input_schema").cloned().unwrap_or_else(|| serde_json::json!({})),
        });
    }
    if let Some(system) = json::given(body, "system") {
        let text = text_of(&mut ask, system);
        ask.turns.push(Turn::text(Role::System, text));
    }
    let mut names = HashMap::new();
    for message in json::list(body, "messages") {
        read_message(&mut ask, message, &mut names);
    }
    ask
}

fn read_message<'a>(ask: &mut Ask, message: &'a Value, names: &mut HashMap<&'a str, &'a str>) {
    let role = match json::text(message, "role") {
        "assistant" => Role::Assistant,
        "system" => Role::System,
        _ => Role::User,
    };
    let content = message.get("content").unwrap_or(&Value::Null);
    let mut turn = Turn::text(role, text_of(ask, content));
    for block in content.as_array().into_iter().flatten() {
        match json::text(block, "type") {
            "tool_use" => {
                names.insert(json::text(block, "id"), json::text(block, "name"));
                turn.calls.push(json::text(block, "name").to_owned());
            }
            "tool_result" => {
                let id = json::text(block, "tool_use_id");
                let result = text_of(ask, block.get("content").unwrap_or(&Value::Null));
                let name = names.get(id).copied().unwrap_or(id).to_owned();
                turn.results.push((name, result));
            }
            _ => {}
        }
    }
    ask.turns.push(turn);
}

/// The text of a content, which is a text or a list of blocks.
fn text_of(ask: &mut Ask, content: &Value) -> String {
    if let Some(text) = content.as_str() {
        return text.to_owned();
    }
    let mut text = String::new();
    for block in content.as_array().into_iter().flatten() {
        match json::text(block, "type") {
            "text" => text.push_str(json::text(block, "text")),
            "image" | "document" => ask.media_tokens += MEDIA_TOKENS,
            _ => {}
        }
    }
    text
}
