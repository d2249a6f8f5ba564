//! Reads a chat request.

use serde_json::{Value, json};

use crate::ask::{Ask, Output, Role, ToolSpec, Turn};
use crate::json;

/// Tokens an image counts.
const IMAGE_TOKENS: u64 = 256;

/// A request without messages only loads the model.
pub(crate) fn is_load(body: &Value) -> bool {
    json::list(body, "messages").is_empty()
}

pub(crate) fn read(body: &Value) -> Ask {
    let mut ask = Ask::new(json::text(body, "model"));
    ask.stream = body.get("stream").and_then(Value::as_bool).unwrap_or(true);
    let null = Value::Null;
    let options = body.get("options").unwrap_or(&null);
    // Negative means without limit.
    ask.max_tokens = options.get("num_predict").and_then(Value::as_u64);
    ask.stops = json::texts(options, "stop");
    ask.think = match body.get("think") {
        Some(Value::Bool(think)) => Some(*think),
        Some(Value::String(_)) => Some(true),
        _ => None,
    };
    ask.output = match json::given(body, "format") {
        Some(Value::String(word)) if word == "json" => Output::Json,
        Some(schema @ Value::Object(_)) => Output::Schema(schema.clone()),
        _ => Output::Text,
    };
    if is_load(body) {
        ask.max_tokens = Some(0);
    }
    for tool in json::list(body, "tools") {
        let function = tool.get("function").unwrap_or(tool);
        ask.tools.push(ToolSpec {
            name: json::text(function, "name").to_owned(),
            schema: function.get("parameters").cloned().unwrap_or_else(|| json!({})),
        });
    }
    for message in json::list(body, "messages") {
        let images = json::list(message, "images").len();
        ask.media_tokens += IMAGE_TOKENS * u64::try_from(images).unwrap_or_default();
        let turn = turn(&ask, message);
        ask.turns.push(turn);
    }
    ask
}

fn turn(ask: &Ask, message: &Value) -> Turn {
    let text = json::text(message, "content").to_owned();
    let role = match json::text(message, "role") {
        "system" => Role::System,
        "assistant" => Role::Assistant,
        "tool" => {
            let mut turn = Turn::text(Role::User, String::new());
            turn.results.push((result_name(ask, message), text));
            return turn;
        }
        _ => Role::User,
    };
    let mut turn = Turn::text(role, text);
    for call in json::list(message, "tool_calls") {
        let function = call.get("function").unwrap_or(call);
        turn.calls.push(json::text(function, "name").to_owned());
    }
    turn
}

/// The tool's name; an old client names none, so it is the next call's without a result.
fn result_name(ask: &Ask, message: &Value) -> String {
    let named = json::text(message, "tool_name");
    if !named.is_empty() {
        return named.to_owned();
    }
    let Some(at) = ask.turns.iter().rposition(|turn| !turn.calls.is_empty()) else {
        return "tool".to_owned();
    };
    let answered = ask.turns.len() - at - 1;
    ask.turns[at].calls.get(answered).cloned().unwrap_or_else(|| "tool".to_owned())
}
