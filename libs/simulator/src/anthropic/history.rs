//! What the Messages API refuses in the messages: roles, blocks, tool results that do not
//! follow their calls, and reasoning that was altered or dropped.

use serde_json::Value;

use super::model;
use super::validate::{Version, is_name};
use crate::digest;
use crate::json;
use crate::problem::Problem;

const BLOCKS: [&str; 11] = [
    "text",
    "image",
    "document",
    "tool_use",
    "tool_result",
    "thinking",
    "redacted_thinking",
    "server_tool_use",
    "web_search_tool_result",
    "search_result",
    "container_upload",
];

/// A turn: consecutive messages of one role count as one.
struct Turn<'a> {
    role: &'a str,
    /// Each block with its place, e.g. `messages.1.content.0`.
    blocks: Vec<(String, &'a Value)>,
    index: usize,
}

/// Refuses messages that the API refuses.
pub(crate) fn messages(body: &Value, version: Version) -> Result<(), Problem> {
    let messages = json::list(body, "messages");
    if messages.is_empty() {
        return Err(Problem::invalid("messages: at least one message is required"));
    }
    let new = model::is_new(json::text(body, "model"));
    let mut turns: Vec<Turn<'_>> = Vec::new();
    for (at, message) in messages.iter().enumerate() {
        let role = json::text(message, "role");
        let known = matches!(role, "user" | "assistant") || (role == "system" && new);
        if !known {
            let text = format!("messages.{at}.role: Input should be 'user' or 'assistant', got \"{role}\"");
            return Err(Problem::invalid(text));
        }
        let blocks = content(message, at)?;
        for (place, block) in &blocks {
            check_block(place, block, role, version)?;
        }
        match turns.last_mut() {
            Some(last) if last.role == role => last.blocks.extend(blocks),
            _ => turns.push(Turn { role, blocks, index: at }),
        }
    }
    if messages.first().is_some_and(|first| json::text(first, "role") == "assistant") {
        let text = "messages: first message must use the \"user\" role";
        return Err(Problem::invalid(text));
    }
    let conversation: Vec<&Turn<'_>> = turns.iter().filter(|turn| turn.role != "system").collect();
    tool_order(&conversation)?;
    prefill(body, &conversation)?;
    reasoning(body, &conversation)
}

fn content(message: &Value, at: usize) -> Result<Vec<(String, &Value)>, Problem> {
    let place = format!("messages.{at}.content");
    match json::given(message, "content") {
        None => Err(Problem::invalid(format!("{place}: Field required"))),
        Some(Value::String(text)) if text.is_empty() => Err(Problem::invalid(format!(
            "messages.{at}: all messages must have non-empty content \
                except for the optional final assistant message"
        ))),
        Some(text @ Value::String(_)) => Ok(vec![(place, text)]),
        Some(Value::Array(blocks)) => {
            Ok(blocks.iter().enumerate().map(|(n, block)| (format!("{place}.{n}"), block)).collect())
        }
        Some(_) => Err(Problem::invalid(format!("{place}: Input should be a valid list"))),
    }
}

fn check_block(place: &str, block: &Value, role: &str, version: Version) -> Result<(), Problem> {
    if block.is_string() {
        return Ok(());
    }
    let kind = json::text(block, "type");
    if !BLOCKS.contains(&kind) {
        let text = format!(
            "{place}: Input tag '{kind}' found using 'type' does not match any of the expected \
             tags: '{}'",
            BLOCKS.join("', '")
        );
        return Err(Problem::invalid(text));
    }
    let required = |field: &str| {
        let text = format!("{place}.{kind}.{field}: Field required");
        json::given(block, field).map(|_| ()).ok_or_else(|| Problem::invalid(text))
    };
    match kind {
        "text" if json::text(block, "text").is_empty() => {
            return Err(Problem::invalid("messages: text content blocks must be non-empty"));
        }
        "text" if version == Version::V2026 && role == "user" && !json::list(block, "citations").is_empty() => {
            let text = format!("{place}.text.citations: Extra inputs are not permitted");
            return Err(Problem::invalid(text));
        }
        "document" if version == Version::V2026 && role == "assistant" => {
            let text = format!("{place}: `document` blocks are not allowed in assistant messages");
            return Err(Problem::invalid(text));
        }
        "tool_use" => check_call(place, block)?,
        "tool_result" => required("tool_use_id")?,
        "redacted_thinking" => required("data")?,
        "image" | "document" => required("source")?,
        "thinking" => {
            required("thinking")?;
            required("signature")?;
            let thought = json::text(block, "thinking");
            if !digest::signed(thought, json::text(block, "signature")) {
                let text = format!("{place}: Invalid `signature` in `thinking` block");
                return Err(Problem::invalid(text));
            }
        }
        _ => {}
    }
    let misplaced = match kind {
        "tool_use" | "thinking" | "redacted_thinking" => role != "assistant",
        "tool_result" => role != "user",
        _ => false,
    };
    if misplaced {
        let text = format!("messages: `{kind}` blocks can not be in `{role}` messages");
        return Err(Problem::invalid(text));
    }
    Ok(())
}

