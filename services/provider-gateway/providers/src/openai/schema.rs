//! JSON Schemas in the form that OpenAI enforces: every object closed, every property required.

use serde_json::{Map, Value, json};

/// A schema made strict.
#[derive(Debug, PartialEq)]
pub(super) struct Strict {
    pub(super) schema: Value,
    /// Properties that were optional are now asked for as nullable.
    pub(super) nullable: bool,
}

/// The strict form of a schema; `None` where it can't be said, because an object takes properties of any name.
pub(super) fn strict(schema: &Value) -> Option<Strict> {
    let mut nullable = false;
    let schema = close(schema, &mut nullable)?;
    Some(Strict { schema, nullable })
}

fn close(schema: &Value, nullable: &mut bool) -> Option<Value> {
    let Value::Object(fields) = schema else { return Some(schema.clone()) };
    let mut out = Map::new();
    for (key, value) in fields {
        match key.as_str() {
            "default" | "$schema" => {}
            "properties" | "$defs" | "definitions" => {
                out.insert(key.clone(), close_each(value, nullable)?);
            }
            "oneOf" | "anyOf" | "allOf" | "prefixItems" => {
                let items = value.as_array()?.iter().map(|s| close(s, nullable)).collect::<Option<_>>()?;
                // Only `anyOf` is known, and says the same to a model that writes the value.
                let key = if key == "oneOf" { "anyOf" } else { key.as_str() };
                out.insert(key.into(), Value::Array(items));
            }
            "items" | "not" => {
                out.insert(key.clone(), close(value, nullable)?);
            }
            _ => {
                out.insert(key.clone(), value.clone());
            }
        }
    }
    if is_object(fields) {
        close_object(&mut out, nullable)?;
    }
    Some(Value::Object(out))
}

fn close_each(schemas: &Value, nullable: &mut bool) -> Option<Value> {
    let closed: Option<Map<_, _>> =
        schemas.as_object()?.iter().map(|(name, s)| Some((name.clone(), close(s, nullable)?))).collect();
    closed.map(Value::Object)
}

fn is_object(fields: &Map<String, Value>) -> bool {
    let named = match fields.get("type") {
        Some(Value::String(name)) => name == "object",
        Some(Value::Array(names)) => names.iter().any(|name| name == "object"),
        _ => false,
    };
    named || fields.contains_key("properties")
}

fn close_object(object: &mut Map<String, Value>, nullable: &mut bool) -> Option<()> {
    let open = object.get("additionalProperties").is_some_and(|more| *more != Value::Bool(false));
    if open || object.contains_key("patternProperties") {
        return None;
    }
    let required: Vec<String> = object
        .get("required")
        .and_then(Value::as_array)
        .map(|names| names.iter().filter_map(|n| n.as_str().map(str::to_owned)).collect())
        .unwrap_or_default();
    let mut names = Vec::new();
    if let Some(Value::Object(properties)) = object.get_mut("properties") {
        for (name, schema) in properties {
            if !required.contains(name) {
                *schema = or_null(schema.take());
                *nullable = true;
            }
            names.push(name.clone());
        }
    } else {
        object.insert("properties".into(), json!({}));
    }
    object.insert("required".into(), json!(names));
    object.insert("additionalProperties".into(), Value::Bool(false));
    Some(())
}

fn or_null(mut schema: Value) -> Value {
    if schema.get("enum").is_none()
        && schema.get("const").is_none()
        && let Some(kind @ Value::String(_)) = schema.get_mut("type")
    {
        if kind != "null" {
            *kind = json!([kind.take(), "null"]);
        }
        return schema;
    }
    json!({"anyOf": [schema, {"type": "null"}]})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_closed_and_optional_properties_nullable() {
        let schema = json!({
            "type": "object",
            "required": ["a"],
            "properties": {
                "a": {"type": "array", "items": {"type": "object", "properties": {"x": {"type": "integer"}}}},
                "b": {"type": "string", "default": "q"},
                "c": {"enum": ["p", "q"]},
            },
        });
        let wanted = json!({
            "type": "object",
            "required": ["a", "b", "c"],
            "additionalProperties": false,
            "properties": {
                "a": {"type": "array", "items": {
                    "type": "object", "properties": {"x": {"type": ["integer", "null"]}},
                    "required": ["x"], "additionalProperties": false,
                }},
                "b": {"type": ["string", "null"]},
                "c": {"anyOf": [{"enum": ["p", "q"]}, {"type": "null"}]},
            },
        });
        assert_eq!(strict(&schema), Some(Strict { schema: wanted, nullable: true }));
    }

    #[test]
    fn a_strict_schema_stays_as_it_is() {
        let schema = json!({
            "type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"], "additionalProperties": false,
        });
        assert_eq!(strict(&schema), Some(Strict { schema: schema.clone(), nullable: false }));
    }

    #[test]
    fn maps_cannot_be_strict() {
        assert_eq!(strict(&json!({"type": "object", "additionalProperties": {"type": "string"}})), None);
        assert_eq!(strict(&json!({"type": "array", "items": {"type": "object", "additionalProperties": true}})), None);
    }

    #[test]
    fn a_property_named_like_a_keyword_is_only_a_property() {
        let schema = json!({
            "type": "object", "required": ["default", "oneOf"], "additionalProperties": false,
            "properties": {"default": {"type": "string"}, "oneOf": {"type": "string"}},
        });
        assert_eq!(strict(&schema).unwrap().schema, schema);
    }
}
