//! Answers, whole or block by block: a whole answer is a stream whose blocks come in one piece.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tutti_types::{
    TokenCounts,
    llm::{Completion, Finish},
};

use super::{blocks::CallState, error};
use crate::{
    Event, Result, Target,
    assembler::{Assembler, RawUsage},
    calls::CallKey,
    json,
};

/// Reads a whole answer.
///
/// # Errors
/// The error inside the body, MALFORMED_OUTPUT, EMPTY_OUTPUT.
pub(super) fn whole(body: &Value, target: &Target) -> Result<Completion> {
    if let Some(error) = error::inside(body) {
        return Err(error);
    }
    let mut answer = Answer::new(target);
    let events = &mut Vec::new();
    answer.begin(body, events);
    for (index, block) in (0..).zip(json::array(body, "content")) {
        answer.start_block(index, block, events);
        answer.stop_block(index, events);
    }
    answer.stopped(body);
    answer.finish(events)
}

/// A block in the making.
#[derive(Debug)]
enum Block {
    Text,
    Thinking {
        text: String,
        signature: String,
    },
    Tool {
        /// What the first event of the block had; only proxies send it filled.
        input: Value,
        has_fragments: bool,
    },
    /// The provider's own tools: kept as they came.
    Foreign {
        block: Value,
        input: String,
    },
}

/// An answer in the making.
#[derive(Debug)]
pub(super) struct Answer {
    assembler: Assembler,
    blocks: BTreeMap<u64, Block>,
    stop_reason: String,
}

impl Answer {
    pub(super) fn new(target: &Target) -> Self {
        let assembler = Assembler::new(target, counts);
        Self { assembler, blocks: BTreeMap::new(), stop_reason: String::new() }
    }

    /// The message without its content.
    pub(super) fn begin(&mut self, message: &Value, events: &mut Vec<Event>) {
        self.assembler.model(json::text(message, "model"));
        self.assembler.id(json::text(message, "id"));
        self.usage(&message["usage"], events);
    }

    /// Usage is cumulative: what is told overwrites, what is left out stays.
    pub(super) fn usage(&mut self, usage: &Value, events: &mut Vec<Event>) {
        let split = |key: &str| json::count(&usage["cache_creation"][key]);
        let one_hour = split("ephemeral_1h_input_tokens");
        // The split counts the same tokens as the sum: only one of them may count.
        let parts = split("ephemeral_5m_input_tokens").map(|five| five.saturating_add(one_hour.unwrap_or(0)));
        let newer = RawUsage {
            input: json::count(&usage["input_tokens"]),
            cache_read: json::count(&usage["cache_read_input_tokens"]),
            cache_write: json::count(&usage["cache_creation_input_tokens"]).or(parts),
            cache_write_1h: one_hour,
            output: json::count(&usage["output_tokens"]),
            reasoning: json::count(&usage["output_tokens_details"]["thinking_tokens"]),
            tool_input: None,
        };
        self.assembler.usage(&newer, events);
    }

    /// The end as a message or a `message_delta` tells it.
    pub(super) fn stopped(&mut self, end: &Value) {
        let reason = json::text(end, "stop_reason");
        if !reason.is_empty() {
            reason.clone_into(&mut self.stop_reason);
        }
        let details = &end["stop_details"];
        let words = [json::text(details, "category"), json::text(details, "explanation")];
        let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
        if !words.is_empty() {
            self.assembler.warn(format!("the provider refused: {}", words.join(": ")));
        }
    }

    pub(super) fn start_block(&mut self, index: u64, block: &Value, events: &mut Vec<Event>) {
        self.assembler.block(index);
        let started = match json::text(block, "type") {
            "text" => {
                self.assembler.text(json::text(block, "text"), events);
                Block::Text
            }
            "thinking" => {
                let text = json::text(block, "thinking").to_owned();
                self.assembler.reasoning(&text, events);
                Block::Thinking { text, signature: json::text(block, "signature").to_owned() }
            }
            "redacted_thinking" => {
                self.assembler.reasoning_state(block.to_string().into());
                return;
            }
            "tool_use" => {
                let key = CallKey::Index(index);
                self.assembler.tool_delta(key, json::text(block, "id"), json::text(block, "name"), "");
                if let Some(parts_before) = self.assembler.parts_with_reasoning() {
                    let state = json!(CallState { parts_before });
                    self.assembler.tool_state(key, state.to_string().into());
                }
                Block::Tool { input: block["input"].clone(), has_fragments: false }
            }
            kind if kind.ends_with("_tool_use") || kind.ends_with("_tool_result") => {
                Block::Foreign { block: block.clone(), input: String::new() }
            }
            kind => return self.assembler.warn(format!("a block of type \"{kind}\" was left out")),
        };
        self.blocks.insert(index, started);
    }

