//! Embeddings, always in batches.

use serde_json::{Value, json};

use super::error;
use crate::{Embeddings, HttpRequest, ProviderError, Result, json as read};

/// The request for one vector an input; `resource` is the model's, for instance `models/x`.
pub(super) fn request(inputs: &[String], dimensions: Option<u32>, resource: &str) -> HttpRequest {
    let requests = inputs.iter().map(|input| {
        let mut request = json!({"model": resource, "content": {"parts": [{"text": input}]}});
        if let Some(dimensions) = dimensions {
            request["outputDimensionality"] = dimensions.into();
        }
        request
    });
    let requests: Value = requests.collect();
    HttpRequest {
        body: Some(json!({"requests": requests}).to_string().into()),
        path: format!("/{resource}:batchEmbedContents"),
        headers: Vec::new(),
        warnings: Vec::new(),
    }
}

/// Reads the vectors. The format tells neither tokens nor the model.
///
/// # Errors
/// The error inside the body; MALFORMED_OUTPUT unless there are `count` vectors of numbers.
pub(super) fn read(body: &Value, count: usize) -> Result<Embeddings> {
    if let Some(error) = error::inside(body) {
        return Err(error);
    }
    let vectors: Option<Vec<Vec<f32>>> = read::array(body, "embeddings").iter().map(vector).collect();
    match vectors {
        Some(vectors) if vectors.len() == count => Ok(Embeddings { vectors, input_tokens: None, model: String::new() }),
        Some(vectors) => Err(ProviderError::malformed(format!("{} vectors came for {count} inputs", vectors.len()))),
        None => Err(ProviderError::malformed("a vector is missing or has no numbers")),
    }
}

fn vector(embedding: &Value) -> Option<Vec<f32>> {
    // Vectors are kept as f32 everywhere.
    let numbers = read::array(embedding, "values").iter().map(|n| n.as_f64().map(|n| n as f32));
    numbers.collect::<Option<Vec<f32>>>().filter(|numbers| !numbers.is_empty())
}
