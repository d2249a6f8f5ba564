//! Messages, tools and what a provider must get back verbatim.

use bytes::Bytes;

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// Instructions.
    System {
        /// The content.
        parts: Vec<Part>,
    },
    /// The asker.
    User {
        /// The content, never empty.
        parts: Vec<Part>,
        /// The speaker's name.
        name: Option<String>,
    },
    /// The model.
    Assistant {
        /// Text and reasoning, in order.
        parts: Vec<Part>,
        /// The tools it wants to be run, in order.
        tool_calls: Vec<ToolCall>,
    },
    /// The result of one tool call.
    Tool {
        /// The call that is answered; some assistant message before has it.
        call_id: String,
        /// The tool, looked up from the call when the caller left it out.
        name: String,
        /// The content.
        parts: Vec<Part>,
        /// The tool failed, and the content says why.
        is_error: bool,
    },
}

impl Message {
    /// The content.
    pub fn parts(&self) -> &[Part] {
        match self {
            Self::System { parts }
            | Self::User { parts, .. }
            | Self::Assistant { parts, .. }
            | Self::Tool { parts, .. } => parts,
        }
    }

    /// All text parts, concatenated.
    pub fn text(&self) -> String {
        text_of(self.parts())
    }
}

/// All text parts, concatenated.
pub(super) fn text_of(parts: &[Part]) -> String {
    parts.iter().filter_map(|p| if let Content::Text(t) = &p.content { Some(t.as_str()) } else { None }).collect()
}

/// One piece of content, with a wish to cache the prompt up to here.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// What it is.
    pub content: Content,
    /// Cache the prompt up to and including this part.
    pub cache: Option<CacheTtl>,
}

impl Part {
    /// A piece of text without a cache wish.
    pub fn text(text: impl Into<String>) -> Self {
        Self { content: Content::Text(text.into()), cache: None }
    }
}

/// What a piece of content is.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// Text.
    Text(String),
    /// A picture.
    Image(Media),
    /// A sound; always inline.
    Audio(Media),
    /// A document.
    File(Media),
    /// What a model thought.
    Reasoning(Reasoning),
}

/// A file shown to the model.
#[derive(Debug, Clone, PartialEq)]
pub struct Media {
    /// Where it is.
    pub source: MediaSource,
    /// For instance `image/png`; empty only for addresses.
    pub media_type: String,
    /// The name shown to the model.
    pub filename: Option<String>,
    /// `auto`, `low` or `high` for pictures.
    pub detail: Option<String>,
}

/// Where a file is.
#[derive(Debug, Clone, PartialEq)]
pub enum MediaSource {
    /// The bytes.
    Inline(Bytes),
    /// An https address that the provider fetches.
    Url(String),
}

/// How long the provider should keep a cached prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheTtl {
    /// Five minutes.
    FiveMinutes,
    /// One hour.
    OneHour,
}

/// What a model thought.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Reasoning {
    /// The readable part; may be empty.
    pub text: String,
    /// What its provider must get back.
    pub state: Option<ProviderState>,
}

/// Something of a provider's own, kept verbatim and replayed to the same provider and model only.
#[derive(Debug, Clone, PartialEq)]
pub struct ProviderState {
    /// The provider id, for instance `anthropic`.
    pub provider: String,
    /// The model that was asked, as the provider names it.
    pub model: String,
    /// The state; only its adapter knows the form.
    pub data: Bytes,
}

impl ProviderState {
    /// The state, if it belongs to this provider and model.
    pub fn for_target(&self, provider: &str, model: &str) -> Option<&Bytes> {
        (self.provider == provider && self.model == model).then_some(&self.data)
    }
}

/// A tool the model may call.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// 1 to 64 characters of `A-Z a-z 0-9 _ -`.
    pub name: String,
    /// What the model reads.
    pub description: String,
    /// JSON Schema of the arguments; always an object schema.
    pub parameters: serde_json::Value,
    /// Enforce the schema where the provider can.
    pub strict: bool,
}

/// A model's wish to have a tool run.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCall {
    /// Unique in the conversation.
    pub id: String,
    /// The tool.
    pub name: String,
    /// A JSON object as text; `{}` when there are no arguments.
    pub arguments: String,
    /// What its provider must get back with it.
    pub state: Option<ProviderState>,
}

/// Whether and what the model must call.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ToolChoice {
    /// The mode.
    pub mode: ToolMode,
    /// False forbids several calls in one answer.
    pub parallel: Option<bool>,
}

/// The mode of a tool choice.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum ToolMode {
    /// The model decides.
    #[default]
    Auto,
    /// No call.
    None,
    /// At least one call.
    Required,
    /// This tool.
    Tool(String),
}
