//! What Gemini refuses: unknown names and wrong parameters. Contents: `history`.

use serde_json::Value;

use super::history;
use crate::json;
use crate::problem::Problem;

const KNOWN: &[&str] = &[
    "contents",
    "systemInstruction",
    "tools",
    "toolConfig",
    "safetySettings",
    "generationConfig",
    "cachedContent",
    "serviceTier",
    "labels",
    "store",
    "continuationToken",
    "model",
];

const CONFIG: &[&str] = &[
    "temperature",
    "topP",
    "topK",
    "candidateCount",
    "maxOutputTokens",
    "stopSequences",
    "seed",
    "presencePenalty",
    "frequencyPenalty",
    "responseLogprobs",
    "logprobs",
    "responseMimeType",
    "responseSchema",
    "responseJsonSchema",
    "responseModalities",
    "mediaResolution",
    "thinkingConfig",
    "speechConfig",
    "imageConfig",
    "enableEnhancedCivicAnswers",
    "routingConfig",
    "audioTimestamp",
];

const TOOL: &[&str] = &[
    "functionDeclarations",
    "googleSearch",
    "googleSearchRetrieval",
    "codeExecution",
    "urlContext",
    "computerUse",
    "fileSearch",
    "googleMaps",
    "mcpServers",
];

/// What the OpenAPI subset of `parameters` and `responseSchema` knows.
const SCHEMA: &[&str] = &[
    "type",
    "format",
    "title",
    "description",
    "nullable",
    "enum",
    "maxItems",
    "minItems",
    "properties",
    "required",
    "minProperties",
    "maxProperties",
    "minLength",
    "maxLength",
    "pattern",
    "example",
    "anyOf",
    "propertyOrdering",
    "default",
    "items",
    "minimum",
    "maximum",
];

/// Refuses what the API refuses in `body`, whose names are camelCase.
pub(crate) fn request(body: &Value, model: &str) -> Result<(), Problem> {
    names(body, KNOWN, "")?;
    let null = Value::Null;
    let config = body.get("generationConfig").unwrap_or(&null);
    names(config, CONFIG, "generation_config")?;
    parameters(config)?;
    thinking(config, model)?;
    tools(body)?;
    history::contents(body, model)
}

/// Refuses the first unknown name.
pub(crate) fn names(value: &Value, known: &[&str], place: &str) -> Result<(), Problem> {
    let Some(key) = json::unknown_key(value, known) else { return Ok(()) };
    let at = if place.is_empty() { String::new() } else { format!(" at '{place}'") };
    let message = format!("Invalid JSON payload received. Unknown name \"{key}\"{at}: Cannot find field.");
    Err(Problem::invalid(message).at(place))
}

fn parameters(config: &Value) -> Result<(), Problem> {
    for (key, most) in [("temperature", 2.0), ("topP", 1.0)] {
        let value = config.get(key).and_then(Value::as_f64);
        if value.is_some_and(|value| !(0.0..=most).contains(&value)) {
            let message = format!(
                "* GenerateContentRequest.generation_config.{key}: {key} must be in the range \
                 [0.0, {most:.1}].\n"
            );
            return Err(Problem::invalid(message));
        }
    }
    if config.get("maxOutputTokens").and_then(Value::as_i64).is_some_and(|most| most < 1) {
        let message = "* GenerateContentRequest.generation_config.max_output_tokens: \
                       max_output_tokens must be positive.\n";
        return Err(Problem::invalid(message));
    }
    if json::list(config, "stopSequences").len() > 5 {
        let message = "* GenerateContentRequest.generation_config.stop_sequences: at most 5 stop \
                       sequences may be given.\n";
        return Err(Problem::invalid(message));
    }
    let schema = json::given(config, "responseSchema");
    let json_schema = json::given(config, "responseJsonSchema");
    if schema.is_some() && json_schema.is_some() {
        let message = "Only one of response_schema and response_json_schema may be set.";
        return Err(Problem::invalid(message));
    }
    let constrained = schema.or(json_schema).is_some();
    let kind = json::text(config, "responseMimeType");
    if constrained && !matches!(kind, "application/json" | "text/x.enum") {
        let message = format!(
            "Function calling config or response schema with a response mime type: '{kind}' is \
             unsupported"
        );
        return Err(Problem::invalid(message));
    }
    match schema {
        Some(schema) => openapi(schema, "generation_config.response_schema"),
        None => Ok(()),
    }
}

