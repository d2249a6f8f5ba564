//! Lenient readers: providers send numbers as floats, codes as integers, objects as strings.

use serde_json::Value;

use crate::{ProviderError, Result};

/// Reads a whole JSON value.
///
/// # Errors
/// MALFORMED_OUTPUT with the beginning of the text.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value> {
    serde_json::from_slice(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)).map_err(|error| {
        let start = String::from_utf8_lossy(&bytes[..bytes.len().min(120)]).into_owned();
        ProviderError::malformed(format!("not JSON ({error}): {start}"))
    })
}

/// A count: an integer, a float that is not negative, or either as text.
pub(crate) fn count(value: &Value) -> Option<u64> {
    match value {
        Value::Number(n) => n.as_u64().or_else(|| n.as_f64().and_then(whole)),
        Value::String(s) => s.trim().parse().ok().or_else(|| s.trim().parse().ok().and_then(whole)),
        _ => None,
    }
}

fn whole(n: f64) -> Option<u64> {
    // The cast saturates; counts of tokens are far below 2^53.
    (n.is_finite() && n >= 0.0).then_some(n as u64)
}

/// The text under a key; empty when it is missing or no text.
pub(crate) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// A code: text or a number, else empty.
pub(crate) fn code(value: &Value) -> String {
    match value {
        Value::String(s) => s.clone(),
        Value::Number(n) => n.to_string(),
        _ => String::new(),
    }
}

/// The elements of the array under a key; none when it is missing or no array.
pub(crate) fn array<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A tool call's arguments as JSON text: text as it is, objects written out, nothing as empty.
pub(crate) fn arguments(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(s) => s.clone(),
        other => other.to_string(),
    }
}

/// A vector from a list of numbers.
///
/// # Errors
/// MALFORMED_OUTPUT unless it is a list of numbers.
pub(crate) fn vector(value: &Value) -> Result<Vec<f32>> {
    // Embeddings are 32-bit; more digits are only how JSON writes them.
    let numbers = value.as_array().map(|list| list.iter().map(|n| n.as_f64().map(|n| n as f32)).collect());
    numbers.flatten().ok_or_else(|| ProviderError::malformed("an embedding is no list of numbers"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn counts_are_read_from_integers_floats_and_text() {
        assert_eq!(count(&json!(7)), Some(7));
        assert_eq!(count(&json!(7.0)), Some(7));
        assert_eq!(count(&json!("7")), Some(7));
        assert_eq!(count(&json!(-1)), None);
        assert_eq!(count(&json!(null)), None);
    }

    #[test]
    fn codes_are_text_or_numbers() {
        assert_eq!(code(&json!("a")), "a");
        assert_eq!(code(&json!(400)), "400");
        assert_eq!(code(&json!(null)), "");
    }

    #[test]
    fn arguments_are_text_whatever_they_came_as() {
        assert_eq!(arguments(&json!("{\"x\":1}")), "{\"x\":1}");
        assert_eq!(arguments(&json!({"x": 1})), "{\"x\":1}");
        assert_eq!(arguments(&json!(null)), "");
    }

    #[test]
    fn broken_json_is_named_malformed() {
        assert_eq!(parse(b"<html>").unwrap_err().reason, tutti_error::Reason::MalformedOutput);
    }
}
