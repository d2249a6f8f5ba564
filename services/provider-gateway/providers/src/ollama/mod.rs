//! In the making.
use tutti_types::llm::{Completion, Generation};
use crate::{Adapter, Credential, Embeddings, HttpRequest, ProviderError, Result, StreamDecoder, Target};
#[derive(Debug)]
pub(crate) struct Ollama;
fn no<T>() -> Result<T> { Err(ProviderError::new(tutti_error::Reason::Unsupported, "in the making")) }
#[derive(Debug)]
struct D(crate::assembler::Assembler);
impl StreamDecoder for D {
    fn feed(&mut self, _: &[u8], _: &mut Vec<crate::Event>) -> Result<()> { no() }
    fn finish(&mut self, _: &mut Vec<crate::Event>) -> Result<Completion> { no() }
    fn partial(&self) -> Completion { self.0.partial() }
}
impl Adapter for Ollama {
    fn auth(&self, _: &Credential<'_>) -> Vec<(&'static str, String)> { Vec::new() }
    fn generate(&self, _: &Generation, _: &Target, _: bool) -> Result<HttpRequest> { no() }
    fn completion(&self, _: &[u8], _: &Target) -> Result<Completion> { no() }
    fn stream(&self, target: &Target) -> Box<dyn StreamDecoder> { Box::new(D(crate::assembler::Assembler::new(target, crate::assembler::RawUsage::totals))) }
    fn error(&self, _: u16, _: &dyn Fn(&str) -> Option<String>, _: &[u8]) -> ProviderError { ProviderError::truncated() }
    fn embed(&self, _: &[String], _: Option<u32>, _: &Target) -> Result<HttpRequest> { no() }
    fn embeddings(&self, _: &[u8], _: usize) -> Result<Embeddings> { no() }
    fn probe(&self, _: &Target) -> HttpRequest { HttpRequest { body: None, path: "/".into(), headers: vec![], warnings: vec![] } }
}
