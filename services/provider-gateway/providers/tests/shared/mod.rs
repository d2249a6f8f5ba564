//! What the suites of the adapters share: the crate around it names its `PROVIDER`, `FORMAT` and usual `MODEL`.

use std::{fs, path::PathBuf};

use serde_json::Value;
use tutti_providers::{Adapter, Event, HttpRequest, Result, Target};
use tutti_types::llm::{Completion, Generation, Message, Part, Sampling, ToolChoice};

use crate::{FORMAT, MODEL, PROVIDER};

pub(crate) fn adapter() -> Box<dyn Adapter> {
    tutti_providers::adapter(FORMAT)
}

pub(crate) fn target(model: &str) -> Target {
    Target {
        provider: PROVIDER.into(),
        model: model.into(),
        api_version: None,
        max_output_tokens: None,
        reasoning: true,
        tools: true,
    }
}

pub(crate) fn user(text: &str) -> Message {
    Message::User { parts: vec![Part::text(text)], name: None }
}

pub(crate) fn ask(messages: Vec<Message>) -> Generation {
    Generation {
        messages,
        tools: Vec::new(),
        tool_choice: ToolChoice::default(),
        format: tutti_types::llm::Format::Text,
        sampling: Sampling { max_output_tokens: Some(1000), ..Sampling::default() },
    }
}

pub(crate) fn request(generation: &Generation, model: &str) -> HttpRequest {
    adapter().generate(generation, &target(model), false).unwrap()
}

pub(crate) fn body(request: &HttpRequest) -> Value {
    serde_json::from_slice(request.body.as_ref().unwrap()).unwrap()
}

/// The JSON of a generation for a model.
pub(crate) fn json_of(generation: &Generation, model: &str) -> Value {
    body(&request(generation, model))
}

pub(crate) fn fixture(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(PROVIDER).join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The events and the outcome of a streamed answer.
pub(crate) fn decode(bytes: &[u8]) -> (Vec<Event>, Result<Completion>) {
    let mut decoder = adapter().stream(&target(MODEL));
    let mut events = Vec::new();
    for piece in bytes.chunks(7) {
        if let Err(error) = decoder.feed(piece, &mut events) {
            return (events, Err(error));
        }
    }
    let outcome = decoder.finish(&mut events);
    (events, outcome)
}

pub(crate) fn streamed(name: &str) -> Completion {
    decode(&fixture(&format!("{name}.sse"))).1.unwrap()
}

pub(crate) fn whole(name: &str) -> Completion {
    adapter().completion(&fixture(&format!("{name}.json")), &target(MODEL)).unwrap()
}
