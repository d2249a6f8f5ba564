//! What OpenAI and the compatible servers refuse: the parameters. Messages: `history`.

use serde_json::Value;

use super::dialect::Dialect;
use super::history;
use crate::json;
use crate::problem::Problem;

const KNOWN: &[&str] = &[
    "model",
    "messages",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
    "max_completion_tokens",
    "max_tokens",
    "temperature",
    "top_p",
    "stop",
    "n",
    "seed",
    "frequency_penalty",
    "presence_penalty",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "reasoning_effort",
    "verbosity",
    "user",
    "safety_identifier",
    "prompt_cache_key",
    "metadata",
    "store",
    "service_tier",
    "prediction",
    "modalities",
    "audio",
    "moderation",
    "web_search_options",
    "prompt_cache_options",
    "prompt_cache_retention",
    "stream",
    "stream_options",
    "functions",
    "function_call",
];

/// Parameters that reasoning models refuse altogether.
const NOT_REASONING: &[&str] = &["max_tokens", "stop", "logprobs", "top_logprobs", "logit_bias"];

/// Parameters of which reasoning models take the default only.
const DEFAULT_ONLY: &[(&str, f64)] =
    &[("temperature", 1.0), ("top_p", 1.0), ("presence_penalty", 0.0), ("frequency_penalty", 0.0)];

/// Refuses what the provider of the model refuses.
pub(crate) fn request(body: &Value) -> Result<(), Problem> {
    let model = json::text(body, "model");
    if model.is_empty() {
        return Err(Problem::invalid("you must provide a model parameter"));
    }
    let dialect = Dialect::of(model);
    if dialect.is_strict()
        && let Some(key) = json::unknown_key(body, KNOWN)
    {
        return Err(unknown(key));
    }
    limits(body, dialect)?;
    ranges(body)?;
    stream(body)?;
    tools(body)?;
    history::messages(body, dialect)?;
    response_format(body)
}

pub(crate) fn unknown(key: &str) -> Problem {
    Problem::invalid(format!("Unknown parameter: '{key}'.")).at(key).code("unknown_parameter")
}