/// The OpenAPI subset takes no `$ref`, `additionalProperties`, `oneOf` and the like.
fn openapi(schema: &Value, place: &str) -> Result<(), Problem> {
    names(schema, SCHEMA, place)?;
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        for (n, property) in properties.values().enumerate() {
            openapi(property, &format!("{place}.properties[{n}].value"))?;
        }
    }
    if let Some(items) = schema.get("items") {
        openapi(items, &format!("{place}.items"))?;
    }
    for (n, option) in json::list(schema, "anyOf").iter().enumerate() {
        openapi(option, &format!("{place}.any_of[{n}]"))?;
    }
    Ok(())
}

fn thinking(config: &Value, model: &str) -> Result<(), Problem> {
    let Some(thinking) = json::given(config, "thinkingConfig") else { return Ok(()) };
    names(thinking, &["includeThoughts", "thinkingBudget", "thinkingLevel"], "generation_config.thinking_config")?;
    let level = json::given(thinking, "thinkingLevel").is_some();
    if level && json::given(thinking, "thinkingBudget").is_some() {
        let message = "You can only set only one of thinking budget and thinking level.";
        return Err(Problem::invalid(message));
    }
    if level && model.starts_with("gemini-2") {
        return Err(Problem::invalid("Thinking level is not supported for this model."));
    }
    Ok(())
}

fn tools(body: &Value) -> Result<(), Problem> {
    let mut offered = Vec::new();
    for (at, tool) in json::list(body, "tools").iter().enumerate() {
        names(tool, TOOL, &format!("tools[{at}]"))?;
        for (n, function) in json::list(tool, "functionDeclarations").iter().enumerate() {
            let place = format!("tools[{at}].function_declarations[{n}]");
            let name = json::text(function, "name");
            let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
            let fits = name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.:".contains(c));
            if !starts || !fits || name.len() > 128 {
                let message = format!(
                    "* GenerateContentRequest.{place}.name: [FIELD_INVALID] Invalid function \
                     name. Must start with a letter or an underscore. Must be alphameric (a-z, \
                     A-Z, 0-9), underscores (_), dots (.), colons (:), or dashes (-), with a \
                     maximum length of 128.\n"
                );
                return Err(Problem::invalid(message));
            }
            let parameters = json::given(function, "parameters");
            if let Some(schema) = parameters {
                openapi(schema, &format!("{place}.parameters"))?;
            }
            if parameters.is_some() && json::given(function, "parametersJsonSchema").is_some() {
                let message = format!("{place}: only one of parameters and parameters_json_schema may be set.");
                return Err(Problem::invalid(message));
            }
            offered.push(name);
        }
    }
    let null = Value::Null;
    let config = body.pointer("/toolConfig/functionCallingConfig").unwrap_or(&null);
    let mode = json::text(config, "mode");
    if !matches!(mode, "" | "MODE_UNSPECIFIED" | "AUTO" | "ANY" | "NONE" | "VALIDATED") {
        let message = format!(
            "Invalid value at 'tool_config.function_calling_config.mode' \
             (type.googleapis.com/google.ai.generativelanguage.v1.FunctionCallingConfig.Mode), \
             \"{mode}\""
        );
        return Err(Problem::invalid(message).at("tool_config.function_calling_config.mode"));
    }
    let allowed = json::texts(config, "allowedFunctionNames");
    if !allowed.is_empty() && !matches!(mode, "ANY" | "VALIDATED") {
        let message = "Allowed function names should only be set when function calling mode is \
                       ANY or VALIDATED.";
        return Err(Problem::invalid(message));
    }
    match allowed.iter().find(|name| !offered.contains(&name.as_str())) {
        Some(name) => Err(Problem::invalid(format!("allowed_function_names: '{name}' is not a declared function."))),
        None => Ok(()),
    }
}
