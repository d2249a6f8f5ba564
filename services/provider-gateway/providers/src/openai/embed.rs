//! Embeddings.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tutti_error::Reason;

use super::{dialect::Rules, errors};
use crate::{Dialect, Embeddings, HttpRequest, ProviderError, Result, Target, json as read_json};

pub(super) fn request(
    inputs: &[String],
    dimensions: Option<u32>,
    target: &Target,
    dialect: Dialect,
    rules: &Rules,
) -> Result<HttpRequest> {
    let Some(size) = rules.embeddings else {
        return Err(ProviderError::new(Reason::Unsupported, "the provider has no embeddings"));
    };
    let mut body = json!({"model": target.model, "input": inputs});
    if dialect == Dialect::OpenAi {
        // A third of the bytes. Others may not know it, and both forms are read.
        body["encoding_format"] = json!("base64");
    }
    if let Some(dimensions) = dimensions {
        body[size] = json!(dimensions);
    }
    let body = Some(body.to_string().into());
    Ok(HttpRequest { body, path: "/embeddings".into(), headers: Vec::new(), warnings: Vec::new() })
}

pub(super) fn read(body: &[u8], count: usize) -> Result<Embeddings> {
    let answer = read_json::parse(body)?;
    if let Some(error) = errors::find(&answer) {
        return Err(error);
    }
    let mut vectors = vec![Vec::new(); count];
    for (position, item) in read_json::array(&answer, "data").iter().enumerate() {
        let index = item.get("index").and_then(read_json::count).and_then(|i| usize::try_from(i).ok());
        let slot = vectors.get_mut(index.unwrap_or(position)).ok_or_else(|| wrong_count(count))?;
        *slot = vector(item.get("embedding").unwrap_or(&Value::Null))?;
    }
    if vectors.iter().any(Vec::is_empty) {
        return Err(wrong_count(count));
    }
    let tokens = |key| answer.pointer(key).and_then(read_json::count);
    Ok(Embeddings {
        vectors,
        input_tokens: tokens("/usage/prompt_tokens").or_else(|| tokens("/usage/total_tokens")),
        model: read_json::text(&answer, "model").to_owned(),
    })
}

/// A vector as a list of numbers, or as little-endian 32-bit floats in base64.
fn vector(value: &Value) -> Result<Vec<f32>> {
    if let Some(text) = value.as_str() {
        let bytes = STANDARD.decode(text).map_err(|_| ProviderError::malformed("an embedding is not base64"))?;
        let (floats, rest) = bytes.as_chunks::<4>();
        if !rest.is_empty() {
            return Err(ProviderError::malformed("an embedding is cut inside a number"));
        }
        return Ok(floats.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect());
    }
    read_json::vector(value)
}

fn wrong_count(count: usize) -> ProviderError {
    ProviderError::malformed(format!("{count} embeddings were asked for, others came"))
}
