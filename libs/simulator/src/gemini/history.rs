//! What Gemini refuses in the contents: roles, parts, results that do not match their calls,
//! and calls without the signature of the thought that made them.

use serde_json::Value;

use super::{signs, validate};
use crate::digest;
use crate::json;
use crate::problem::Problem;

const PART: &[&str] = &[
    "text",
    "inlineData",
    "fileData",
    "functionCall",
    "functionResponse",
    "thought",
    "thoughtSignature",
    "executableCode",
    "codeExecutionResult",
    "videoMetadata",
    "mediaResolution",
    "partMetadata",
];

/// Accepted in place of a signature, for calls that another model made.
const PLACEHOLDERS: [&str; 3] = [
    "skip_thought_signature_validator",
    "context_engineering_is_the_way_to_go",
    // The first one, as SDKs send it that encode it once more.
    "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I=",
];

/// Refuses contents that the API refuses.
pub(crate) fn contents(body: &Value, model: &str) -> Result<(), Problem> {
    let contents = json::list(body, "contents");
    if contents.is_empty() {
        let message = "* GenerateContentRequest.contents: contents is not specified\n";
        return Err(Problem::invalid(message));
    }
    for (at, content) in contents.iter().enumerate() {
        shape(content, at)?;
    }
    pairs(contents)?;
    if signs(model) {
        signatures(contents)?;
    }
    Ok(())
}

fn shape(content: &Value, at: usize) -> Result<(), Problem> {
    validate::names(content, &["role", "parts"], &format!("contents[{at}]"))?;
    if !matches!(json::text(content, "role"), "" | "user" | "model" | "function") {
        return Err(Problem::invalid("Please use a valid role: user, model."));
    }
    let parts = json::list(content, "parts");
    if parts.is_empty() {
        let message = format!("* GenerateContentRequest.contents[{at}].parts: contents.parts must not be empty.\n");
        return Err(Problem::invalid(message));
    }
    for (n, part) in parts.iter().enumerate() {
        let place = format!("contents[{at}].parts[{n}]");
        validate::names(part, PART, &place)?;
        let data = [
            "text",
            "inlineData",
            "fileData",
            "functionCall",
            "functionResponse",
            "executableCode",
            "codeExecutionResult",
        ];
        let set = data.iter().filter(|key| json::given(part, key).is_some()).count();
        // A part of nothing but a signature is one that ended a stream.
        if set != 1 && !(set == 0 && part.get("thoughtSignature").is_some()) {
            let message = format!(
                "* GenerateContentRequest.{place}.data: required oneof field 'data' must have \
                 one initialized field\n"
            );
            return Err(Problem::invalid(message));
        }
        for (key, object) in [("functionCall", "args"), ("functionResponse", "response")] {
            let Some(function) = json::given(part, key) else { continue };
            if json::text(function, "name").is_empty() {
                let message = format!("* GenerateContentRequest.{place}.{key}.name: Name cannot be empty.\n");
                return Err(Problem::invalid(message));
            }
            if json::given(function, object).is_some_and(|value| !value.is_object()) {
                let message = format!(
                    "Invalid value at '{place}.{key}.{object}' (type.googleapis.com/\
                     google.protobuf.Struct)"
                );
                return Err(Problem::invalid(message).at(place));
            }
        }
    }
    Ok(())
}

fn count(content: &Value, key: &str) -> usize {
    json::list(content, "parts").iter().filter(|part| json::given(part, key).is_some()).count()
}

/// As many results as calls, in the very next content.
fn pairs(contents: &[Value]) -> Result<(), Problem> {
    for (at, content) in contents.iter().enumerate() {
        let calls = count(content, "functionCall");
        let results = contents.get(at + 1).map_or(0, |next| count(next, "functionResponse"));
        if calls > 0 && at + 1 < contents.len() && calls != results {
            let message = "Please ensure that the number of function response parts is equal to \
                           the number of function call parts of the function call turn.";
            return Err(Problem::invalid(message));
        }
        let called = at.checked_sub(1).map_or(0, |before| count(&contents[before], "functionCall"));
        if count(content, "functionResponse") > 0 && called == 0 {
            let message = "Please ensure that function response turn comes immediately after a \
                           function call turn.";
            return Err(Problem::invalid(message));
        }
        let opener = at.checked_sub(1).map(|before| json::text(&contents[before], "role"));
        if calls > 0 && opener.is_none_or(|role| role == "model") {
            let message = "Please ensure that function call turn comes immediately after a user \
                           turn or after a function response turn.";
            return Err(Problem::invalid(message));
        }
    }
    Ok(())
}

/// The first call of every step carries the signature it came with.
fn signatures(contents: &[Value]) -> Result<(), Problem> {
    for (at, content) in contents.iter().enumerate() {
        let parts = json::list(content, "parts").iter().enumerate();
        let calls = parts.filter_map(|(n, part)| Some((n, part, part.get("functionCall")?)));
        for (nth, (n, part, call)) in calls.enumerate() {
            let name = json::text(call, "name");
            let signature = json::text(part, "thoughtSignature");
            if signature.is_empty() {
                if nth > 0 {
                    continue;
                }
                let message = format!(
                    "Function call is missing a thought_signature in functionCall parts. This is \
                     required for tools to work correctly, and missing thought_signature may \
                     lead to degraded model performance. Additional data, function call \
                     `default_api:{name}`, position {}. Please refer to \
                     https://ai.google.dev/gemini-api/docs/thought-signatures for more details.",
                    at + 1
                );
                return Err(Problem::invalid(message));
            }
            if !PLACEHOLDERS.contains(&signature) && !digest::signed(name, signature) {
                let message = format!("contents[{at}].parts[{n}]: Thought signature is not valid.");
                return Err(Problem::invalid(message));
            }
        }
    }
    Ok(())
}
