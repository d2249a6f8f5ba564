//! A generation from its wire form: every bound is checked here, once.

use std::collections::HashSet;

use tutti_error::{Error, Reason, Result};
use tutti_proto::llm::v1 as wire;

use super::{Effort, Format, Generation, Sampling, SchemaFormat, Tool, ToolChoice, ToolMode, messages_from_wire};

/// Bound of all text and inline data of a request, below the transport's 32 MiB so that the refusal is ours and typed.
const MAX_BYTES: usize = 30 * 1024 * 1024;

/// Validates what is asked of a model. `path` prefixes the fields of errors, for instance `chat.`.
///
/// # Errors
/// INVALID_REQUEST or MESSAGE_TOO_LARGE naming the field.
pub fn generation_from_wire(
    path: &str,
    messages: &[wire::Message],
    tools: &[wire::Tool],
    tool_choice: Option<&wire::ToolChoice>,
    format: Option<&wire::ResponseFormat>,
    sampling: Option<&wire::Sampling>,
) -> Result<Generation> {
    if messages.is_empty() {
        return Err(Error::invalid(format!("{path}messages"), "at least one message is required"));
    }
    check_size(path, messages)?;
    let tools = tools_from_wire(path, tools)?;
    Ok(Generation {
        messages: messages_from_wire(messages, &format!("{path}messages"))?,
        tool_choice: tool_choice.map_or(Ok(ToolChoice::default()), |c| choice_from_wire(path, c, &tools))?,
        tools,
        format: format.map_or(Ok(Format::Text), |f| format_from_wire(path, f))?,
        sampling: sampling.map_or(Ok(Sampling::default()), |s| sampling_from_wire(path, s))?,
    })
}

fn check_size(path: &str, messages: &[wire::Message]) -> Result<()> {
    use prost::Message as _;
    let bytes: usize = messages.iter().map(|m| m.encoded_len()).sum();
    if bytes > MAX_BYTES {
        let message = format!("the messages take {bytes} bytes; at most {MAX_BYTES} are taken");
        return Err(Error::new(Reason::MessageTooLarge, message).field(format!("{path}messages"), "is too large"));
    }
    Ok(())
}

fn tools_from_wire(path: &str, tools: &[wire::Tool]) -> Result<Vec<Tool>> {
    let mut names = HashSet::new();
    let mut out = Vec::with_capacity(tools.len());
    for (index, tool) in tools.iter().enumerate() {
        let path = format!("{path}tools[{index}]");
        let fits = (1..=64).contains(&tool.name.len())
            && tool.name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if !fits {
            return Err(Error::invalid(format!("{path}.name"), "must be 1 to 64 of A-Z a-z 0-9 _ -"));
        }
        if !names.insert(tool.name.as_str()) {
            return Err(Error::invalid(format!("{path}.name"), "is used by another tool"));
        }
        let parameters = if tool.parameters_json.trim().is_empty() {
            serde_json::json!({"type": "object", "properties": {}})
        } else {
            object(&tool.parameters_json, &format!("{path}.parameters_json"))?
        };
        let description = tool.description.clone();
        out.push(Tool { name: tool.name.clone(), description, parameters, strict: tool.strict });
    }
    Ok(out)
}

fn object(text: &str, path: &str) -> Result<serde_json::Value> {
    match serde_json::from_str(text) {
        Ok(value @ serde_json::Value::Object(_)) => Ok(value),
        Ok(_) => Err(Error::invalid(path, "must be a JSON object")),
        Err(error) => Err(Error::invalid(path, format!("must be a JSON object: {error}"))),
    }
}

fn choice_from_wire(path: &str, choice: &wire::ToolChoice, tools: &[Tool]) -> Result<ToolChoice> {
    use wire::tool_choice::Mode;
    let mode = match choice.mode() {
        Mode::Unspecified | Mode::Auto => ToolMode::Auto,
        Mode::None => ToolMode::None,
        Mode::Required if tools.is_empty() => {
            return Err(Error::invalid(format!("{path}tool_choice.mode"), "a call is required but there are no tools"));
        }
        Mode::Required => ToolMode::Required,
        Mode::Tool if tools.iter().any(|t| t.name == choice.tool_name) => ToolMode::Tool(choice.tool_name.clone()),
        Mode::Tool => return Err(Error::invalid(format!("{path}tool_choice.tool_name"), "is not among the tools")),
    };
    Ok(ToolChoice { mode, parallel: choice.parallel })
}

fn format_from_wire(path: &str, format: &wire::ResponseFormat) -> Result<Format> {
    use wire::response_format::Kind;
    Ok(match format.kind() {
        Kind::Unspecified | Kind::Text => Format::Text,
        Kind::Json => Format::Json,
        Kind::JsonSchema => Format::Schema(SchemaFormat {
            name: if format.name.is_empty() { "answer".into() } else { format.name.clone() },
            schema: object(&format.schema_json, &format!("{path}response_format.schema_json"))?,
            strict: format.strict,
        }),
    })
}

