//! The providers that configuration can name.

/// The wire format a backend speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProviderKind {
    /// OpenAI itself.
    OpenAi,
    /// Anthropic Messages.
    Anthropic,
    /// Google Gemini.
    Gemini,
    /// Ollama's own format.
    Ollama,
    /// OpenAI Chat Completions in somebody else's dialect.
    OpenAiCompatible,
    /// The built-in simulator.
    Simulator,
    /// The Claude command line.
    ClaudeCli,
}

/// A known dialect of the OpenAI format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Preset {
    /// Moonshot's international platform.
    Kimi,
    /// Moonshot's platform in China.
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
    /// A vLLM server.
    Vllm,
    /// A llama.cpp server.
    LlamaCpp,
}

impl ProviderKind {
    /// The provider's name as configuration writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Ollama => "ollama",
            Self::OpenAiCompatible => "openai-compatible",
            Self::Simulator => "simulator",
            Self::ClaudeCli => "claude-cli",
        }
    }

    /// Where the provider is found unless configured; `None` where there is no such place.
    pub fn default_base_url(self) -> Option<&'static str> {
        match self {
            Self::OpenAi => Some("https://api.openai.com/v1"),
            Self::Anthropic => Some("https://api.anthropic.com"),
            Self::Gemini => Some("https://generativelanguage.googleapis.com"),
            Self::Ollama => Some("http://localhost:11434"),
            Self::OpenAiCompatible | Self::Simulator | Self::ClaudeCli => None,
        }
    }
}

impl Preset {
    /// All presets with their names.
    pub(crate) const ALL: [(&'static str, Self); 10] = [
        ("kimi", Self::Kimi),
        ("moonshot", Self::Moonshot),
        ("deepseek", Self::DeepSeek),
        ("mistral", Self::Mistral),
        ("groq", Self::Groq),
        ("together", Self::Together),
        ("openrouter", Self::OpenRouter),
        ("litellm", Self::LiteLlm),
        ("vllm", Self::Vllm),
        ("llamacpp", Self::LlamaCpp),
    ];

    /// The preset's name as configuration writes it.
    pub fn as_str(self) -> &'static str {
        let named = Self::ALL.iter().find(|(_, preset)| *preset == self);
        named.map_or("", |(name, _)| name)
    }

    /// Where the service is found unless configured: with the version, without a final slash.
    pub fn default_base_url(self) -> &'static str {
        match self {
            Self::Kimi => "https://api.moonshot.ai/v1",
            Self::Moonshot => "https://api.moonshot.cn/v1",
            Self::DeepSeek => "https://api.deepseek.com",
            Self::Mistral => "https://api.mistral.ai/v1",
            Self::Groq => "https://api.groq.com/openai/v1",
            Self::Together => "https://api.together.xyz/v1",
            Self::OpenRouter => "https://openrouter.ai/api/v1",
            Self::LiteLlm => "http://localhost:4000/v1",
            Self::Vllm => "http://localhost:8000/v1",
            Self::LlamaCpp => "http://localhost:8080/v1",
        }
    }
}

/// The provider ids that are no presets.
const KINDS: [(&str, ProviderKind); 10] = [
    ("openai", ProviderKind::OpenAi),
    ("anthropic", ProviderKind::Anthropic),
    ("claude", ProviderKind::Anthropic),
    ("opus_self", ProviderKind::Anthropic),
    ("gemini", ProviderKind::Gemini),
    ("google", ProviderKind::Gemini),
    ("ollama", ProviderKind::Ollama),
    ("openai-compatible", ProviderKind::OpenAiCompatible),
    ("simulator", ProviderKind::Simulator),
    ("claude-cli", ProviderKind::ClaudeCli),
];

/// What a provider id means; a preset's name means the OpenAI format in its dialect.
pub(crate) fn by_id(id: &str) -> Option<(ProviderKind, Option<Preset>)> {
    let kind = KINDS.iter().find(|(name, _)| *name == id).map(|(_, kind)| (*kind, None));
    kind.or_else(|| {
        let (_, preset) = Preset::ALL.iter().find(|(name, _)| *name == id)?;
        Some((ProviderKind::OpenAiCompatible, Some(*preset)))
    })
}

/// All provider ids.
pub(crate) fn ids<'a>() -> impl Iterator<Item = &'a str> {
    let kinds = KINDS.iter().map(|(name, _)| *name);
    kinds.chain(Preset::ALL.iter().map(|(name, _)| *name))
}

/// The credentials sections that stand in for each other, this one first.
pub(crate) fn credential_group(section: &str) -> Vec<&str> {
    const GROUPS: [&[&str]; 3] = [&["claude", "anthropic", "opus_self"], &["gemini", "google"], &["kimi", "moonshot"]];
    let group = GROUPS.iter().find(|group| group.contains(&section)).copied();
    let others = group.unwrap_or_default().iter().filter(|name| **name != section);
    std::iter::once(section).chain(others.copied()).collect()
}
