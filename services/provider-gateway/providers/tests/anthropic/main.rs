//! The Anthropic adapter: requests as exact JSON, answers and failures from made-up bytes of the real form.
#![cfg(test)]

mod answer;
mod error;
mod replay;
mod request;

use std::{fs, path::PathBuf};

use serde_json::Value;
use tutti_providers::{Adapter, Event, Format, HttpRequest, Result, Target, adapter};
use tutti_types::llm::{Completion, Generation, Message, Part, Sampling, ToolChoice};

const MODEL: &str = "claude-opus-5-5";

fn anthropic() -> Box<dyn Adapter> {
    adapter(Format::Anthropic)
}

fn target(model: &str) -> Target {
    Target {
        provider: "anthropic".into(),
        model: model.into(),
        api_version: None,
        max_output_tokens: None,
        reasoning: true,
        tools: true,
    }
}

fn user(text: &str) -> Message {
    Message::User { parts: vec![Part::text(text)], name: None }
}

fn ask(messages: Vec<Message>) -> Generation {
    Generation {
        messages,
        tools: Vec::new(),
        tool_choice: ToolChoice::default(),
        format: tutti_types::llm::Format::Text,
        sampling: Sampling { max_output_tokens: Some(1000), ..Sampling::default() },
    }
}

fn request(generation: &Generation, model: &str) -> HttpRequest {
    anthropic().generate(generation, &target(model), false).unwrap()
}

fn body(request: &HttpRequest) -> Value {
    serde_json::from_slice(request.body.as_ref().unwrap()).unwrap()
}

/// The JSON of a generation for a model.
fn json_of(generation: &Generation, model: &str) -> Value {
    body(&request(generation, model))
}

fn fixture(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/anthropic").join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The events and the outcome of a streamed answer.
fn decode(bytes: &[u8]) -> (Vec<Event>, Result<Completion>) {
    let mut decoder = anthropic().stream(&target(MODEL));
    let mut events = Vec::new();
    for piece in bytes.chunks(7) {
        if let Err(error) = decoder.feed(piece, &mut events) {
            return (events, Err(error));
        }
    }
    let outcome = decoder.finish(&mut events);
    (events, outcome)
}

fn streamed(name: &str) -> Completion {
    decode(&fixture(&format!("{name}.sse"))).1.unwrap()
}

fn whole(name: &str) -> Completion {
    anthropic().completion(&fixture(&format!("{name}.json")), &target(MODEL)).unwrap()
}