fn limits(body: &Value, dialect: Dialect) -> Result<(), Problem> {
    if dialect == Dialect::Reasoning {
        for key in NOT_REASONING {
            if json::given(body, key).is_some_and(|value| *value != Value::Bool(false)) {
                let hint = match *key {
                    "max_tokens" => " Use 'max_completion_tokens' instead.",
                    _ => "",
                };
                let message = format!("Unsupported parameter: '{key}' is not supported with this model.{hint}");
                return Err(Problem::invalid(message).at(*key).code("unsupported_parameter"));
            }
        }
        for (key, default) in DEFAULT_ONLY {
            if let Some(value) = json::given(body, key).filter(|v| v.as_f64() != Some(*default)) {
                let message = format!(
                    "Unsupported value: '{key}' does not support {value} with this model. Only \
                     the default ({default}) value is supported."
                );
                return Err(Problem::invalid(message).at(*key).code("unsupported_value"));
            }
        }
    }
    let classic = dialect == Dialect::OpenAi && json::text(body, "model").starts_with("gpt-4");
    if classic && json::given(body, "reasoning_effort").is_some() {
        let message = "Unrecognized request argument supplied: reasoning_effort";
        return Err(Problem::invalid(message));
    }
    let both = ["max_tokens", "max_completion_tokens"];
    if dialect.is_strict() && both.iter().all(|key| json::given(body, key).is_some()) {
        let message = "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not \
                       supported.";
        return Err(Problem::invalid(message).at("max_tokens").code("invalid_parameter_combination"));
    }
    for key in both {
        let Some(value) = json::given(body, key) else { continue };
        match value.as_i64() {
            None => return Err(wrong_type(key, "an integer", value)),
            Some(limit) if limit < 1 => {
                let message = format!(
                    "Invalid '{key}': integer below minimum value. Expected a value >= 1, but \
                     got {limit} instead."
                );
                return Err(Problem::invalid(message).at(key).code("integer_below_min_value"));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

fn wrong_type(key: &str, wanted: &str, value: &Value) -> Problem {
    let got = match value {
        Value::String(_) => "a string",
        Value::Bool(_) => "a boolean",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
        Value::Number(_) => "a decimal",
        Value::Null => "null",
    };
    let message = format!("Invalid type for '{key}': expected {wanted}, but got {got} instead.");
    Problem::invalid(message).at(key).code("invalid_type")
}

fn ranges(body: &Value) -> Result<(), Problem> {
    let ranges = [
        ("temperature", 0.0, 2.0),
        ("top_p", 0.0, 1.0),
        ("presence_penalty", -2.0, 2.0),
        ("frequency_penalty", -2.0, 2.0),
        ("n", 1.0, 128.0),
        ("top_logprobs", 0.0, 20.0),
    ];
    for (key, least, most) in ranges {
        let Some(value) = json::given(body, key) else { continue };
        let Some(number) = value.as_f64() else {
            return Err(wrong_type(key, "a decimal", value));
        };
        let (side, sign, bound) = match number {
            below if below < least => ("below minimum", ">=", least),
            above if above > most => ("above maximum", "<=", most),
            _ => continue,
        };
        let code = if bound == least { "decimal_below_min_value" } else { "decimal_above_max_value" };
        let message = format!(
            "Invalid '{key}': decimal {side} value. Expected a value {sign} {bound}, but got \
             {value} instead."
        );
        return Err(Problem::invalid(message).at(key).code(code));
    }
    let stops = json::list(body, "stop").len();
    if stops > 4 {
        let message = format!(
            "Invalid 'stop': array too long. Expected an array with maximum length 4, but got an \
             array with length {stops} instead."
        );
        return Err(Problem::invalid(message).at("stop").code("array_above_max_length"));
    }
    Ok(())
}

fn stream(body: &Value) -> Result<(), Problem> {
    if let Some(value) = json::given(body, "stream").filter(|value| !value.is_boolean()) {
        return Err(wrong_type("stream", "a boolean", value));
    }
    if json::given(body, "stream_options").is_some() && !json::flag(body, "stream") {
        let message = "The 'stream_options' parameter is only allowed when 'stream' is enabled.";
        return Err(Problem::invalid(message).at("stream_options"));
    }
    Ok(())
}

fn tools(body: &Value) -> Result<(), Problem> {
    let offered = json::list(body, "tools");
    if body.get("tools").is_some_and(Value::is_array) && offered.is_empty() {
        let message = "Invalid 'tools': empty array. Expected an array with minimum length 1, but \
                       got an empty array instead.";
        return Err(Problem::invalid(message).at("tools").code("empty_array"));
    }
    for (at, tool) in offered.iter().enumerate() {
        tool_name(tool, at)?;
        let strict = tool.pointer("/function/strict") == Some(&Value::Bool(true));
        if strict && let Some(schema) = tool.pointer("/function/parameters") {
            let name = tool.pointer("/function/name").and_then(Value::as_str).unwrap_or_default();
            let what = format!("Invalid schema for function '{name}'");
            strict_schema(schema, &what, "tools")?;
        }
    }
    for key in ["tool_choice", "parallel_tool_calls"] {
        if offered.is_empty() && json::given(body, key).is_some_and(|v| v != "none" && v != "auto") {
            let message = format!("'{key}' is only allowed when 'tools' are specified.");
            return Err(Problem::invalid(message).at(key));
        }
    }
    let named = body.pointer("/tool_choice/function/name").and_then(Value::as_str);
    let is_offered =
        |name: &str| offered.iter().any(|tool| tool.pointer("/function/name").and_then(Value::as_str) == Some(name));
    match named.filter(|name| !is_offered(name)) {
        Some(name) => {
            Err(Problem::invalid(format!("Tool choice '{name}' not found in 'tools' parameter.")).at("tool_choice"))
        }
        None => Ok(()),
    }
}

fn tool_name(tool: &Value, at: usize) -> Result<(), Problem> {
    let kind = json::text(tool, "type");
    if !matches!(kind, "function" | "custom") {
        let param = format!("tools[{at}].type");
        if kind.is_empty() {
            let message = format!("Missing required parameter: '{param}'.");
            return Err(Problem::invalid(message).at(param).code("missing_required_parameter"));
        }
        let message = format!("Invalid value: '{kind}'. Supported values are: 'function' and 'custom'.");
        return Err(Problem::invalid(message).at(param).code("invalid_value"));
    }
    let name = tool.get(kind).map(|function| json::text(function, "name")).unwrap_or_default();
    let param = format!("tools[{at}].{kind}.name");
    if name.is_empty() {
        let message = format!("Missing required parameter: '{param}'.");
        return Err(Problem::invalid(message).at(param).code("missing_required_parameter"));
    }
    if name.len() > 64 {
        let message = format!(
            "Invalid '{param}': string too long. Expected a string with maximum length 64, but \
             got a string with length {} instead.",
            name.len()
        );
        return Err(Problem::invalid(message).at(param).code("string_above_max_length"));
    }
    if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
        let message = format!(
            "Invalid '{param}': string does not match pattern. Expected a string that matches the \
             pattern '^[a-zA-Z0-9_-]+$'."
        );
        return Err(Problem::invalid(message).at(param).code("invalid_value"));
    }
    Ok(())
}

fn response_format(body: &Value) -> Result<(), Problem> {
    let Some(format) = json::given(body, "response_format") else { return Ok(()) };
    match json::text(format, "type") {
        "text" => Ok(()),
        "json_object" => {
            let said = body.get("messages").map(ToString::to_string).unwrap_or_default();
            if said.to_lowercase().contains("json") {
                return Ok(());
            }
            let message = "'messages' must contain the word 'json' in some form, to use \
                           'response_format' of type 'json_object'.";
            Err(Problem::invalid(message).at("messages"))
        }
        "json_schema" => {
            let Some(schema) = format.pointer("/json_schema/schema") else {
                let message = "Missing required parameter: 'response_format.json_schema.schema'.";
                return Err(Problem::invalid(message)
                    .at("response_format.json_schema.schema")
                    .code("missing_required_parameter"));
            };
            let name = format.pointer("/json_schema/name").and_then(Value::as_str);
            let Some(name) = name else {
                let message = "Missing required parameter: 'response_format.json_schema.name'.";
                return Err(Problem::invalid(message)
                    .at("response_format.json_schema.name")
                    .code("missing_required_parameter"));
            };
            if format.pointer("/json_schema/strict") == Some(&Value::Bool(true)) {
                let what = format!("Invalid schema for response_format '{name}'");
                strict_schema(schema, &what, "response_format")?;
            }
            Ok(())
        }
        other => {
            let message = format!(
                "Invalid value: '{other}'. Supported values are: 'json_object', 'json_schema', \
                 and 'text'."
            );
            Err(Problem::invalid(message).at("response_format.type").code("invalid_value"))
        }
    }
}

/// Strict schemas close every object and require each of its members.
fn strict_schema(schema: &Value, what: &str, param: &str) -> Result<(), Problem> {
    let wrong = |text: String| {
        let message = format!("{what}: In context=(), {text}");
        Problem::invalid(message).at(param).code("invalid_json_schema")
    };
    let properties = schema.get("properties").and_then(Value::as_object);
    if let Some(properties) = properties {
        if schema.get("additionalProperties") != Some(&Value::Bool(false)) {
            return Err(wrong("'additionalProperties' is required to be supplied and to be false.".into()));
        }
        let required = json::texts(schema, "required");
        if let Some(missing) = properties.keys().find(|key| !required.contains(key)) {
            return Err(wrong(format!(
                "'required' is required to be supplied and to be an array including every key in \
                 properties. Missing '{missing}'."
            )));
        }
        for property in properties.values() {
            strict_schema(property, what, param)?;
        }
    }
    match schema.get("items") {
        Some(items) => strict_schema(items, what, param),
        None => Ok(()),
    }
}
