//! What a request needs of a model: its size and the capabilities it takes.

use tutti_proto::{
    gateway::v1::ModelCapabilities,
    llm::v1::{Message, Tool, part::Kind, response_format},
    router::v1::ChatRequest,
};

/// Characters that make a token, roughly (S0 §5.2).
const CHARS_PER_TOKEN: usize = 4;
/// What a picture, a sound or a document counts, for want of a tokenizer.
const TOKENS_PER_MEDIUM: usize = 1_000;

/// What the gateway can make up for, so that a model without it is better than none.
const SOFT: [&str; 2] = ["a JSON schema", "streaming"];

/// The capabilities that a request takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    pub(crate) tools: bool,
    pub(crate) images: bool,
    pub(crate) audio: bool,
    pub(crate) files: bool,
    pub(crate) json_schema: bool,
    pub(crate) streaming: bool,
}

impl Needs {
    /// What the request itself takes; a persona may add tools.
    pub(crate) fn of(chat: &ChatRequest, streaming: bool) -> Self {
        let has = |test: fn(&Kind) -> bool| {
            chat.messages.iter().flat_map(|m| &m.parts).filter_map(|p| p.kind.as_ref()).any(test)
        };
        Self {
            tools: !chat.tools.is_empty() || !chat.mesh_tools.is_empty(),
            images: has(|kind| matches!(kind, Kind::Image(_))),
            audio: has(|kind| matches!(kind, Kind::Audio(_))),
            files: has(|kind| matches!(kind, Kind::File(_))),
            json_schema: chat
                .response_format
                .as_ref()
                .is_some_and(|format| format.kind() == response_format::Kind::JsonSchema),
            streaming,
        }
    }

    /// What a model lacks, in words.
    pub(crate) fn lacking(&self, can: &ModelCapabilities) -> Vec<&'static str> {
        [
            ("tools", self.tools, can.tools),
            ("images", self.images, can.images),
            ("audio", self.audio, can.audio),
            ("files", self.files, can.files),
            ("a JSON schema", self.json_schema, can.json_schema),
            ("streaming", self.streaming, can.streaming),
        ]
        .into_iter()
        .filter(|(_, needed, can)| *needed && !*can)
        .map(|(what, _, _)| what)
        .collect()
    }
}

/// Whether a model that lacks this may still be tried when there is no better one.
pub(crate) fn is_soft(lacking: &[&str]) -> bool {
    lacking.iter().all(|what| SOFT.contains(what))
}

/// An estimate of the tokens of messages and tools.
pub(crate) fn estimate(messages: &[Message], tools: &[Tool]) -> i64 {
    let messages: usize = messages.iter().map(message_tokens).sum();
    let tools: usize = tools.iter().map(|t| chars(&t.name) + chars(&t.description) + chars(&t.parameters_json)).sum();
    i64::try_from(messages + tools / CHARS_PER_TOKEN).unwrap_or(i64::MAX)
}

fn message_tokens(message: &Message) -> usize {
    let (mut text, mut media) = (chars(&message.text), 0);
    let mut of_parts = 0;
    for part in &message.parts {
        match &part.kind {
            Some(Kind::Text(t)) => of_parts += chars(t),
            Some(Kind::Reasoning(r)) => media += chars(&r.text) / CHARS_PER_TOKEN,
            Some(Kind::Image(_) | Kind::Audio(_) | Kind::File(_)) => media += TOKENS_PER_MEDIUM,
            None => {}
        }
    }
    // Servers repeat the text parts in `text`.
    text = if text == of_parts { text } else { text + of_parts };
    let calls: usize = message.tool_calls.iter().map(|c| chars(&c.name) + chars(&c.arguments_json)).sum();
    (text + calls) / CHARS_PER_TOKEN + media
}

fn chars(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use tutti_proto::llm::v1::{Image, Part};

    use super::*;

    #[test]
    fn a_picture_needs_a_model_that_sees() {
        let picture = Part { kind: Some(Kind::Image(Image::default())), cache_hint: None };
        let message = Message { text: "x".repeat(400), parts: vec![picture], ..Default::default() };
        let chat = ChatRequest { messages: vec![message], ..Default::default() };
        assert_eq!(Needs::of(&chat, false).lacking(&ModelCapabilities::default()), ["images"]);
        assert_eq!(estimate(&chat.messages, &[]), 1_100);
    }

    #[test]
    fn mesh_tools_need_a_model_with_tools() {
        let chat = ChatRequest { mesh_tools: vec!["*".into()], ..Default::default() };
        assert_eq!(Needs::of(&chat, true).lacking(&ModelCapabilities::default()), ["tools", "streaming"]);
    }
}
