//! Small readers of loosely typed JSON: absent, null and wrong kinds read as "nothing",
//! because refusing them is the work of each format's `validate` module.

use serde_json::Value;

/// The text of member `key`, or `""`.
pub(crate) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The items of array member `key`, or none.
pub(crate) fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Member `key` unless it is absent or null.
pub(crate) fn given<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    value.get(key).filter(|member| !member.is_null())
}

/// Whether member `key` is `true`.
pub(crate) fn flag(value: &Value, key: &str) -> bool {
    value.get(key).and_then(Value::as_bool).unwrap_or_default()
}

/// Texts of a member that is one text or a list of texts.
pub(crate) fn texts(value: &Value, key: &str) -> Vec<String> {
    match value.get(key) {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(many)) => many.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect(),
        _ => Vec::new(),
    }
}

/// The first key of object `value` that is not in `known`.
pub(crate) fn unknown_key<'a>(value: &'a Value, known: &[&str]) -> Option<&'a str> {
    let members = value.as_object()?;
    members.keys().map(String::as_str).find(|key| !known.contains(key))
}

/// Appends `text` as a JSON string.
pub(crate) fn write_text(out: &mut Vec<u8>, text: &str) {
    // Writing to memory cannot fail.
    let _ = serde_json::to_writer(out, text);
}

/// Appends `value` as JSON.
pub(crate) fn write_value(out: &mut Vec<u8>, value: &Value) {
    // Writing to memory cannot fail.
    let _ = serde_json::to_writer(out, value);
}
