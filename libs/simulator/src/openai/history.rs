//! What OpenAI and the compatible servers refuse in the messages: order, tool results, ids
//! and reasoning that must come back.

use serde_json::Value;

use super::dialect::Dialect;
use crate::json;
use crate::problem::Problem;

const ROLES: [&str; 6] = ["system", "assistant", "user", "function", "tool", "developer"];

/// Refuses messages that the provider of the model refuses.
pub(crate) fn messages(body: &Value, dialect: Dialect) -> Result<(), Problem> {
    let Some(messages) = json::given(body, "messages") else {
        let message = "Missing required parameter: 'messages'.";
        return Err(Problem::invalid(message).at("messages").code("missing_required_parameter"));
    };
    let Some(messages) = messages.as_array() else {
        let message = "Invalid type for 'messages': expected an array of objects, but got \
                       something else instead.";
        return Err(Problem::invalid(message).at("messages").code("invalid_type"));
    };
    if messages.is_empty() {
        let message = "Invalid 'messages': empty array. Expected an array with minimum length 1, \
                       but got an empty array instead.";
        return Err(Problem::invalid(message).at("messages").code("empty_array"));
    }
    for (at, message) in messages.iter().enumerate() {
        shape(message, at)?;
    }
    order(messages)?;
    match dialect {
        Dialect::Mistral => mistral_ids(messages),
        Dialect::DeepSeek | Dialect::Kimi => reasoning(body, messages, dialect),
        _ => Ok(()),
    }
}

fn shape(message: &Value, at: usize) -> Result<(), Problem> {
    let role = json::text(message, "role");
    let param = format!("messages[{at}].role");
    if role.is_empty() {
        let text = format!("Missing required parameter: '{param}'.");
        return Err(Problem::invalid(text).at(param).code("missing_required_parameter"));
    }
    if !ROLES.contains(&role) {
        let text = format!(
            "Invalid value: '{role}'. Supported values are: 'system', 'assistant', 'user', \
             'function', 'tool', and 'developer'."
        );
        return Err(Problem::invalid(text).at(param).code("invalid_value"));
    }
    let param = format!("messages.[{at}].content");
    let called = role == "assistant"
        && ["tool_calls", "refusal", "audio", "function_call"].iter().any(|key| json::given(message, key).is_some());
    match message.get("content") {
        None | Some(Value::Null) if called => {}
        None | Some(Value::Null) => {
            let text = "Invalid value for 'content': expected a string, got null.";
            return Err(Problem::invalid(text).at(param));
        }
        Some(Value::Array(parts)) => parts_of(parts, role, at)?,
        Some(Value::String(_)) => {}
        Some(_) => {
            let text = format!(
                "Invalid type for 'messages[{at}].content': expected one of a string or array of \
                 objects, but got something else instead."
            );
            return Err(Problem::invalid(text).at(param).code("invalid_type"));
        }
    }
    calls_of(message, at)
}

fn parts_of(parts: &[Value], role: &str, at: usize) -> Result<(), Problem> {
    for (n, part) in parts.iter().enumerate() {
        let kind = json::text(part, "type");
        let allowed: &[&str] = match role {
            "user" => &["text", "image_url", "input_audio", "file"],
            // Mistral's reasoning comes back as parts.
            "assistant" => &["text", "refusal", "thinking"],
            _ => &["text"],
        };
        if !allowed.contains(&kind) {
            let param = format!("messages[{at}].content[{n}].type");
            let text = format!("Invalid value: '{kind}'. Supported values are: '{}'.", allowed.join("', '"));
            return Err(Problem::invalid(text).at(param).code("invalid_value"));
        }
        let image = part.pointer("/image_url/url").and_then(Value::as_str);
        let missing = kind == "image_url" && image.is_none_or(|url| !is_image(url));
        if missing {
            let param = format!("messages[{at}].content[{n}].image_url.url");
            let text = format!("Invalid '{param}'. Expected a valid URL or a base64-encoded data URL.");
            return Err(Problem::invalid(text).at(param).code("invalid_value"));
        }
    }
    Ok(())
}

fn is_image(url: &str) -> bool {
    url.starts_with("https://") || url.starts_with("http://") || url.starts_with("data:image/")
}