    pub(super) fn delta(&mut self, index: u64, delta: &Value, events: &mut Vec<Event>) {
        self.assembler.block(index);
        match (self.blocks.get_mut(&index), json::text(delta, "type")) {
            (_, "text_delta") => self.assembler.text(json::text(delta, "text"), events),
            (Some(Block::Thinking { text, .. }), "thinking_delta") => {
                let piece = json::text(delta, "thinking");
                text.push_str(piece);
                self.assembler.reasoning(piece, events);
            }
            (Some(Block::Thinking { signature, .. }), "signature_delta") => {
                signature.push_str(json::text(delta, "signature"));
            }
            (Some(Block::Tool { has_fragments, .. }), "input_json_delta") => {
                let piece = json::text(delta, "partial_json");
                *has_fragments |= !piece.is_empty();
                self.assembler.tool_delta(CallKey::Index(index), "", "", piece);
            }
            (Some(Block::Foreign { input, .. }), "input_json_delta") => {
                input.push_str(json::text(delta, "partial_json"));
            }
            // Citations and what is yet to come.
            _ => {}
        }
    }

    pub(super) fn stop_block(&mut self, index: u64, events: &mut Vec<Event>) {
        self.assembler.block(index);
        match self.blocks.remove(&index) {
            None | Some(Block::Text) => {}
            Some(Block::Thinking { text, signature }) if !signature.is_empty() => {
                let block = json!({"type": "thinking", "thinking": text, "signature": signature});
                self.assembler.reasoning_state(block.to_string().into());
            }
            // Without a signature there is nothing that the API would take back.
            Some(Block::Thinking { .. }) => {}
            Some(Block::Tool { input, has_fragments }) => {
                let key = CallKey::Index(index);
                if !has_fragments && input.as_object().is_some_and(|input| !input.is_empty()) {
                    self.assembler.tool_delta(key, "", "", &input.to_string());
                }
                self.assembler.close_call(key, events);
            }
            Some(Block::Foreign { mut block, input }) => {
                if let Ok(input) = serde_json::from_str::<Value>(&input) {
                    block["input"] = input;
                }
                self.assembler.reasoning_state(block.to_string().into());
            }
        }
    }

    pub(super) fn partial(&self) -> Completion {
        self.assembler.partial()
    }

    /// # Errors
    /// MALFORMED_OUTPUT, EMPTY_OUTPUT.
    pub(super) fn finish(&mut self, events: &mut Vec<Event>) -> Result<Completion> {
        while let Some((&index, _)) = self.blocks.first_key_value() {
            self.stop_block(index, events);
        }
        let finish = match self.stop_reason.as_str() {
            "max_tokens" | "model_context_window_exceeded" => Finish::Length,
            "tool_use" => Finish::ToolCalls,
            "refusal" => Finish::ContentFilter,
            "pause_turn" => {
                self.assembler.warn("the provider paused the turn; it goes on when the answer is sent back");
                Finish::Stop
            }
            // Unknown reasons too: when something was written, it is an answer.
            _ => Finish::Stop,
        };
        self.assembler.finish(finish, &self.stop_reason, events)
    }
}

/// Input excludes both caches, and what was written to them is a sum of two lifetimes.
fn counts(usage: &RawUsage) -> TokenCounts {
    let output = usage.output.unwrap_or(0);
    let reasoning = usage.reasoning.unwrap_or(0).min(output);
    let cache_write = usage.cache_write.unwrap_or(0);
    let cache_write_1h = usage.cache_write_1h.unwrap_or(0).min(cache_write);
    TokenCounts {
        fresh_input: usage.input.unwrap_or(0),
        cache_read: usage.cache_read.unwrap_or(0),
        cache_write_5m: cache_write - cache_write_1h,
        cache_write_1h,
        visible_output: output - reasoning,
        reasoning,
    }
}