fn check_call(place: &str, block: &Value) -> Result<(), Problem> {
    if !is_name(json::text(block, "id"), 256) {
        let text = format!("{place}.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'");
        return Err(Problem::invalid(text));
    }
    if !is_name(json::text(block, "name"), 200) {
        let text = format!(
            "{place}.tool_use.name: String should match pattern \
             '^[a-zA-Z0-9_-]{{1,200}}$'"
        );
        return Err(Problem::invalid(text));
    }
    if !block.get("input").is_some_and(Value::is_object) {
        let text = format!("{place}.tool_use.input: Input should be a valid dictionary");
        return Err(Problem::invalid(text));
    }
    Ok(())
}

/// All results of a turn's calls stand at the start of the very next user turn.
fn tool_order(turns: &[&Turn<'_>]) -> Result<(), Problem> {
    let none: Vec<(String, &Value)> = Vec::new();
    for (n, turn) in turns.iter().enumerate() {
        let next = turns.get(n + 1).map_or(&none, |next| &next.blocks);
        let leading: Vec<&str> = next
            .iter()
            .take_while(|(_, block)| json::text(block, "type") == "tool_result")
            .map(|(_, block)| json::text(block, "tool_use_id"))
            .collect();
        let missing: Vec<&str> = ids(turn).filter(|id| !leading.contains(id)).collect();
        if !missing.is_empty() {
            let text = format!(
                "messages.{}: `tool_use` ids were found without `tool_result` blocks immediately \
                 after: {}. Each `tool_use` block must have a corresponding `tool_result` block \
                 in the next message.",
                turn.index,
                missing.join(", ")
            );
            return Err(Problem::invalid(text));
        }
        let called: Vec<&str> = match n.checked_sub(1).and_then(|before| turns.get(before)) {
            Some(before) => ids(before).collect(),
            None => Vec::new(),
        };
        for (place, block) in &turn.blocks {
            let id = json::text(block, "tool_use_id");
            if json::text(block, "type") == "tool_result" && !called.contains(&id) {
                let text = format!(
                    "{place}: unexpected `tool_use_id` found in `tool_result` blocks: {id}. Each \
                     `tool_result` block must have a corresponding `tool_use` block in the \
                     previous message."
                );
                return Err(Problem::invalid(text));
            }
        }
    }
    Ok(())
}

fn ids<'a>(turn: &'a Turn<'_>) -> impl Iterator<Item = &'a str> {
    let calls = turn.blocks.iter().filter(|(_, block)| json::text(block, "type") == "tool_use");
    calls.map(|(_, block)| json::text(block, "id"))
}

fn prefill(body: &Value, turns: &[&Turn<'_>]) -> Result<(), Problem> {
    let prefilled = turns.last().is_some_and(|turn| turn.role == "assistant");
    if prefilled && model::generation(json::text(body, "model")) >= (4, 6) {
        let text = "This model does not support assistant message prefill. The conversation must \
                    end with a user message.";
        return Err(Problem::invalid(text));
    }
    Ok(())
}

/// While tools run, the assistant turn that called them must still begin with its reasoning.
/// Calls made after reasoning are known by their id, whatever the mode now is.
fn reasoning(body: &Value, turns: &[&Turn<'_>]) -> Result<(), Problem> {
    let mode = body.get("thinking").map(|thinking| json::text(thinking, "type"));
    if matches!(mode, None | Some("disabled")) {
        return Ok(());
    }
    let Some(last) = turns.iter().rposition(|turn| turn.role == "assistant") else {
        return Ok(());
    };
    let turn = turns[last];
    let after_thought = ids(turn).any(|id| id.starts_with("toolu_simr"));
    let calls = ids(turn).next().is_some();
    if !(after_thought || (calls && mode == Some("enabled"))) {
        return Ok(());
    }
    match turn.blocks.first() {
        Some((place, first)) => match json::text(first, "type") {
            "thinking" | "redacted_thinking" => Ok(()),
            found => {
                let text = format!(
                    "{place}.type: Expected `thinking` or `redacted_thinking`, but found \
                     `{found}`. When `thinking` is enabled, a final `assistant` message must \
                     start with a thinking block (preceeding the lastmost set of `tool_use` and \
                     `tool_result` blocks). We recommend you include thinking blocks from \
                     previous turns."
                );
                Err(Problem::invalid(text))
            }
        },
        None => Ok(()),
    }
}
