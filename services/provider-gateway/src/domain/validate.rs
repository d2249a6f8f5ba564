//! Whether an answer has the form that was asked for.

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;
use tutti_error::{Error, Result};
use tutti_types::llm::{Completion, Finish, Format, Generation, Tool};

/// What is checked of an answer.
#[derive(Debug)]
pub struct Checks {
    format: Expected,
    tools: Vec<Tool>,
}

#[derive(Debug)]
enum Expected {
    Text,
    Json,
    Schema(Box<Validator>),
}

impl Checks {
    /// Prepares the checks.
    ///
    /// # Errors
    /// INVALID_REQUEST when the schema of the answer is none.
    pub fn new(generation: &Generation) -> Result<Self> {
        let format = match &generation.format {
            Format::Text => Expected::Text,
            Format::Json => Expected::Json,
            Format::Schema(format) => {
                let validator = validator(&format.schema);
                Expected::Schema(Box::new(validator.map_err(|why| Error::invalid("response_format.schema_json", why))?))
            }
        };
        Ok(Self { format, tools: generation.tools.clone() })
    }

    /// Checks a finished answer. One that was cut short by a cap or a filter has the form it has.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn check(&self, completion: &Completion) -> Result<(), String> {
        if matches!(completion.finish, Finish::Length | Finish::ContentFilter) {
            return Ok(());
        }
        for call in &completion.tool_calls {
            self.check_call(&call.name, &call.arguments)?;
        }
        // An answer that only calls tools has no text yet.
        if !completion.tool_calls.is_empty() {
            return Ok(());
        }
        self.check_text(&completion.text())
    }

    fn check_text(&self, text: &str) -> Result<(), String> {
        if matches!(self.format, Expected::Text) {
            return Ok(());
        }
        let value: Value = serde_json::from_str(text).map_err(|error| format!("the answer is no JSON: {error}"))?;
        match &self.format {
            Expected::Schema(validator) => validator.validate(&value).map_err(|error| {
                format!("the answer does not satisfy the schema at \"{}\": {error}", error.instance_path())
            }),
            Expected::Text | Expected::Json => Ok(()),
        }
    }

    fn check_call(&self, name: &str, arguments: &str) -> Result<(), String> {
        let value: Value = serde_json::from_str(arguments)
            .ok()
            .filter(Value::is_object)
            .ok_or_else(|| format!("the arguments of the call of \"{name}\" are no JSON object"))?;
        // Only strict tools promise their schema. What others take is for their owner to say, in a result that the
        // model can learn from; and what a schema that is none would say is not the model's fault.
        let strict = self.tools.iter().find(|tool| tool.strict && tool.name == name);
        let known = strict.and_then(|tool| validator(&tool.parameters).ok());
        known.map_or(Ok(()), |validator| {
            validator.validate(&value).map_err(|error| {
                format!(
                    "the arguments of the call of \"{name}\" do not satisfy its schema at \"{}\": {error}",
                    error.instance_path()
                )
            })
        })
    }
}

/// Linear patterns only, no fetching of references: schemas come from callers.
fn validator(schema: &Value) -> Result<Validator, String> {
    let options = jsonschema::options().with_pattern_options(PatternOptions::regex());
    options.build(schema).map_err(|error| format!("is no usable JSON Schema: {error}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tutti_types::llm::{Message, Part, Sampling, SchemaFormat, ToolCall, ToolChoice};

    use super::*;

    fn checks(format: Format, tools: Vec<Tool>) -> Result<Checks> {
        Checks::new(&Generation {
            messages: vec![Message::User { parts: vec![Part::text("?")], name: None }],
            tools,
            tool_choice: ToolChoice::default(),
            format,
            sampling: Sampling::default(),
        })
    }

    fn schema(schema: Value) -> Format {
        Format::Schema(SchemaFormat { name: "answer".into(), schema, strict: false })
    }

    fn answer(text: &str, finish: Finish) -> Completion {
        Completion {
            parts: vec![Part::text(text)],
            tool_calls: Vec::new(),
            finish,
            raw_finish: String::new(),
            tokens: None,
            model: String::new(),
            provider_request_id: String::new(),
            warnings: Vec::new(),
        }
    }

    #[test]
    fn json_must_be_json_and_satisfy_its_schema() {
        let any = checks(Format::Json, Vec::new()).unwrap();
        assert!(any.check(&answer("[1]", Finish::Stop)).is_ok());
        assert!(any.check(&answer("Sure! [1]", Finish::Stop)).is_err());
        let person = json!({"type": "object", "required": ["age"], "properties": {"age": {"type": "integer"}}});
        let person = checks(schema(person), Vec::new()).unwrap();
        assert!(person.check(&answer(r#"{"age": 4}"#, Finish::Stop)).is_ok());
        let why = person.check(&answer(r#"{"age": "four"}"#, Finish::Stop)).unwrap_err();
        assert!(why.contains("/age"), "{why}");
        // Cut by the cap: the caller sees LENGTH, not a fault of the model.
        assert!(person.check(&answer(r#"{"age":"#, Finish::Length)).is_ok());
    }

    #[test]
    fn a_schema_that_is_none_is_the_callers_fault() {
        let error = checks(schema(json!({"type": 7})), Vec::new()).unwrap_err();
        assert_eq!(error.fields()[0].0, "response_format.schema_json");
        let remote = checks(schema(json!({"$ref": "https://example.com/schema.json"})), Vec::new());
        assert!(remote.is_err(), "nothing is fetched");
    }

    #[test]
    fn arguments_are_objects_and_satisfy_the_schema_of_a_strict_tool() {
        let parameters = json!({"type": "object", "required": ["x"], "properties": {"x": {"type": "number"}}});
        let tool = |name: &str, strict| Tool {
            name: name.into(),
            description: String::new(),
            parameters: parameters.clone(),
            strict,
        };
        let checks = checks(Format::Json, vec![tool("add", true), tool("loose", false)]).unwrap();
        let calls = |name: &str, arguments: &str| {
            let call = ToolCall { id: "1".into(), name: name.into(), arguments: arguments.into(), state: None };
            checks.check(&Completion { tool_calls: vec![call], ..answer("let me see", Finish::ToolCalls) })
        };
        assert!(calls("add", r#"{"x": 1}"#).is_ok());
        assert!(calls("add", r#"{"x": "1"}"#).is_err());
        assert!(calls("add", "[1]").is_err());
        assert!(calls("loose", r#"{"x": "1"}"#).is_ok(), "its owner says what is wrong");
        assert!(calls("loose", "[1]").is_err());
        assert!(calls("unknown", r#"{"anything": 1}"#).is_ok());
        assert!(calls("unknown", "nonsense").is_err());
    }
}