fn calls_of(message: &Value, at: usize) -> Result<(), Problem> {
    for (n, call) in json::list(message, "tool_calls").iter().enumerate() {
        let param = format!("messages[{at}].tool_calls[{n}]");
        let custom = call.get("custom").is_some();
        for (pointer, name) in
            [("/id", "id"), ("/function/name", "function.name"), ("/function/arguments", "function.arguments")]
        {
            if custom && name != "id" {
                continue;
            }
            match call.pointer(pointer) {
                Some(Value::String(_)) => {}
                None => {
                    let text = format!("Missing required parameter: '{param}.{name}'.");
                    return Err(Problem::invalid(text)
                        .at(format!("{param}.{name}"))
                        .code("missing_required_parameter"));
                }
                Some(_) => {
                    let text = format!(
                        "Invalid type for '{param}.{name}': expected a string, but got an object \
                         instead."
                    );
                    return Err(Problem::invalid(text).at(format!("{param}.{name}")).code("invalid_type"));
                }
            }
        }
    }
    Ok(())
}

/// Tool messages answer exactly the calls of the assistant message before them.
fn order(messages: &[Value]) -> Result<(), Problem> {
    let mut open: Vec<&str> = Vec::new();
    let mut answering = false;
    for (at, message) in messages.iter().enumerate() {
        if json::text(message, "role") == "tool" {
            let id = json::text(message, "tool_call_id");
            if !answering {
                let text = "Invalid parameter: messages with role 'tool' must be a response to a \
                            preceeding message with 'tool_calls'.";
                return Err(Problem::invalid(text).at(format!("messages.[{at}].role")));
            }
            let Some(found) = open.iter().position(|open| *open == id) else {
                let text = format!(
                    "Invalid parameter: 'tool_call_id' of '{id}' not found in 'tool_calls' of \
                     previous message."
                );
                return Err(Problem::invalid(text).at(format!("messages.[{at}].tool_call_id")));
            };
            open.remove(found);
            continue;
        }
        unanswered(&open, at)?;
        let calls = json::list(message, "tool_calls");
        open = calls.iter().map(|call| json::text(call, "id")).collect();
        answering = !calls.is_empty();
    }
    unanswered(&open, messages.len())
}

fn unanswered(open: &[&str], at: usize) -> Result<(), Problem> {
    if open.is_empty() {
        return Ok(());
    }
    let text = format!(
        "An assistant message with 'tool_calls' must be followed by tool messages responding to \
         each 'tool_call_id'. The following tool_call_ids did not have response messages: {}",
        open.join(", ")
    );
    Err(Problem::invalid(text).at(format!("messages.[{at}].role")))
}

fn mistral_ids(messages: &[Value]) -> Result<(), Problem> {
    let calls = messages.iter().flat_map(|message| json::list(message, "tool_calls"));
    let ids = calls
        .map(|call| json::text(call, "id"))
        .chain(messages.iter().filter_map(|m| m.get("tool_call_id").and_then(Value::as_str)));
    for id in ids {
        if id.len() != 9 || !id.chars().all(|c| c.is_ascii_alphanumeric()) {
            let text = format!("Tool call id was {id} but must be a-z, A-Z, 0-9, with a length of 9.");
            return Err(Problem::invalid(text).code("3280"));
        }
    }
    Ok(())
}

/// Reasoning that came with tool calls must come back with them. A call of this simulator
/// tells by its id whether reasoning came with it; a foreign one may have had none, but the
/// member must be there.
fn reasoning(body: &Value, messages: &[Value], dialect: Dialect) -> Result<(), Problem> {
    let mode = body.get("thinking").map(|thinking| json::text(thinking, "type"));
    if mode == Some("disabled") {
        return Ok(());
    }
    let mut called = false;
    for (at, message) in messages.iter().enumerate() {
        if json::text(message, "role") != "assistant" {
            continue;
        }
        let calls = json::list(message, "tool_calls");
        called |= !calls.is_empty();
        // DeepSeek wants it on every later message too, Kimi only where tools were called.
        let wanted = if dialect == Dialect::Kimi { !calls.is_empty() } else { called };
        let own = calls.iter().any(|call| json::text(call, "id").starts_with("call_simr"));
        let thought = message.get("reasoning_content").and_then(Value::as_str);
        if wanted && (thought.is_none() || (own && thought == Some(""))) {
            let text = match dialect {
                Dialect::Kimi => format!(
                    "thinking is enabled but reasoning_content is missing in assistant tool call \
                     message at index {at}"
                ),
                _ => "The `reasoning_content` in the thinking mode must be passed back to the \
                      API."
                    .to_owned(),
            };
            return Err(Problem::invalid(text).code("invalid_request_error"));
        }
    }
    Ok(())
}
