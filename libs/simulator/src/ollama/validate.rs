//! What Ollama refuses. It ignores unknown members, as Go's decoder does.

use serde_json::Value;

use crate::json;
use crate::problem::Problem;

const ROLES: [&str; 4] = ["system", "user", "assistant", "tool"];

/// Whether the model can reason.
pub(crate) fn has_thinking(model: &str) -> bool {
    !["llama", "gemma", "mistral", "phi", "nomic"].iter().any(|family| model.starts_with(family))
}

/// Whether the model can call tools.
pub(crate) fn has_tools(model: &str) -> bool {
    !["gemma2", "phi", "nomic"].iter().any(|family| model.starts_with(family))
}

/// Refuses a request without a model.
pub(crate) fn model(body: &Value) -> Result<(), Problem> {
    match json::text(body, "model") {
        "" => Err(Problem::invalid("model is required")),
        _ => Ok(()),
    }
}

/// Refuses a chat that Ollama refuses.
pub(crate) fn chat(body: &Value) -> Result<(), Problem> {
    model(body)?;
    let model = json::text(body, "model");
    let thinks = body.get("think").is_some_and(|think| *think == true || think.is_string());
    if thinks && !has_thinking(model) {
        return Err(Problem::invalid(format!("\"{model}\" does not support thinking")));
    }
    if !json::list(body, "tools").is_empty() && !has_tools(model) {
        let message = format!("registry.ollama.ai/library/{model} does not support tools");
        return Err(Problem::invalid(message));
    }
    if model.starts_with("nomic") {
        return Err(Problem::invalid(format!("\"{model}\" does not support chat")));
    }
    match json::given(body, "format") {
        None | Some(Value::Object(_)) => {}
        Some(Value::String(word)) if word == "json" || word.is_empty() => {}
        Some(other) => {
            let message = format!("invalid format: {other}; expected \"json\" or a valid JSON Schema object");
            return Err(Problem::invalid(message));
        }
    }
    json::list(body, "messages").iter().try_for_each(message)
}

fn message(message: &Value) -> Result<(), Problem> {
    let role = json::text(message, "role");
    if !ROLES.contains(&role) {
        let text = format!("invalid role: {role}; expected one of [system user assistant tool]");
        return Err(Problem::invalid(text));
    }
    if json::given(message, "content").is_some_and(|content| !content.is_string()) {
        let text = "json: cannot unmarshal array into Go struct field \
                    ChatRequest.messages.content of type string";
        return Err(Problem::invalid(text));
    }
    for image in json::texts(message, "images") {
        if let Some(at) = image.find(|c: char| !(c.is_ascii_alphanumeric() || "+/=".contains(c))) {
            return Err(Problem::invalid(format!("illegal base64 data at input byte {at}")));
        }
    }
    for call in json::list(message, "tool_calls") {
        if !call.pointer("/function/arguments").is_none_or(Value::is_object) {
            let text = "json: cannot unmarshal string into Go struct field \
                        ChatRequest.messages.tool_calls.function.arguments of type \
                        api.ToolCallFunctionArguments";
            return Err(Problem::invalid(text));
        }
    }
    Ok(())
}
