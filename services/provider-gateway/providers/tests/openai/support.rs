//! Generations, targets and fixtures.

use std::{fs, path::Path};

use serde_json::Value;
use tutti_providers::{Adapter, Dialect, Event, Format, HttpRequest, Result, Target, adapter};
use tutti_types::llm::{self, Completion, Generation, Message, Part, Sampling, Tool, ToolCall, ToolChoice};

pub(crate) fn speaking(dialect: Dialect) -> Box<dyn Adapter> {
    adapter(Format::OpenAi(dialect))
}

pub(crate) fn target(model: &str) -> Target {
    Target {
        provider: "some".into(),
        model: model.into(),
        api_version: None,
        max_output_tokens: None,
        reasoning: false,
        tools: true,
    }
}

pub(crate) fn thinking(model: &str) -> Target {
    Target { reasoning: true, ..target(model) }
}

pub(crate) fn user(text: &str) -> Message {
    Message::User { parts: vec![Part::text(text)], name: None }
}

pub(crate) fn call(id: &str) -> ToolCall {
    ToolCall { id: id.into(), name: "add".into(), arguments: "{\"x\":4}".into(), state: None }
}

pub(crate) fn asks(parts: Vec<Part>, ids: &[&str]) -> Message {
    Message::Assistant { parts, tool_calls: ids.iter().map(|id| call(id)).collect() }
}

pub(crate) fn result(id: &str, parts: Vec<Part>) -> Message {
    Message::Tool { call_id: id.into(), name: "add".into(), parts, is_error: false }
}

pub(crate) fn tool() -> Tool {
    Tool {
        name: "add".into(),
        description: "Adds.".into(),
        parameters: serde_json::json!({"type": "object", "properties": {"x": {"type": "integer"}}}),
        strict: false,
    }
}

pub(crate) fn generation(messages: Vec<Message>) -> Generation {
    Generation {
        messages,
        tools: Vec::new(),
        tool_choice: ToolChoice::default(),
        format: llm::Format::Text,
        sampling: Sampling { max_output_tokens: Some(100), ..Default::default() },
    }
}

/// The request's body, and the request.
pub(crate) fn sent(dialect: Dialect, target: &Target, generation: &Generation, stream: bool) -> (Value, HttpRequest) {
    let request = speaking(dialect).generate(generation, target, stream).unwrap();
    (serde_json::from_slice(request.body.as_ref().unwrap()).unwrap(), request)
}

pub(crate) fn body(dialect: Dialect, target: &Target, generation: &Generation) -> Value {
    sent(dialect, target, generation, false).0
}

pub(crate) fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/openai").join(name);
    fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

pub(crate) fn stream(dialect: Dialect, bytes: &[u8]) -> (Vec<Event>, Result<Completion>) {
    let mut decoder = speaking(dialect).stream(&target("m"));
    let mut events = Vec::new();
    let fed = decoder.feed(bytes, &mut events);
    let answer = fed.and_then(|()| decoder.finish(&mut events));
    (events, answer)
}

/// The answer in a streamed fixture.
pub(crate) fn answer(name: &str) -> Completion {
    stream(Dialect::Compatible, &fixture(name)).1.unwrap()
}

/// A stream of chunks with these choices and more fields, then `[DONE]`.
pub(crate) fn chunks(chunks: &[Value]) -> Vec<u8> {
    let mut out: String = chunks.iter().map(|c| format!("data: {c}\n\n")).collect();
    out.push_str("data: [DONE]\n\n");
    out.into_bytes()
}