fn sampling_from_wire(path: &str, s: &wire::Sampling) -> Result<Sampling> {
    let path = format!("{path}sampling");
    let between = |field: &str, value: Option<f64>, low: f64, high: f64| match value {
        Some(v) if !(low..=high).contains(&v) => {
            Err(Error::invalid(format!("{path}.{field}"), format!("must be between {low} and {high}")))
        }
        _ => Ok(value),
    };
    if s.top_k == Some(0) {
        return Err(Error::invalid(format!("{path}.top_k"), "must be at least 1"));
    }
    if s.max_output_tokens == Some(0) {
        return Err(Error::invalid(format!("{path}.max_output_tokens"), "must be at least 1"));
    }
    if s.stop.len() > 4 || s.stop.iter().any(String::is_empty) {
        return Err(Error::invalid(format!("{path}.stop"), "at most 4 texts, none empty"));
    }
    Ok(Sampling {
        temperature: between("temperature", s.temperature, 0.0, 2.0)?,
        top_p: between("top_p", s.top_p, 0.0, 1.0)?,
        top_k: s.top_k,
        max_output_tokens: s.max_output_tokens,
        stop: s.stop.clone(),
        seed: s.seed,
        presence_penalty: between("presence_penalty", s.presence_penalty, -2.0, 2.0)?,
        frequency_penalty: between("frequency_penalty", s.frequency_penalty, -2.0, 2.0)?,
        effort: effort_from_wire(s.reasoning_effort()),
    })
}

fn effort_from_wire(effort: wire::ReasoningEffort) -> Option<Effort> {
    use wire::ReasoningEffort as E;
    match effort {
        E::Unspecified => None,
        E::None => Some(Effort::None),
        E::Minimal => Some(Effort::Minimal),
        E::Low => Some(Effort::Low),
        E::Medium => Some(Effort::Medium),
        E::High => Some(Effort::High),
        E::Max => Some(Effort::Max),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::Message;

    fn message(role: wire::Role, text: &str) -> wire::Message {
        wire::Message { role: role.into(), text: text.into(), ..Default::default() }
    }

    fn field_of(result: Result<Generation>) -> String {
        result.unwrap_err().fields()[0].0.clone()
    }

    fn generation(messages: &[wire::Message]) -> Result<Generation> {
        generation_from_wire("", messages, &[], None, None, None)
    }

    #[test]
    fn bad_messages_name_their_field() {
        assert_eq!(field_of(generation(&[])), "messages");
        assert_eq!(field_of(generation(&[message(wire::Role::User, "")])), "messages[0].text");
        assert_eq!(field_of(generation(&[message(wire::Role::Unspecified, "a")])), "messages[0].role");
        let mut result = message(wire::Role::Tool, "4");
        result.tool_call_id = "c1".into();
        assert_eq!(field_of(generation(&[result.clone()])), "messages[0].tool_call_id");
        let mut asks = message(wire::Role::Assistant, "");
        let call =
            wire::ToolCall { id: "c1".into(), name: "add".into(), arguments_json: "[1]".into(), ..Default::default() };
        asks.tool_calls.push(call);
        assert_eq!(field_of(generation(&[asks.clone()])), "messages[0].tool_calls[0].arguments_json");
        asks.tool_calls[0].arguments_json = String::new();
        let good = generation(&[asks, result]).unwrap();
        assert!(matches!(&good.messages[1], Message::Tool { name, .. } if name == "add"));
    }

    #[test]
    fn text_that_repeats_its_parts_is_not_shown_twice() {
        let mut repeated = message(wire::Role::User, "hi");
        repeated.parts.push(wire::Part { kind: Some(wire::part::Kind::Text("hi".into())), cache_hint: None });
        assert_eq!(generation(&[repeated.clone()]).unwrap().messages[0].text(), "hi");
        repeated.text = "look:".into();
        assert_eq!(generation(&[repeated]).unwrap().messages[0].text(), "look:hi");
    }

    #[test]
    fn too_large_is_refused_with_a_type() {
        let error = generation(&[message(wire::Role::User, &"x".repeat(MAX_BYTES + 1))]).unwrap_err();
        assert_eq!(error.reason(), Reason::MessageTooLarge);
    }

    #[test]
    fn bounds_of_sampling_name_their_field() {
        let hot = wire::Sampling { temperature: Some(2.5), ..Default::default() };
        let result = generation_from_wire("chat.", &[message(wire::Role::User, "a")], &[], None, None, Some(&hot));
        assert_eq!(field_of(result), "chat.sampling.temperature");
    }
}
