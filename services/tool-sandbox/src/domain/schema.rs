//! Whether a call's arguments are what its tool takes.

use jsonschema::{ValidationError, Validator, error::ValidationErrorKind};
use serde_json::Value;
use tutti_error::{Error, Reason, Result};

/// The field of the request that the arguments stand in.
const FIELD: &str = "tool_call.arguments_json";
/// The largest arguments that are read, in bytes.
const MAX_BYTES: usize = 8 * 1024 * 1024;
/// Of many problems, the first few tell enough.
const MAX_PROBLEMS: usize = 8;

/// A compiled schema of arguments.
#[derive(Debug)]
pub(crate) struct ArgumentSchema {
    tool: &'static str,
    validator: Validator,
}

impl ArgumentSchema {
    /// Compiles the schema of a tool.
    ///
    /// # Errors
    /// INTERNAL when it is no schema.
    pub(crate) fn compile(tool: &'static str, schema: &Value) -> Result<Self> {
        let broken = |error: ValidationError<'_>| Error::internal(format!("the schema of {tool} is broken: {error}"));
        Ok(Self { tool, validator: jsonschema::validator_for(schema).map_err(broken)? })
    }

    /// Reads arguments; an empty text stands for `{}`.
    ///
    /// # Errors
    /// INVALID_TOOL_ARGUMENTS naming every field that is wrong; MESSAGE_TOO_LARGE.
    pub(crate) fn read(&self, json: &str) -> Result<Value> {
        if json.len() > MAX_BYTES {
            let message = format!("the arguments take {} bytes; at most {MAX_BYTES} are taken", json.len());
            return Err(Error::new(Reason::MessageTooLarge, message).field(FIELD, "is too large"));
        }
        let text = if json.trim().is_empty() { "{}" } else { json };
        let arguments: Value =
            serde_json::from_str(text).map_err(|error| self.refused().field(FIELD, format!("is not JSON: {error}")))?;
        let mut problems = self.validator.iter_errors(&arguments).take(MAX_PROBLEMS).peekable();
        if problems.peek().is_none() {
            drop(problems);
            return Ok(arguments);
        }
        Err(problems
            .flat_map(|problem| fields(&problem))
            .fold(self.refused(), |error, (field, why)| error.field(field, why)))
    }

    fn refused(&self) -> Error {
        Error::new(Reason::InvalidToolArguments, format!("the arguments are not what the tool \"{}\" takes", self.tool))
    }
}

/// The fields that a problem is about, and what is wrong with each.
fn fields(problem: &ValidationError<'_>) -> Vec<(String, String)> {
    let place = format!("{FIELD}{}", problem.instance_path().as_str().replace('/', "."));
    match problem.kind() {
        ValidationErrorKind::Required { property } => {
            vec![(format!("{place}.{}", property.as_str().unwrap_or_default()), "is required".to_owned())]
        }
        ValidationErrorKind::AdditionalProperties { unexpected } => unexpected
            .iter()
            .map(|name| (format!("{place}.{name}"), "is not an argument of this tool".to_owned()))
            .collect(),
        // The value itself may be long.
        _ => vec![(place, problem.masked().to_string())],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> ArgumentSchema {
        let schema = json!({
            "type": "object",
            "properties": {"path": {"type": "string", "minLength": 1}, "deep": {"type": "boolean"}},
            "required": ["path"],
            "additionalProperties": false,
        });
        ArgumentSchema::compile("t", &schema).unwrap()
    }

    fn wrong(json: &str) -> Vec<String> {
        let error = schema().read(json).unwrap_err();
        assert_eq!(error.reason(), Reason::InvalidToolArguments);
        error.fields().iter().map(|(field, why)| format!("{field}: {why}")).collect()
    }

    #[test]
    fn every_wrong_field_is_named() {
        assert_eq!(wrong(""), ["tool_call.arguments_json.path: is required"]);
        assert_eq!(
            wrong(r#"{"path": "a", "pth": 1, "x": 2}"#),
            [
                "tool_call.arguments_json.pth: is not an argument of this tool",
                "tool_call.arguments_json.x: is not an argument of this tool",
            ]
        );
        let problems = wrong(r#"{"path": 7, "deep": "yes"}"#);
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems.iter().any(|p| p.starts_with("tool_call.arguments_json.path: ")), "{problems:?}");
        assert!(problems.iter().any(|p| p.starts_with("tool_call.arguments_json.deep: ")), "{problems:?}");
        assert!(wrong("{\"path\"").first().unwrap().starts_with("tool_call.arguments_json: is not JSON: "));
        assert!(wrong("[]").first().unwrap().starts_with("tool_call.arguments_json: "));
    }

    #[test]
    fn good_arguments_are_handed_on() {
        assert_eq!(schema().read(r#"{"path": "a"}"#).unwrap(), json!({"path": "a"}));
    }

    #[test]
    fn huge_arguments_are_refused_before_they_are_parsed() {
        let error = schema().read(&" ".repeat(MAX_BYTES + 1)).unwrap_err();
        assert_eq!(error.reason(), Reason::MessageTooLarge);
    }
}
