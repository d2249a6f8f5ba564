//! Reads a Chat Completions request.

use serde_json::Value;

use super::dialect::Dialect;
use crate::ask::{Ask, Output, Role, ToolChoice, ToolSpec, Turn};
use crate::json;

/// Tokens an image or a file counts.
const MEDIA_TOKENS: u64 = 85;

pub(crate) fn read(body: &Value) -> Ask {
    let mut ask = Ask::new(json::text(body, "model"));
    ask.stream = json::flag(body, "stream");
    ask.parallel = body.get("parallel_tool_calls").and_then(Value::as_bool).unwrap_or(true);
    ask.choices = body.get("n").and_then(Value::as_u64).unwrap_or(1);
    ask.stops = json::texts(body, "stop");
    let limit = |key: &str| body.get(key).and_then(Value::as_u64);
    ask.max_tokens = limit("max_completion_tokens").or_else(|| limit("max_tokens"));
    ask.think = think(body, Dialect::of(&ask.model));
    for message in json::list(body, "messages") {
        read_message(&mut ask, message, json::list(body, "messages"));
    }
    for tool in json::list(body, "tools") {
        let function = tool.get("function").unwrap_or(tool);
        ask.tools.push(ToolSpec {
            name: json::text(function, "name").to_owned(),
            schema: function.get("parameters").cloned().unwrap_or_else(|| serde_json::json!({})),
        });
    }
    ask.choice = choice(body);
    ask.output = output(body);
    ask
}

fn think(body: &Value, dialect: Dialect) -> Option<bool> {
    let kind = body.get("thinking").map(|thinking| json::text(thinking, "type"));
    match (kind, json::text(body, "reasoning_effort")) {
        (Some("disabled"), _) | (_, "none") => Some(false),
        (Some("enabled"), _) => Some(true),
        (_, "") => dialect.always_thinks().then_some(true),
        _ => Some(true),
    }
}

fn choice(body: &Value) -> ToolChoice {
    match body.get("tool_choice") {
        Some(Value::String(word)) => match word.as_str() {
            "none" => ToolChoice::None,
            "required" | "any" => ToolChoice::Any,
            _ => ToolChoice::Auto,
        },
        Some(object) => match object.get("function") {
            Some(function) => ToolChoice::Named(json::text(function, "name").to_owned()),
            None => ToolChoice::Auto,
        },
        None => ToolChoice::Auto,
    }
}

fn output(body: &Value) -> Output {
    let Some(format) = body.get("response_format") else { return Output::Text };
    match json::text(format, "type") {
        "json_object" => Output::Json,
        "json_schema" => match format.pointer("/json_schema/schema") {
            Some(schema) => Output::Schema(schema.clone()),
            None => Output::Json,
        },
        _ => Output::Text,
    }
}

fn read_message(ask: &mut Ask, message: &Value, all: &[Value]) {
    let text = text_of(ask, message.get("content"));
    let role = match json::text(message, "role") {
        "system" | "developer" => Role::System,
        "assistant" => Role::Assistant,
        "tool" => {
            let name = tool_name(all, json::text(message, "tool_call_id"));
            let mut turn = Turn::text(Role::User, String::new());
            turn.results.push((name, text));
            ask.turns.push(turn);
            return;
        }
        _ => Role::User,
    };
    let mut turn = Turn::text(role, text);
    for call in json::list(message, "tool_calls") {
        let function = call.get("function").unwrap_or(call);
        turn.calls.push(json::text(function, "name").to_owned());
    }
    ask.turns.push(turn);
}

/// The text of a message's content; other parts count their tokens.
fn text_of(ask: &mut Ask, content: Option<&Value>) -> String {
    match content {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => {
            let mut text = String::new();
            for part in parts {
                match json::text(part, "type") {
                    "text" => text.push_str(json::text(part, "text")),
                    "refusal" | "thinking" => {}
                    _ => ask.media_tokens += MEDIA_TOKENS,
                }
            }
            text
        }
        _ => String::new(),
    }
}

/// The name of the call with this id, or the id when no message makes such a call.
fn tool_name(all: &[Value], id: &str) -> String {
    let calls = all.iter().flat_map(|message| json::list(message, "tool_calls"));
    let found = calls.into_iter().find(|call| json::text(call, "id") == id);
    let function = found.and_then(|call| call.get("function"));
    function.map_or(id, |function| json::text(function, "name")).to_owned()
}
