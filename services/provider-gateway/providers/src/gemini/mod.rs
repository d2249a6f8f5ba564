//! Gemini generateContent.
//!
//! - A prompt that was blocked (`blockReason`, no candidate) is the error CONTENT_FILTERED: there is no answer and
//!   nothing is billed. An answer that a filter ended finishes as CONTENT_FILTER.
//! - Finish reasons that mean a broken answer (`MALFORMED_FUNCTION_CALL`, `OTHER`, …) are errors.
//! - Addresses are only taken where Google itself fetches them (its file store, YouTube); others are UNSUPPORTED, since
//!   fetching is the caller's decision.
//! - Thought signatures and call ids live in the provider state of reasoning parts and tool calls (`state`).

mod answer;
mod contents;
mod embed;
mod error;
mod model;
mod parts;
mod request;
mod state;
mod stream;

use tutti_types::llm::{Completion, Generation};

use crate::{Adapter, Credential, Embeddings, HttpRequest, ProviderError, Result, StreamDecoder, Target, json};

/// The adapter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gemini;

impl Adapter for Gemini {
    fn auth(&self, credential: &Credential<'_>) -> Vec<(&'static str, String)> {
        // Never as a query parameter: addresses are logged on their way.
        credential.key.map(|key| ("x-goog-api-key", key.to_owned())).into_iter().collect()
    }

    fn generate(&self, generation: &Generation, target: &Target, stream: bool) -> Result<HttpRequest> {
        let (body, warnings) = request::build(generation, target)?;
        let method = if stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
        let path = format!("/{}:{method}", resource(&target.model));
        Ok(HttpRequest { body: Some(body.to_string().into()), path, headers: Vec::new(), warnings })
    }

    fn completion(&self, body: &[u8], target: &Target) -> Result<Completion> {
        answer::whole(&json::parse(body)?, target)
    }

    fn stream(&self, target: &Target) -> Box<dyn StreamDecoder> {
        Box::new(stream::Decoder::new(target))
    }

    fn error(&self, status: u16, header: &dyn Fn(&str) -> Option<String>, body: &[u8]) -> ProviderError {
        error::classify(status, header, body)
    }

    fn embed(&self, inputs: &[String], dimensions: Option<u32>, target: &Target) -> Result<HttpRequest> {
        Ok(embed::request(inputs, dimensions, &resource(&target.model)))
    }

    fn embeddings(&self, body: &[u8], count: usize) -> Result<Embeddings> {
        embed::read(&json::parse(body)?, count)
    }

    fn probe(&self, _: &Target) -> HttpRequest {
        HttpRequest { body: None, path: "/models?pageSize=1".into(), headers: Vec::new(), warnings: Vec::new() }
    }
}

/// `models/x`, unless the name already says which collection it is in.
fn resource(model: &str) -> String {
    if model.contains('/') { model.to_owned() } else { format!("models/{model}") }
}
