//! Anthropic Messages, versions 2023-06-01 and 2026-10-21.
//!
//! - System messages go to the top level; everything else becomes alternating turns (`turns`).
//! - `temperature`, `top_p` and `top_k` exist only on the old version and for models up to 4.6: such requests are
//!   written for the old version, all others for the new one, unless the configuration names a version.
//! - Both credential headers are sent. The old version reads `x-api-key`, the new one `Authorization`, and where both
//!   come, they agree.
//! - An assistant message at the end is gone on with by models before 4.6; for later ones it is UNSUPPORTED, because
//!   without it the answer would be another one.
//! - A refusal is an answer that finishes as CONTENT_FILTER, since its tokens are billed.
//! - `pause_turn` finishes as STOP with a warning: the turn is not over, and goes on when the answer is sent back. What
//!   has no neutral form (redacted thinking, the provider's own tools) is kept as reasoning state for that.

mod answer;
mod blocks;
mod error;
mod model;
mod request;
mod schema;
mod stream;
mod turns;

use tutti_error::Reason;
use tutti_types::llm::{Completion, Generation};

use crate::{Adapter, Credential, Embeddings, HttpRequest, ProviderError, Result, StreamDecoder, Target, json};

/// The API version without sampling parameters.
const NEWEST: &str = "2026-10-21";
/// The API version with them.
const OLDEST: &str = "2023-06-01";

/// The adapter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Anthropic;

impl Adapter for Anthropic {
    fn auth(&self, credential: &Credential<'_>) -> Vec<(&'static str, String)> {
        let Some(key) = credential.key else { return Vec::new() };
        vec![("x-api-key", key.to_owned()), ("authorization", format!("Bearer {key}"))]
    }

    fn generate(&self, generation: &Generation, target: &Target, stream: bool) -> Result<HttpRequest> {
        let request = request::build(generation, target, stream)?;
        Ok(HttpRequest {
            body: Some(request.body.to_string().into()),
            path: "/v1/messages".into(),
            headers: vec![("anthropic-version", request.version)],
            warnings: request.warnings,
        })
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

    fn embed(&self, _: &[String], _: Option<u32>, _: &Target) -> Result<HttpRequest> {
        Err(no_embeddings())
    }

    fn embeddings(&self, _: &[u8], _: usize) -> Result<Embeddings> {
        Err(no_embeddings())
    }

    fn probe(&self, target: &Target) -> HttpRequest {
        let version = target.api_version.as_deref().unwrap_or(NEWEST);
        HttpRequest {
            body: None,
            path: "/v1/models?limit=1".into(),
            headers: vec![("anthropic-version", version.to_owned())],
            warnings: Vec::new(),
        }
    }
}

fn no_embeddings() -> ProviderError {
    ProviderError::new(Reason::Unsupported, "Anthropic has no embeddings")
}
