//! Reads answers. A whole answer is read as a stream of one chunk, so that both give the same.

use serde_json::Value;
use tutti_error::Reason;
use tutti_types::llm::{Completion, Finish};

use super::{
    dialect::{Replay, Rules},
    errors,
};
use crate::{
    Event, ProviderError, Result, Target,
    assembler::{Assembler, RawUsage},
    calls::CallKey,
    json,
};

/// Puts an answer together from chunks.
#[derive(Debug)]
pub(super) struct Reader {
    assembler: Assembler,
    /// The finish reason, once it has come.
    finish: Option<String>,
    /// The end of the answer was marked otherwise: `[DONE]`, or the answer came whole.
    ended: bool,
    refused: bool,
    keeps_reasoning: bool,
}

impl Reader {
    pub(super) fn new(target: &Target, rules: &Rules) -> Self {
        Self {
            assembler: Assembler::new(target, RawUsage::totals),
            finish: None,
            ended: false,
            refused: false,
            keeps_reasoning: matches!(rules.replay, Replay::WithTools(_)),
        }
    }

    /// Takes the next chunk, or the whole answer.
    ///
    /// # Errors
    /// The provider's error inside it.
    pub(super) fn take(&mut self, chunk: &Value, events: &mut Vec<Event>) -> Result<()> {
        if let Some(error) = errors::find(chunk) {
            return Err(error);
        }
        self.assembler.id(json::text(chunk, "id"));
        self.assembler.model(json::text(chunk, "model"));
        // Only one choice is asked for; more are not mixed into it.
        let choice = json::array(chunk, "choices").iter().find(|c| index(c).unwrap_or(0) == 0);
        if let Some(choice) = choice {
            self.choice(choice, events)?;
        }
        if let Some(usage) = usage(chunk, choice) {
            self.assembler.usage(&usage, events);
        }
        Ok(())
    }

    fn choice(&mut self, choice: &Value, events: &mut Vec<Event>) -> Result<()> {
        if let Some(delta) = choice.get("delta").filter(|d| d.is_object()) {
            self.delta(delta, false, events);
        } else if let Some(message) = choice.get("message").filter(|m| m.is_object()) {
            self.delta(message, true, events);
        }
        let finish = json::text(choice, "finish_reason");
        if !finish.is_empty() {
            if matches!(finish, "error" | "abort" | "insufficient_system_resource") {
                let message = format!("the provider broke the answer off: {finish}");
                return Err(ProviderError::new(Reason::ProviderError, message).with_code(finish));
            }
            self.assembler.close_calls(events);
            self.finish = Some(finish.to_owned());
        }
        Ok(())
    }

    fn delta(&mut self, delta: &Value, is_whole: bool, events: &mut Vec<Event>) {
        // Some servers send the same reasoning under both names.
        let reasoning = [json::text(delta, "reasoning_content"), json::text(delta, "reasoning")];
        if let Some(reasoning) = reasoning.into_iter().find(|text| !text.is_empty()) {
            self.assembler.reasoning(reasoning, events);
        }
        match delta.get("content") {
            Some(Value::String(text)) => self.assembler.text(text, events),
            Some(Value::Array(parts)) => parts.iter().for_each(|part| self.part(part, events)),
            _ => {}
        }
        let refusal = json::text(delta, "refusal");
        if !refusal.is_empty() {
            self.refused = true;
            self.assembler.text(refusal, events);
        }
        for (position, call) in json::array(delta, "tool_calls").iter().enumerate() {
            self.call(position, call, is_whole);
        }
        if let Some(call) = delta.get("function_call").filter(|c| c.is_object()) {
            self.function(CallKey::Index(0), "", call);
        }
    }

