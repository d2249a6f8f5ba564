//! Proto3 JSON takes member names in camelCase and in snake_case; here both become camelCase.

use serde_json::{Map, Value};

/// Members whose content is the caller's own data and keeps its names.
const FREE: [&str; 6] = ["args", "response", "labels", "responseJsonSchema", "parametersJsonSchema", "enum"];

/// `value` with the names of all protocol members in camelCase.
pub(crate) fn camel(value: &Value) -> Value {
    match value {
        Value::Object(members) => Value::Object(members.iter().map(member).collect()),
        Value::Array(items) => Value::Array(items.iter().map(camel).collect()),
        other => other.clone(),
    }
}

fn member((name, value): (&String, &Value)) -> (String, Value) {
    let name = camel_name(name);
    let value = if FREE.contains(&name.as_str()) {
        value.clone()
    } else if let ("properties", Value::Object(properties)) = (name.as_str(), value) {
        // The names of a schema's properties are data, what they hold is protocol.
        let renamed: Map<String, Value> = properties.iter().map(|(key, schema)| (key.clone(), camel(schema))).collect();
        Value::Object(renamed)
    } else {
        camel(value)
    };
    (name, value)
}

fn camel_name(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut raise = false;
    for c in name.chars() {
        if c == '_' && !out.is_empty() {
            raise = true;
        } else if raise {
            out.extend(c.to_uppercase());
            raise = false;
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::camel;
    use serde_json::json;

    #[test]
    fn protocol_names_change_and_data_does_not() {
        let sent = json!({"generation_config": {"max_output_tokens": 3},
            "contents": [{"parts": [{"function_call": {"name": "f", "args": {"snake_case": 1}}}]}],
            "tools": [{"function_declarations": [{"parameters":
                {"properties": {"snake_name": {"min_items": "1"}}}}]}]});
        let expected = json!({"generationConfig": {"maxOutputTokens": 3},
            "contents": [{"parts": [{"functionCall": {"name": "f", "args": {"snake_case": 1}}}]}],
            "tools": [{"functionDeclarations": [{"parameters":
                {"properties": {"snake_name": {"minItems": "1"}}}}]}]});
        assert_eq!(camel(&sent), expected);
    }
}
