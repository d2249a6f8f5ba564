//! What the Messages API refuses: the parameters. Messages: `history`.

use serde_json::Value;

use super::{history, model};
use crate::json;
use crate::problem::Problem;

/// The API version asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// `2023-06-01`
    V2023,
    /// `2026-10-21`: no sampling parameters.
    V2026,
}

const KNOWN: &[&str] = &[
    "model",
    "max_tokens",
    "messages",
    "system",
    "tools",
    "tool_choice",
    "output_config",
    "output_format",
    "thinking",
    "stop_sequences",
    "metadata",
    "service_tier",
    "speed",
    "inference_geo",
    "container",
    "cache_control",
    "stream",
    "temperature",
    "top_p",
    "top_k",
    "context_management",
    "mcp_servers",
];

const SAMPLING: [&str; 3] = ["temperature", "top_p", "top_k"];

/// Most `cache_control` marks.
const MAX_CACHE_MARKS: usize = 4;

/// Refuses what the API refuses.
pub(crate) fn request(body: &Value, version: Version) -> Result<(), Problem> {
    for field in ["model", "max_tokens", "messages"] {
        if json::given(body, field).is_none() {
            return Err(Problem::invalid(format!("{field}: Field required")));
        }
    }
    if let Some(key) = json::unknown_key(body, KNOWN) {
        return Err(extra(key));
    }
    if body.get("max_tokens").and_then(Value::as_u64).is_none() {
        let message = "max_tokens: Input should be greater than or equal to 0";
        return Err(Problem::invalid(message));
    }
    sampling(body, version)?;
    thinking(body)?;
    tools(body)?;
    system(body)?;
    let marks = cache_marks(body);
    if marks > MAX_CACHE_MARKS {
        let message = format!("A maximum of 4 blocks with cache_control may be provided. Found {marks}.");
        return Err(Problem::invalid(message));
    }
    history::messages(body, version)
}

/// Refuses a token count that the API refuses.
pub(crate) fn count(body: &Value) -> Result<(), Problem> {
    for field in ["model", "messages"] {
        if json::given(body, field).is_none() {
            return Err(Problem::invalid(format!("{field}: Field required")));
        }
    }
    match json::given(body, "max_tokens") {
        Some(_) => Err(extra("max_tokens")),
        None => tools(body),
    }
}

fn extra(key: &str) -> Problem {
    Problem::invalid(format!("{key}: Extra inputs are not permitted"))
}

fn sampling(body: &Value, version: Version) -> Result<(), Problem> {
    let new = model::is_new(json::text(body, "model"));
    for key in SAMPLING {
        let Some(value) = body.get(key) else { continue };
        if version == Version::V2026 {
            return Err(extra(key));
        }
        if value.is_null() {
            continue;
        }
        let default = key != "top_k" && value.as_f64() == Some(1.0);
        if new && !default {
            let message = format!("{key}: this model only supports the default value");
            return Err(Problem::invalid(message));
        }
        let most = if key == "top_k" { f64::MAX } else { 1.0 };
        if value.as_f64().is_none_or(|number| !(0.0..=most).contains(&number)) {
            return Err(Problem::invalid(format!("{key}: range: 0..1")));
        }
    }
    Ok(())
}

