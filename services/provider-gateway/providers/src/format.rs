//! Which adapter speaks which provider's format.

use crate::Adapter;

/// The wire formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OpenAI Chat Completions, in one of its dialects.
    OpenAi(Dialect),
    /// Anthropic Messages.
    Anthropic,
    /// Gemini generateContent.
    Gemini,
    /// Ollama chat.
    Ollama,
}

/// Who speaks OpenAI's format, and so how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// OpenAI itself.
    OpenAi,
    /// A server that follows OpenAI's format and about which no more is known. Also Tutti's simulator.
    Compatible,
    /// Moonshot AI (Kimi).
    Moonshot,
    /// DeepSeek.
    DeepSeek,
    /// Mistral.
    Mistral,
    /// Groq.
    Groq,
    /// Together.
    Together,
    /// OpenRouter.
    OpenRouter,
    /// A LiteLLM proxy.
    LiteLlm,
    /// vLLM.
    Vllm,
    /// llama.cpp's server.
    LlamaCpp,
}

/// The adapter of a format.
pub fn adapter(format: Format) -> Box<dyn Adapter> {
    match format {
        Format::OpenAi(dialect) => Box::new(crate::openai::OpenAi::new(dialect)),
        Format::Anthropic => Box::new(crate::anthropic::Anthropic),
        Format::Gemini => Box::new(crate::gemini::Gemini),
        Format::Ollama => Box::new(crate::ollama::Ollama),
    }
}
