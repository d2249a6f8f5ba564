//! JSON Schemas as Anthropic enforces them: closed objects, and without the bounds its grammar can't express.

use serde_json::{Map, Value};

/// Keywords that are refused. They stay visible to the model as a description; the gateway checks answers against the
/// caller's own schema anyway.
const BOUNDS: [&str; 12] = [
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "maxItems",
    "uniqueItems",
    "minProperties",
    "maxProperties",
    "patternProperties",
];

/// The schema with every object closed and bounds moved into descriptions: what satisfies it may still miss a bound,
/// but everything else of the caller's schema holds.
pub(super) fn enforceable(schema: &Value) -> Value {
    let Value::Object(source) = schema else { return schema.clone() };
    let mut out = Map::new();
    let mut bounds = Vec::new();
    for (key, value) in source {
        match (key.as_str(), value) {
            ("properties" | "$defs" | "definitions", Value::Object(schemas)) => {
                let schemas = schemas.iter().map(|(name, schema)| (name.clone(), enforceable(schema)));
                out.insert(key.clone(), Value::Object(schemas.collect()));
            }
            ("items", item) => {
                out.insert(key.clone(), enforceable(item));
            }
            ("anyOf" | "allOf", Value::Array(schemas)) => {
                out.insert(key.clone(), schemas.iter().map(enforceable).collect());
            }
            ("oneOf", Value::Array(schemas)) => {
                out.insert("anyOf".into(), schemas.iter().map(enforceable).collect());
            }
            ("$schema" | "additionalProperties", _) => {}
            (bound, _) if BOUNDS.contains(&bound) || (bound == "minItems" && value.as_u64() > Some(1)) => {
                bounds.push(format!("{bound}: {value}"));
            }
            _ => {
                out.insert(key.clone(), value.clone());
            }
        }
    }
    if source.get("type").is_some_and(|kind| kind == "object") || source.contains_key("properties") {
        out.insert("additionalProperties".into(), Value::Bool(false));
    }
    describe(&mut out, &bounds);
    Value::Object(out)
}

fn describe(schema: &mut Map<String, Value>, bounds: &[String]) {
    if bounds.is_empty() {
        return;
    }
    let bounds = format!("({})", bounds.join(", "));
    let text = match schema.get("description").and_then(Value::as_str) {
        Some(text) => format!("{text} {bounds}"),
        None => bounds,
    };
    schema.insert("description".into(), text.into());
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn objects_are_closed_and_bounds_become_words() {
        let schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {
                "minimum": {"type": "integer", "minimum": 1, "description": "how many"},
                "tags": {"type": "array", "minItems": 1, "items": {"type": "object", "properties": {}}},
            },
            "required": ["minimum"],
        });
        assert_eq!(
            enforceable(&schema),
            json!({
                "type": "object",
                "properties": {
                    "minimum": {"type": "integer", "description": "how many (minimum: 1)"},
                    "tags": {"type": "array", "minItems": 1,
                        "items": {"type": "object", "properties": {}, "additionalProperties": false}},
                },
                "required": ["minimum"],
                "additionalProperties": false,
            })
        );
    }
}
