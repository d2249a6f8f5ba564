//! The providers' wire formats, sans-IO: pure functions from a [`Generation`] to HTTP parts, from bytes to [`Event`]s,
//! and from an error body to its class. One driver in the gateway does HTTP, timeouts and retries for all of them.
//!
//! An adapter never reads a clock, a socket or the environment, so it is tested with recorded bytes and no server.

mod anthropic;
mod assembler;
mod calls;
mod error;
mod format;
mod gemini;
mod http;
mod json;
mod lines;
mod ollama;
mod openai;
mod sse;

use std::fmt;

use bytes::Bytes;
use tutti_types::{
    TokenCounts,
    llm::{Completion, Generation, ToolCall},
};

pub use error::ProviderError;
pub use format::{Dialect, Format, adapter};

/// `Result` with a provider's failure.
pub type Result<T, E = ProviderError> = std::result::Result<T, E>;

/// What a request is made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The provider id that stamps and matches provider state: `openai`, `anthropic`, `gemini`, `ollama`, or the
    /// preset's id, for instance `deepseek`.
    pub provider: String,
    /// The model, as the provider names it (aliases resolved, no `provider/` prefix).
    pub model: String,
    /// The configured API version; `None` takes the adapter's newest that suits the model.
    pub api_version: Option<String>,
    /// The model's largest output, where the catalogue knows it.
    pub max_output_tokens: Option<u32>,
    /// The model thinks before it answers, as far as the catalogue knows.
    pub reasoning: bool,
    /// The model calls functions natively, as far as the catalogue knows.
    pub tools: bool,
}

/// An HTTP request without host and credential.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpRequest {
    /// GET without a body, POST with one.
    pub body: Option<Bytes>,
    /// Appended to the base address; begins with `/`, carries the query.
    pub path: String,
    /// Headers besides `content-type: application/json` and the credential.
    pub headers: Vec<(&'static str, String)>,
    /// What was dropped or changed because the model can't take it, in words.
    pub warnings: Vec<String>,
}

/// A credential, borrowed for one request.
#[derive(Clone, Copy, Default)]
pub struct Credential<'a> {
    /// The secret; `None` for servers without one.
    pub key: Option<&'a str>,
    /// OpenAI's organisation.
    pub organization: Option<&'a str>,
    /// OpenAI's project.
    pub project: Option<&'a str>,
}

impl fmt::Debug for Credential<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(masked)")
    }
}

/// A piece of an answer, as it streams.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Text; never empty.
    Text(String),
    /// Readable reasoning; never empty.
    Reasoning(String),
    /// A whole tool call.
    ToolCall(ToolCall),
    /// Usage so far, cumulative.
    Usage(TokenCounts),
}

/// Vectors and what they took.
#[derive(Debug, Clone, PartialEq)]
pub struct Embeddings {
    /// One vector an input, in the order of the inputs.
    pub vectors: Vec<Vec<f32>>,
    /// Input tokens, where the provider tells.
    pub input_tokens: Option<u64>,
    /// The model, as the provider names it.
    pub model: String,
}

/// One wire format. Stateless; the same value serves all calls.
pub trait Adapter: Send + Sync + fmt::Debug {
    /// The headers that carry a credential.
    fn auth(&self, credential: &Credential<'_>) -> Vec<(&'static str, String)>;

    /// The request for a generation. What the model can't take is dropped with a warning where that is harmless.
    ///
    /// # Errors
    /// UNSUPPORTED where the format has no place for what was asked and dropping it would change the answer's meaning.
    fn generate(&self, generation: &Generation, target: &Target, stream: bool) -> Result<HttpRequest>;

    /// Reads a whole answer (HTTP 200, not streamed).
    ///
    /// # Errors
    /// MALFORMED_OUTPUT, EMPTY_OUTPUT, CONTENT_FILTERED (a prompt that was refused), or the error inside the body.
    fn completion(&self, body: &[u8], target: &Target) -> Result<Completion>;

    /// A decoder for one streamed answer (HTTP 200).
    fn stream(&self, target: &Target) -> Box<dyn StreamDecoder>;

    /// The class of an answer that is not 2xx. `header` looks a header up by its lower-case name. Never fails: what
    /// can't be read is classed by the status alone.
    fn error(&self, status: u16, header: &dyn Fn(&str) -> Option<String>, body: &[u8]) -> ProviderError;

    /// The request for embeddings.
    ///
    /// # Errors
    /// UNSUPPORTED where the provider has none.
    fn embed(&self, inputs: &[String], dimensions: Option<u32>, target: &Target) -> Result<HttpRequest>;

    /// Reads the answer of `embed`, with one vector for each of `count` inputs.
    ///
    /// # Errors
    /// MALFORMED_OUTPUT, or the error inside the body.
    fn embeddings(&self, body: &[u8], count: usize) -> Result<Embeddings>;

    /// A cheap request that shows whether the provider answers and takes the credential; never a generation.
    fn probe(&self, target: &Target) -> HttpRequest;
}

/// Decodes one streamed answer, cut into pieces anywhere. Cost per piece is independent of what came before.
pub trait StreamDecoder: Send + fmt::Debug {
    /// Takes the next bytes of the body and appends what they complete.
    ///
    /// # Errors
    /// MALFORMED_OUTPUT, or the provider's error inside the stream. The decoder is not fed after that.
    fn feed(&mut self, bytes: &[u8], events: &mut Vec<Event>) -> Result<()>;

    /// The body has ended. Appends what was still open and gives the whole answer.
    ///
    /// # Errors
    /// TRUNCATED when the format's end mark is missing, EMPTY_OUTPUT, MALFORMED_OUTPUT, CONTENT_FILTERED.
    fn finish(&mut self, events: &mut Vec<Event>) -> Result<Completion>;

    /// What there is so far, for an answer that broke or was cancelled: text and reasoning, whole tool calls, the
    /// usage told so far. `finish` is meaningless in it.
    fn partial(&self) -> Completion;
}
