//! OpenAI Chat Completions and its dialects.

mod dialect;
mod embed;
mod errors;
mod messages;
mod request;
mod response;
mod schema;
mod stream;

use tutti_types::llm::{Completion, Generation};

use self::{dialect::Rules, response::Reader};
use crate::{
    Adapter, Credential, Dialect, Embeddings, HttpRequest, ProviderError, Result, StreamDecoder, Target, json,
};

/// The adapter of one dialect.
#[derive(Debug)]
pub(crate) struct OpenAi {
    dialect: Dialect,
    rules: Rules,
}

impl OpenAi {
    pub(crate) fn new(dialect: Dialect) -> Self {
        Self { dialect, rules: dialect::rules(dialect) }
    }
}

impl Adapter for OpenAi {
    fn auth(&self, credential: &Credential<'_>) -> Vec<(&'static str, String)> {
        let mut headers = Vec::new();
        headers.extend(credential.key.map(|key| ("authorization", format!("Bearer {key}"))));
        if matches!(self.dialect, Dialect::OpenAi | Dialect::Compatible | Dialect::LiteLlm) {
            headers.extend(credential.organization.map(|id| ("openai-organization", id.to_owned())));
            headers.extend(credential.project.map(|id| ("openai-project", id.to_owned())));
        }
        headers
    }

    fn generate(&self, generation: &Generation, target: &Target, stream: bool) -> Result<HttpRequest> {
        request::generate(generation, target, &self.rules, stream)
    }

    fn completion(&self, body: &[u8], target: &Target) -> Result<Completion> {
        let mut events = Vec::new();
        let mut reader = Reader::new(target, &self.rules);
        reader.take(&json::parse(body)?, &mut events)?;
        reader.ended();
        reader.finish(&mut events)
    }

    fn stream(&self, target: &Target) -> Box<dyn StreamDecoder> {
        Box::new(stream::Decoder::new(Reader::new(target, &self.rules)))
    }

    fn error(&self, status: u16, header: &dyn Fn(&str) -> Option<String>, body: &[u8]) -> ProviderError {
        errors::from_answer(status, header, body)
    }

    fn embed(&self, inputs: &[String], dimensions: Option<u32>, target: &Target) -> Result<HttpRequest> {
        embed::request(inputs, dimensions, target, self.dialect, &self.rules)
    }

    fn embeddings(&self, body: &[u8], count: usize) -> Result<Embeddings> {
        embed::read(body, count)
    }

    fn probe(&self, _: &Target) -> HttpRequest {
        HttpRequest { body: None, path: self.rules.probe.into(), headers: Vec::new(), warnings: Vec::new() }
    }
}
