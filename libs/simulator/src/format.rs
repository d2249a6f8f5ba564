//! The names of the wire formats and of what a request asks for.

use serde::{Deserialize, Serialize};

/// A wire format the simulator speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// OpenAI Chat Completions and embeddings, with the dialects of compatible servers.
    OpenAi,
    /// Anthropic Messages.
    Anthropic,
    /// Google Gemini `generateContent`.
    Gemini,
    /// Ollama's native API.
    Ollama,
}

impl Format {
    /// Every format, in the order in which counters are kept.
    pub const ALL: [Self; 4] = [Self::OpenAi, Self::Anthropic, Self::Gemini, Self::Ollama];

    /// The name used in scenario files and in counts, e.g. `openai`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Ollama => "ollama",
        }
    }
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Endpoint {
    /// Generation, unary or streamed.
    Chat,
    /// Embedding vectors.
    Embed,
    /// The list of models, or one model.
    Models,
    /// Counting the tokens of a prompt.
    Count,
    /// Anything else, e.g. Ollama's version.
    Other,
}
