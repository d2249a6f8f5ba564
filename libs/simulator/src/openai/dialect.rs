//! What tells compatible servers apart, chosen by the model's name.

use serde_json::{Value, json};

use crate::plan::{Finish, Plan, ToolCall, Usage};

/// A server that speaks Chat Completions in its own way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// OpenAI's models without reasoning, and the simulator's own.
    OpenAi,
    /// OpenAI's reasoning models: hidden reasoning, no sampling parameters.
    Reasoning,
    /// DeepSeek.
    DeepSeek,
    /// Moonshot's Kimi.
    Kimi,
    /// Mistral.
    Mistral,
    /// OpenAI's open models as Groq and Ollama's `/v1` serve them: `reasoning`.
    Open,
    /// Any other compatible server: tolerant, `reasoning_content`.
    Compatible,
}

impl Dialect {
    pub(crate) fn of(model: &str) -> Self {
        let name = model.rsplit('/').next().unwrap_or(model);
        let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
        if begins(&["gpt-oss", "llama", "qwen"]) {
            Self::Open
        } else if begins(&["gpt-5-chat", "gpt-5.1-chat"]) {
            Self::OpenAi
        } else if begins(&["o1", "o3", "o4", "gpt-5", "gpt-6"]) {
            Self::Reasoning
        } else if begins(&["gpt-", "chatgpt-", "sim"]) {
            Self::OpenAi
        } else if begins(&["deepseek"]) {
            Self::DeepSeek
        } else if begins(&["kimi", "moonshot"]) {
            Self::Kimi
        } else if begins(&["mistral", "magistral", "ministral", "codestral", "pixtral"]) {
            Self::Mistral
        } else {
            Self::Compatible
        }
    }

    /// Whether unknown parameters are refused.
    pub(crate) fn is_strict(self) -> bool {
        matches!(self, Self::OpenAi | Self::Reasoning)
    }

    /// Whether reasoning comes unasked.
    pub(crate) fn always_thinks(self) -> bool {
        matches!(self, Self::DeepSeek | Self::Kimi)
    }

    /// The member that holds visible reasoning; `None` where it is hidden or part of `content`.
    pub(crate) fn thought_field(self) -> Option<&'static str> {
        match self {
            Self::OpenAi | Self::Reasoning | Self::Mistral => None,
            Self::Open => Some("reasoning"),
            Self::DeepSeek | Self::Kimi | Self::Compatible => Some("reasoning_content"),
        }
    }

    /// Whether usage is on the finish chunk instead of one of its own, asked for or not.
    pub(crate) fn usage_on_finish(self) -> bool {
        matches!(self, Self::Kimi | Self::Mistral | Self::DeepSeek)
    }

    /// The identifier of a call. Ids of this simulator are told apart from foreign ones by
    /// `sim`, and those made after reasoning that must come back by `simr`.
    pub(crate) fn call_id(self, call: &ToolCall, thought: bool) -> String {
        match self {
            Self::Mistral => call.key.clone(),
            Self::DeepSeek | Self::Kimi if thought => format!("call_simr{}", call.key),
            _ => format!("call_sim{}", call.key),
        }
    }

    pub(crate) fn usage(self, usage: &Usage) -> Value {
        let mut value = json!({
            "prompt_tokens": usage.input,
            "completion_tokens": usage.output,
            "total_tokens": usage.input.saturating_add(usage.output),
        });
        match self {
            Self::DeepSeek => {
                value["prompt_cache_hit_tokens"] = json!(usage.cached);
                value["prompt_cache_miss_tokens"] = json!(usage.input - usage.cached);
            }
            Self::Kimi => value["cached_tokens"] = json!(usage.cached),
            Self::Mistral => return value,
            _ => {}
        }
        let mut prompt = json!({"cached_tokens": usage.cached, "audio_tokens": 0});
        if usage.cache_write > 0 {
            prompt["cache_write_tokens"] = json!(usage.cache_write);
        }
        value["prompt_tokens_details"] = prompt;
        value["completion_tokens_details"] = json!({
            "reasoning_tokens": usage.reasoning, "audio_tokens": 0,
            "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0});
        value
    }

    pub(crate) fn finish(self, plan: &Plan) -> &str {
        match &plan.finish {
            Finish::Stop | Finish::StopSequence(_) => "stop",
            Finish::Length => "length",
            Finish::ToolCalls => "tool_calls",
            Finish::ContentFilter => "content_filter",
            Finish::Error if self == Self::DeepSeek => "insufficient_system_resource",
            Finish::Error => "error",
            Finish::Raw(reason) => reason,
        }
    }
}

/// The id of the answer.
pub(crate) fn completion_id(plan: &Plan) -> String {
    format!("chatcmpl-sim{}", crate::digest::token(plan.seed, 26))
}

/// Seconds since the Unix epoch.
pub(crate) fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}