    /// A part of a list of content, as Mistral sends it.
    fn part(&mut self, part: &Value, events: &mut Vec<Event>) {
        match json::text(part, "type") {
            "thinking" => match part.get("thinking") {
                Some(Value::String(text)) => self.assembler.reasoning(text, events),
                _ => {
                    for piece in json::array(part, "thinking") {
                        self.assembler.reasoning(json::text(piece, "text"), events);
                    }
                }
            },
            "text" | "" => self.assembler.text(json::text(part, "text"), events),
            other => self.assembler.warn(format!("a part of type {other} in the answer was left out")),
        }
    }

    fn call(&mut self, position: usize, call: &Value, is_whole: bool) {
        let key = match index(call) {
            // In a whole answer each entry is a call of its own, whatever its index or id says.
            _ if is_whole => CallKey::Index(position as u64),
            Some(index) => CallKey::Index(index),
            None => CallKey::Position(position),
        };
        match call.get("function") {
            Some(function) => self.function(key, json::text(call, "id"), function),
            None => self.assembler.warn("a call of a kind other than function was left out"),
        }
    }

    fn function(&mut self, key: CallKey, id: &str, function: &Value) {
        let arguments = function.get("arguments").map(json::arguments).unwrap_or_default();
        self.assembler.tool_delta(key, id, json::text(function, "name"), &arguments);
    }

    /// The end is marked without a finish reason.
    pub(super) fn ended(&mut self) {
        self.ended = true;
    }

    /// Whether the end mark has come.
    pub(super) fn has_ended(&self) -> bool {
        self.ended || self.finish.is_some()
    }

    pub(super) fn partial(&self) -> Completion {
        self.assembler.partial()
    }

    /// The whole answer.
    ///
    /// # Errors
    /// EMPTY_OUTPUT and MALFORMED_OUTPUT.
    pub(super) fn finish(&mut self, events: &mut Vec<Event>) -> Result<Completion> {
        let raw = self.finish.clone().unwrap_or_default();
        let finish = match raw.as_str() {
            "stop" | "eos" => Finish::Stop,
            "length" | "model_length" => Finish::Length,
            "tool_calls" | "function_call" => Finish::ToolCalls,
            "content_filter" => Finish::ContentFilter,
            "" => {
                self.assembler.warn("the provider gave no finish reason; stop is assumed");
                Finish::Stop
            }
            other => {
                self.assembler.warn(format!("the finish reason {other} is unknown; stop is assumed"));
                Finish::Stop
            }
        };
        let finish = if self.refused && finish == Finish::Stop { Finish::ContentFilter } else { finish };
        if self.keeps_reasoning {
            let reasoning = self.assembler.reasoning_text();
            if !reasoning.is_empty() {
                self.assembler.first_reasoning_state(reasoning.into());
            }
        }
        self.assembler.finish(finish, &raw, events)
    }
}

fn index(value: &Value) -> Option<u64> {
    value.get("index").and_then(json::count)
}

/// Usage from wherever the server puts it: on top, under `x_groq`, or in the choice. The same numbers sent twice are
/// read once.
fn usage(chunk: &Value, choice: Option<&Value>) -> Option<RawUsage> {
    let places = [
        chunk.get("usage"),
        chunk.get("x_groq").and_then(|groq| groq.get("usage")),
        choice.and_then(|choice| choice.get("usage")),
    ];
    let usage = places.into_iter().flatten().find(|usage| usage.is_object())?;
    let first = |paths: &[&str]| paths.iter().find_map(|path| usage.pointer(path).and_then(json::count));
    Some(RawUsage {
        input: first(&["/prompt_tokens"]),
        output: first(&["/completion_tokens"]),
        cache_read: first(&[
            "/prompt_tokens_details/cached_tokens",
            "/cached_tokens",
            "/prompt_cache_hit_tokens",
            "/cache_read_input_tokens",
        ]),
        cache_write: first(&["/prompt_tokens_details/cache_write_tokens", "/cache_creation_input_tokens"]),
        reasoning: first(&["/completion_tokens_details/reasoning_tokens", "/reasoning_tokens"]),
        ..RawUsage::default()
    })
}
