//! Reads a `generateContent` request whose names are already camelCase.

use serde_json::{Value, json};

use crate::ask::{Ask, Output, Role, ToolChoice, ToolSpec, Turn};
use crate::json;

/// Tokens an image or a file counts.
const MEDIA_TOKENS: u64 = 258;

pub(crate) fn read(body: &Value, model: &str) -> Ask {
    let mut ask = Ask::new(model);
    let null = Value::Null;
    let config = body.get("generationConfig").unwrap_or(&null);
    ask.max_tokens = config.get("maxOutputTokens").and_then(Value::as_u64);
    ask.choices = config.get("candidateCount").and_then(Value::as_u64).unwrap_or(1);
    ask.stops = json::texts(config, "stopSequences");
    ask.think = think(config);
    ask.output = output(config);
    if let Some(system) = body.get("systemInstruction") {
        let turn = turn(&mut ask, system, Role::System);
        ask.turns.push(turn);
    }
    for content in json::list(body, "contents") {
        let role = if json::text(content, "role") == "model" { Role::Assistant } else { Role::User };
        let turn = turn(&mut ask, content, role);
        ask.turns.push(turn);
    }
    for tool in json::list(body, "tools") {
        for function in json::list(tool, "functionDeclarations") {
            let schema = function.get("parametersJsonSchema").or(function.get("parameters"));
            ask.tools.push(ToolSpec {
                name: json::text(function, "name").to_owned(),
                schema: schema.cloned().unwrap_or_else(|| json!({"type": "object"})),
            });
        }
    }
    ask.choice = choice(body.pointer("/toolConfig/functionCallingConfig").unwrap_or(&null));
    ask
}

fn think(config: &Value) -> Option<bool> {
    let thinking = config.get("thinkingConfig")?;
    if thinking.get("thinkingBudget").and_then(Value::as_i64) == Some(0) {
        return Some(false);
    }
    json::flag(thinking, "includeThoughts").then_some(true)
}

fn output(config: &Value) -> Output {
    if json::text(config, "responseMimeType") != "application/json" {
        return Output::Text;
    }
    match config.get("responseJsonSchema").or(config.get("responseSchema")) {
        Some(schema) => Output::Schema(schema.clone()),
        None => Output::Json,
    }
}

fn choice(config: &Value) -> ToolChoice {
    match json::text(config, "mode") {
        "NONE" => ToolChoice::None,
        "ANY" => match json::texts(config, "allowedFunctionNames").into_iter().next() {
            Some(name) => ToolChoice::Named(name),
            None => ToolChoice::Any,
        },
        _ => ToolChoice::Auto,
    }
}

fn turn(ask: &mut Ask, content: &Value, role: Role) -> Turn {
    let mut turn = Turn::text(role, String::new());
    // A system instruction may be given as plain text.
    if let Some(text) = content.as_str() {
        text.clone_into(&mut turn.text);
    }
    for part in json::list(content, "parts") {
        if !json::flag(part, "thought") {
            turn.text.push_str(json::text(part, "text"));
        }
        if part.get("inlineData").or(part.get("fileData")).is_some() {
            ask.media_tokens += MEDIA_TOKENS;
        }
        if let Some(call) = part.get("functionCall") {
            turn.calls.push(json::text(call, "name").to_owned());
        }
        if let Some(result) = part.get("functionResponse") {
            let response = result.get("response").unwrap_or(&Value::Null);
            turn.results.push((json::text(result, "name").to_owned(), plain(response)));
        }
    }
    turn
}

/// The text of a result that only wraps one, else the JSON.
fn plain(response: &Value) -> String {
    let only = response.as_object().filter(|members| members.len() == 1);
    let wrapped =
        only.and_then(|members| ["output", "result", "error"].iter().find_map(|key| members.get(*key)?.as_str()));
    wrapped.map_or_else(|| response.to_string(), str::to_owned)
}
