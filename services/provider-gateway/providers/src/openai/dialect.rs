//! What differs between the servers that speak OpenAI's format, as data.

use tutti_types::llm::Effort;

use crate::Dialect;

/// The switches of one dialect.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// The field of the output cap. Most know only `max_tokens`; OpenAI's reasoning models refuse it.
    pub(super) max_tokens: &'static str,
    /// Usage in a stream must be asked for with `stream_options`.
    pub(super) stream_options: bool,
    /// The field of the seed, where there is one.
    pub(super) seed: Option<&'static str>,
    /// The word for "at least one call".
    pub(super) required: &'static str,
    /// `parallel_tool_calls` is known.
    pub(super) parallel: bool,
    /// `strict` in tools is known.
    pub(super) strict_tools: bool,
    /// Which ids of tool calls are taken.
    pub(super) tool_ids: ToolIds,
    /// `response_format` of type `json_schema` is known; else the schema goes into the prompt.
    pub(super) json_schema: bool,
    /// `top_k` is known.
    pub(super) top_k: bool,
    /// What reasoning models refuse.
    pub(super) sampling: Sampling,
    /// How the amount of thinking is asked for.
    pub(super) effort: EffortStyle,
    /// What must come back of earlier reasoning.
    pub(super) replay: Replay,
    /// How a wish to cache is told.
    pub(super) cache: CacheStyle,
    /// How documents are shown.
    pub(super) files: Files,
    /// A speaker's `name` in user messages is taken.
    pub(super) names: bool,
    /// There are embeddings; with the field of their size.
    pub(super) embeddings: Option<&'static str>,
    /// A cheap request that the credential must pass.
    pub(super) probe: &'static str,
}

/// Which ids of tool calls are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ToolIds {
    Any,
    /// At most 40 characters.
    Forty,
    /// Exactly 9 letters and digits.
    Nine,
}

/// What reasoning models refuse of the sampling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sampling {
    Free,
    /// No temperature, `top_p`, stop texts and penalties.
    OpenAi,
    /// Only the default temperature and `top_p`.
    Fixed,
}

/// How the amount of thinking is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) enum EffortStyle {
    /// `reasoning_effort`, with the words that this model has.
    OpenAi,
    /// `reasoning_effort`, with these words from none to max.
    Words([&'static str; 6]),
    /// `reasoning: {effort}`, with these words from none to max.
    Object([&'static str; 6]),
    /// `thinking: {type: enabled | disabled}`; true adds `reasoning_effort: max` for the most.
    Switch(bool),
    /// `chat_template_kwargs: {enable_thinking}`.
    Template,
}

/// What must come back of earlier reasoning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Replay {
    Never,
    /// Once the conversation has tool calls, every assistant message needs its `reasoning_content`; one that has none
    /// (it came from another model) gets this.
    WithTools(&'static str),
}

/// How a wish to cache is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CacheStyle {
    /// Not at all; caching is the server's own affair.
    Implicit,
    /// `prompt_cache_breakpoint`, from gpt-5.6 on.
    Breakpoint,
    /// Anthropic's `cache_control`, passed through.
    Control,
}

/// How documents are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Files {
    /// Inline only.
    Inline,
    /// Inline, or an address in `file_data`.
    InlineOrUrl,
    /// `document_url`, an address or inline.
    DocumentUrl,
}

/// The words of most servers that know `reasoning_effort`.
const COMMON: EffortStyle = EffortStyle::Words(["low", "low", "low", "medium", "high", "high"]);

/// What nothing is known against.
const COMMON_RULES: Rules = Rules {
    max_tokens: "max_tokens",
    stream_options: true,
    seed: Some("seed"),
    required: "required",
    parallel: true,
    strict_tools: true,
    tool_ids: ToolIds::Any,
    json_schema: true,
    top_k: false,
    sampling: Sampling::Free,
    effort: COMMON,
    replay: Replay::Never,
    cache: CacheStyle::Implicit,
    files: Files::Inline,
    names: true,
    embeddings: Some("dimensions"),
    probe: "/models",
};

/// The rules of a dialect.
pub(super) const fn rules(dialect: Dialect) -> Rules {
    const BASE: Rules = COMMON_RULES;
    match dialect {
        Dialect::OpenAi => Rules {
            max_tokens: "max_completion_tokens",
            tool_ids: ToolIds::Forty,
            sampling: Sampling::OpenAi,
            effort: EffortStyle::OpenAi,
            cache: CacheStyle::Breakpoint,
            ..BASE
        },
        Dialect::Compatible => BASE,
        Dialect::Moonshot => Rules {
            seed: None,
            parallel: false,
            strict_tools: false,
            json_schema: false,
            sampling: Sampling::Fixed,
            effort: EffortStyle::Switch(false),
            // An empty one is taken for a missing one.
            replay: Replay::WithTools(" "),
            embeddings: None,
            ..BASE
        },
        Dialect::DeepSeek => Rules {
            seed: None,
            parallel: false,
            strict_tools: false,
            json_schema: false,
            effort: EffortStyle::Switch(true),
            replay: Replay::WithTools(""),
            embeddings: None,
            ..BASE
        },
        Dialect::Mistral => Rules {
            stream_options: false,
            seed: Some("random_seed"),
            required: "any",
            tool_ids: ToolIds::Nine,
            effort: EffortStyle::Words(["none", "high", "high", "high", "high", "high"]),
            files: Files::DocumentUrl,
            names: false,
            embeddings: Some("output_dimension"),
            ..BASE
        },
        Dialect::Groq => Rules { max_tokens: "max_completion_tokens", embeddings: None, ..BASE },
        Dialect::Together => Rules { top_k: true, ..BASE },
        Dialect::OpenRouter => Rules {
            top_k: true,
            effort: EffortStyle::Object(["none", "minimal", "low", "medium", "high", "xhigh"]),
            cache: CacheStyle::Control,
            files: Files::InlineOrUrl,
            // The list of models is open to everyone.
            probe: "/key",
            ..BASE
        },
        Dialect::LiteLlm => Rules {
            effort: EffortStyle::Words(["none", "minimal", "low", "medium", "high", "high"]),
            cache: CacheStyle::Control,
            ..BASE
        },
        Dialect::Vllm | Dialect::LlamaCpp => Rules { top_k: true, effort: EffortStyle::Template, ..BASE },
    }
}

/// What a model's name tells of an OpenAI model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Generation {
    /// One of `o1`, `o3`, `o4-mini`, ...
    pub(super) o_series: bool,
    /// The version of a `gpt-` model, for instance (5, 6); 0 when the name tells none.
    pub(super) version: (u32, u32),
    /// It thinks, by its name.
    pub(super) reasons: bool,
}

