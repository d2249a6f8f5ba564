//! An instance of a JSON schema: what a model constrained to the schema would answer.

use serde_json::{Map, Number, Value, json};

use crate::json;

/// Deeper than this, recursive schemas are cut short with null.
const MAX_DEPTH: usize = 12;

/// A JSON value that satisfies `schema` (the JSON Schema of tools and structured output,
/// or Gemini's OpenAPI subset with upper-case types). Texts repeat the member's name.
pub(crate) fn instance(schema: &Value) -> Value {
    Generator { root: schema }.value(schema, "text", 0)
}

struct Generator<'a> {
    root: &'a Value,
}

impl Generator<'_> {
    fn value(&self, schema: &Value, name: &str, depth: usize) -> Value {
        if depth > MAX_DEPTH {
            return Value::Null;
        }
        if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
            let found = target.strip_prefix('#').and_then(|path| self.root.pointer(path));
            return found.map_or(Value::Null, |found| self.value(found, name, depth + 1));
        }
        if let Some(constant) = schema.get("const") {
            return constant.clone();
        }
        if let Some(first) = json::list(schema, "enum").first() {
            return first.clone();
        }
        for combinator in ["anyOf", "any_of", "oneOf"] {
            if let Some(first) = json::list(schema, combinator).first() {
                return self.value(first, name, depth + 1);
            }
        }
        if !json::list(schema, "allOf").is_empty() {
            return self.all_of(schema, name, depth);
        }
        match kind(schema).as_str() {
            "object" => self.object(schema, depth),
            "array" => self.array(schema, name, depth),
            "string" => text(schema, name),
            "integer" => number(schema, true),
            "number" => number(schema, false),
            "boolean" => Value::Bool(true),
            _ => Value::Null,
        }
    }

    /// Members of every part, merged.
    fn all_of(&self, schema: &Value, name: &str, depth: usize) -> Value {
        let mut members = Map::new();
        let mut other = Value::Null;
        for part in json::list(schema, "allOf") {
            match self.value(part, name, depth + 1) {
                Value::Object(more) => members.extend(more),
                value => other = value,
            }
        }
        if members.is_empty() { other } else { Value::Object(members) }
    }

    fn object(&self, schema: &Value, depth: usize) -> Value {
        let mut members = Map::new();
        if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
            for (name, property) in properties {
                members.insert(name.clone(), self.value(property, name, depth + 1));
            }
        }
        Value::Object(members)
    }

    fn array(&self, schema: &Value, name: &str, depth: usize) -> Value {
        let least = schema.get("minItems").and_then(Value::as_u64).unwrap_or(0);
        let most = schema.get("maxItems").and_then(Value::as_u64).unwrap_or(u64::MAX);
        let count = least.max(1).min(most).min(1000);
        let fixed = json::list(schema, "prefixItems");
        let items = schema.get("items");
        let members = (0..count).map(|at| {
            let at = usize::try_from(at).unwrap_or_default();
            match (fixed.get(at), items) {
                (Some(own), _) | (None, Some(own)) => self.value(own, name, depth + 1),
                (None, None) => json!(name),
            }
        });
        Value::Array(members.collect())
    }
}

/// The type in lower case; the first non-null of several; guessed from the keywords if absent.
fn kind(schema: &Value) -> String {
    let named = match schema.get("type") {
        Some(Value::String(one)) => Some(one.as_str()),
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).find(|t| *t != "null"),
        _ => None,
    };
    match named {
        Some(named) => named.to_ascii_lowercase(),
        None if schema.get("properties").is_some() => "object".into(),
        None if schema.get("items").is_some() => "array".into(),
        None => "string".into(),
    }
}

fn text(schema: &Value, name: &str) -> Value {
    let fixed = match json::text(schema, "format") {
        "date-time" => Some("2026-01-02T03:04:05Z"),
        "date" => Some("2026-01-02"),
        "time" => Some("03:04:05Z"),
        "email" => Some("someone@example.com"),
        "uri" => Some("https://example.com/"),
        "uuid" => Some("00000000-0000-4000-8000-000000000000"),
        "ipv4" => Some("192.0.2.1"),
        _ => None,
    };
    let mut text = fixed.unwrap_or(name).to_owned();
    let least = schema.get("minLength").and_then(Value::as_u64).unwrap_or(0).min(10_000);
    while u64::try_from(text.chars().count()).unwrap_or(u64::MAX) < least {
        text.push('x');
    }
    if let Some(most) = schema.get("maxLength").and_then(Value::as_u64) {
        text = text.chars().take(usize::try_from(most).unwrap_or(usize::MAX)).collect();
    }
    Value::String(text)
}

fn number(schema: &Value, whole: bool) -> Value {
    let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
    let mut value: f64 = 1.0;
    if let Some(least) = bound("minimum") {
        value = value.max(least);
    }
    if let Some(below) = bound("exclusiveMinimum") {
        value = value.max(below + 1.0);
    }
    if let Some(most) = bound("maximum") {
        value = value.min(most);
    }
    if let Some(above) = bound("exclusiveMaximum").filter(|above| value >= *above) {
        value = above - 1.0;
    }
    if let Some(step) = bound("multipleOf").filter(|step| *step > 0.0) {
        value = (value / step).ceil() * step;
    }
    if whole {
        // Schemas of tools stay far inside the range where this is exact.
        #[allow(clippy::cast_possible_truncation, reason = "bounded by the schema's own figures")]
        return Value::from(value.ceil() as i64);
    }
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}

#[cfg(test)]
mod tests {
    use super::instance;
    use serde_json::json;

    #[test]
    fn every_kind_of_member_is_made() {
        let schema = json!({"type": "object", "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer", "minimum": 3},
            "unit": {"enum": ["C", "F"]},
            "tags": {"type": "array", "items": {"type": "string", "maxLength": 2}, "minItems": 2},
            "at": {"$ref": "#/$defs/At"},
            "maybe": {"type": ["null", "boolean"]},
            "fixed": {"const": 7}
        }, "$defs": {"At": {"type": "STRING", "format": "date"}}});
        let expected = json!({"city": "city", "days": 3, "unit": "C", "tags": ["ta", "ta"],
            "at": "2026-01-02", "maybe": true, "fixed": 7});
        assert_eq!(instance(&schema), expected);
    }

    #[test]
    fn a_recursive_schema_ends() {
        let schema = json!({"type": "object", "properties": {"next": {"$ref": "#"}}});
        assert!(instance(&schema).is_object());
    }

    #[test]
    fn bounds_of_numbers_hold() {
        assert_eq!(instance(&json!({"type": "number", "maximum": 0.5})), json!(0.5));
        assert_eq!(instance(&json!({"type": "integer", "multipleOf": 5})), json!(5));
    }
}
