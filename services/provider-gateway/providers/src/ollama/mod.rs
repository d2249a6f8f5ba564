//! Ollama's own chat format.

mod request;
mod response;

use serde_json::{Value, json};
use tutti_types::llm::{Completion, Generation};

use self::response::{Decoder, Reader};
use crate::{
    Adapter, Credential, Embeddings, HttpRequest, ProviderError, Result, StreamDecoder, Target, http, json as read_json,
};

/// The adapter.
#[derive(Debug)]
pub(crate) struct Ollama;

impl Adapter for Ollama {
    fn auth(&self, credential: &Credential<'_>) -> Vec<(&'static str, String)> {
        credential.key.map(|key| ("authorization", format!("Bearer {key}"))).into_iter().collect()
    }

    fn generate(&self, generation: &Generation, target: &Target, stream: bool) -> Result<HttpRequest> {
        request::generate(generation, target, stream)
    }

    fn completion(&self, body: &[u8], target: &Target) -> Result<Completion> {
        let mut events = Vec::new();
        let mut reader = Reader::new(target);
        reader.take(&read_json::parse(body)?, &mut events)?;
        reader.finish(&mut events)
    }

    fn stream(&self, target: &Target) -> Box<dyn StreamDecoder> {
        Box::new(Decoder::new(target))
    }

    fn error(&self, status: u16, header: &dyn Fn(&str) -> Option<String>, body: &[u8]) -> ProviderError {
        let mut error = match serde_json::from_slice::<Value>(body) {
            Ok(value) => response::error(status, &value),
            Err(_) => ProviderError::new(http::reason_of_status(status), http::plain_message(status, body)),
        };
        error.http_status = status;
        error.retry_after = http::retry_after(header);
        error
    }

    fn embed(&self, inputs: &[String], dimensions: Option<u32>, target: &Target) -> Result<HttpRequest> {
        // Without `truncate: false` the end of a long text is lost without a word.
        let mut body = json!({"model": target.model, "input": inputs, "truncate": false});
        if let Some(dimensions) = dimensions {
            body["dimensions"] = json!(dimensions);
        }
        let body = Some(body.to_string().into());
        Ok(HttpRequest { body, path: "/api/embed".into(), headers: Vec::new(), warnings: Vec::new() })
    }

    fn embeddings(&self, body: &[u8], count: usize) -> Result<Embeddings> {
        let answer = read_json::parse(body)?;
        if answer.get("error").is_some() {
            return Err(response::error(0, &answer));
        }
        let vectors: Vec<_> =
            read_json::array(&answer, "embeddings").iter().map(read_json::vector).collect::<Result<_>>()?;
        if vectors.len() != count || vectors.iter().any(Vec::is_empty) {
            let message = format!("{count} embeddings were asked for, {} came", vectors.len());
            return Err(ProviderError::malformed(message));
        }
        Ok(Embeddings {
            vectors,
            input_tokens: answer.get("prompt_eval_count").and_then(read_json::count),
            model: read_json::text(&answer, "model").to_owned(),
        })
    }

    fn probe(&self, _: &Target) -> HttpRequest {
        HttpRequest { body: None, path: "/api/tags".into(), headers: Vec::new(), warnings: Vec::new() }
    }
}