/// Reads an OpenAI model's name.
pub(super) fn generation(model: &str) -> Generation {
    let o_series = model.strip_prefix('o').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    let version = model.strip_prefix("gpt-").map_or((0, 0), version);
    Generation { o_series, version, reasons: o_series || (version.0 >= 5 && !model.contains("-chat")) }
}

/// A leading `5`, `5.6` or `4o`.
pub(super) fn version(text: &str) -> (u32, u32) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let mut numbers = text[..end].split('.').map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// The nearest word that an OpenAI model has for an effort.
pub(super) fn openai_effort(model: &str, effort: Effort) -> &'static str {
    let Generation { o_series, version, .. } = generation(model);
    match effort {
        Effort::None if !o_series && ((5, 1)..(6, 1)).contains(&version) => "none",
        Effort::None | Effort::Minimal if version == (5, 0) => "minimal",
        Effort::None | Effort::Minimal | Effort::Low => "low",
        Effort::Medium => "medium",
        Effort::Max if version >= (6, 0) => "max",
        Effort::Max if version >= (5, 2) => "xhigh",
        Effort::High | Effort::Max => "high",
    }
}

/// The place of an effort in a list of words from none to max.
pub(super) fn rank(effort: Effort) -> usize {
    match effort {
        Effort::None => 0,
        Effort::Minimal => 1,
        Effort::Low => 2,
        Effort::Medium => 3,
        Effort::High => 4,
        Effort::Max => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_which_models_reason() {
        for reasons in ["o1", "o3-mini", "o4-mini-2025-04-16", "gpt-5", "gpt-5.4-mini", "gpt-6.1-sol"] {
            assert!(generation(reasons).reasons, "{reasons}");
        }
        for plain in ["gpt-4o", "gpt-4.1", "gpt-5-chat-latest", "omni-moderation-latest", "chatgpt-4o-latest"] {
            assert!(!generation(plain).reasons, "{plain}");
        }
    }

    #[test]
    fn efforts_are_the_nearest_word_the_model_has() {
        let words = |model| {
            let all = [Effort::None, Effort::Minimal, Effort::Low, Effort::Medium, Effort::High, Effort::Max];
            all.map(|effort| openai_effort(model, effort))
        };
        assert_eq!(words("o3"), ["low", "low", "low", "medium", "high", "high"]);
        assert_eq!(words("gpt-5"), ["minimal", "minimal", "low", "medium", "high", "high"]);
        assert_eq!(words("gpt-5.6-sol"), ["none", "low", "low", "medium", "high", "xhigh"]);
        assert_eq!(words("gpt-6.1-sol"), ["low", "low", "low", "medium", "high", "max"]);
    }
}
