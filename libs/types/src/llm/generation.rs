//! What is asked of a model, and what it answered.

use super::{Message, Part, Tool, ToolCall, ToolChoice};
use crate::TokenCounts;

/// A validated generation: what an adapter turns into HTTP.
#[derive(Debug, Clone, PartialEq)]
pub struct Generation {
    /// The conversation, at least one message.
    pub messages: Vec<Message>,
    /// Tools the model may call.
    pub tools: Vec<Tool>,
    /// Whether it must.
    pub tool_choice: ToolChoice,
    /// How the answer must look.
    pub format: Format,
    /// How it is drawn.
    pub sampling: Sampling,
}

/// How the answer must look.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Format {
    /// Free text.
    #[default]
    Text,
    /// Any JSON value.
    Json,
    /// JSON that satisfies a schema.
    Schema(SchemaFormat),
}

/// A schema for the answer.
#[derive(Debug, Clone, PartialEq)]
pub struct SchemaFormat {
    /// Its name, `answer` by default.
    pub name: String,
    /// The JSON Schema.
    pub schema: serde_json::Value,
    /// Enforce it where the provider can.
    pub strict: bool,
}

/// How an answer is drawn.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sampling {
    /// 0 to 2.
    pub temperature: Option<f64>,
    /// 0 to 1.
    pub top_p: Option<f64>,
    /// At least 1.
    pub top_k: Option<u32>,
    /// The output cap; `None` only before the gateway has put in the default. Always sent.
    pub max_output_tokens: Option<u32>,
    /// At most 4 texts, none empty.
    pub stop: Vec<String>,
    /// For repeatable draws.
    pub seed: Option<i64>,
    /// -2 to 2.
    pub presence_penalty: Option<f64>,
    /// -2 to 2.
    pub frequency_penalty: Option<f64>,
    /// How much to think; `None` is the model's default.
    pub effort: Option<Effort>,
}

/// How much to think.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effort {
    /// Not at all.
    None,
    /// As little as possible.
    Minimal,
    /// Little.
    Low,
    /// Some.
    Medium,
    /// Much.
    High,
    /// As much as possible.
    Max,
}

/// Why a generation ended, as the provider says. Cancelled and broken ones are errors, not finishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// Done, or met a stop text.
    Stop,
    /// The output cap or the window was reached.
    Length,
    /// The model wants tools to be run.
    ToolCalls,
    /// A filter or a refusal.
    ContentFilter,
}

/// What a model answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// Text and reasoning, in order.
    pub parts: Vec<Part>,
    /// The tools it wants to be run, in order. Arguments are as the model wrote them, `{}` when it wrote nothing.
    pub tool_calls: Vec<ToolCall>,
    /// Why it ended.
    pub finish: Finish,
    /// The provider's own word for it.
    pub raw_finish: String,
    /// What was used, as the provider told; `None` when it was silent.
    pub tokens: Option<TokenCounts>,
    /// The model that answered, as the provider names it.
    pub model: String,
    /// The provider's id of the answer.
    pub provider_request_id: String,
    /// What was dropped or assumed, in words.
    pub warnings: Vec<String>,
}

impl Completion {
    /// All text parts, concatenated.
    pub fn text(&self) -> String {
        super::message::text_of(&self.parts)
    }
}