fn thinking(body: &Value) -> Result<(), Problem> {
    let Some(thinking) = json::given(body, "thinking") else { return Ok(()) };
    match json::text(thinking, "type") {
        "adaptive" | "between_tools" | "disabled" => return Ok(()),
        "enabled" => {}
        other => {
            let message = format!(
                "thinking: Input tag '{other}' found using 'type' does not match any of the \
                 expected tags: 'adaptive', 'between_tools', 'disabled', 'enabled'"
            );
            return Err(Problem::invalid(message));
        }
    }
    if model::is_new(json::text(body, "model")) {
        let message = "\"thinking.type.enabled\" is not supported for this model. Use \
                       \"thinking.type.adaptive\" and \"output_config.effort\" to control \
                       thinking behavior.";
        return Err(Problem::invalid(message));
    }
    let budget = thinking.get("budget_tokens").and_then(Value::as_u64);
    let Some(budget) = budget else {
        return Err(Problem::invalid("thinking.enabled.budget_tokens: Field required"));
    };
    if budget < 1024 {
        let message = "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024";
        return Err(Problem::invalid(message));
    }
    if body.get("max_tokens").and_then(Value::as_u64).is_some_and(|most| most <= budget) {
        return Err(Problem::invalid("`max_tokens` must be greater than `thinking.budget_tokens`."));
    }
    let forced = body.get("tool_choice").map(|choice| json::text(choice, "type"));
    if matches!(forced, Some("any" | "tool")) {
        let message = "Thinking may not be enabled when tool_choice forces tool use.";
        return Err(Problem::invalid(message));
    }
    if json::given(body, "temperature").is_some_and(|value| value.as_f64() != Some(1.0)) {
        let message = "`temperature` may only be set to 1 when thinking is enabled.";
        return Err(Problem::invalid(message));
    }
    Ok(())
}

fn tools(body: &Value) -> Result<(), Problem> {
    let offered = json::list(body, "tools");
    for (at, tool) in offered.iter().enumerate() {
        // Server tools are named by a dated type and bring no schema.
        if !matches!(json::text(tool, "type"), "" | "custom") {
            continue;
        }
        let name = json::text(tool, "name");
        if !is_name(name, 128) {
            let message = format!("tools.{at}.custom.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'");
            return Err(Problem::invalid(message));
        }
        let Some(schema) = json::given(tool, "input_schema") else {
            return Err(Problem::invalid(format!("tools.{at}.custom.input_schema: Field required")));
        };
        if json::text(schema, "type") != "object" {
            let message = format!("tools.{at}.custom.input_schema.type: Input should be 'object'");
            return Err(Problem::invalid(message));
        }
        if offered[..at].iter().any(|other| json::text(other, "name") == name) {
            return Err(Problem::invalid("tools: Tool names must be unique."));
        }
    }
    tool_choice(body, offered)
}

fn tool_choice(body: &Value, offered: &[Value]) -> Result<(), Problem> {
    let Some(choice) = json::given(body, "tool_choice") else { return Ok(()) };
    let kind = json::text(choice, "type");
    if !matches!(kind, "auto" | "any" | "tool" | "none") {
        let message = format!(
            "tool_choice: Input tag '{kind}' found using 'type' does not match any of the \
             expected tags: 'auto', 'any', 'tool', 'none'"
        );
        return Err(Problem::invalid(message));
    }
    if offered.is_empty() && kind != "none" {
        let message = format!("tool_choice.{kind} may only be specified while providing tools.");
        return Err(Problem::invalid(message));
    }
    let name = json::text(choice, "name");
    if kind == "tool" && !offered.iter().any(|tool| json::text(tool, "name") == name) {
        return Err(Problem::invalid(format!("Tool '{name}' not found in provided tools")));
    }
    Ok(())
}

/// Whether `name` has 1 to `most` characters of `[a-zA-Z0-9_-]`.
pub(crate) fn is_name(name: &str, most: usize) -> bool {
    (1..=most).contains(&name.len()) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

fn system(body: &Value) -> Result<(), Problem> {
    match json::given(body, "system") {
        None | Some(Value::String(_)) => Ok(()),
        Some(Value::Array(blocks)) => {
            let wrong = blocks.iter().position(|block| json::text(block, "type") != "text");
            match wrong {
                Some(at) => Err(Problem::invalid(format!("system.{at}.type: Input should be 'text'"))),
                None => Ok(()),
            }
        }
        Some(_) => Err(Problem::invalid("system: Input should be a valid string")),
    }
}

/// How many `cache_control` marks the request holds, anywhere that is not a tool's own data.
fn cache_marks(value: &Value) -> usize {
    match value {
        Value::Object(members) => members
            .iter()
            .map(|(key, member)| match key.as_str() {
                "cache_control" => usize::from(!member.is_null()),
                "input" | "input_schema" => 0,
                _ => cache_marks(member),
            })
            .sum(),
        Value::Array(items) => items.iter().map(cache_marks).sum(),
        _ => 0,
    }
}
