//! Answers, whole or in chunks: every chunk is a whole response with the new parts.

use serde_json::Value;
use tutti_error::Reason;
use tutti_types::{
    TokenCounts,
    llm::{Completion, Finish},
};

use super::{
    error,
    state::{On, State},
};
use crate::{
    Event, ProviderError, Result, Target,
    assembler::{Assembler, RawUsage},
    json,
};

/// Reads a whole answer.
///
/// # Errors
/// The error inside the body, CONTENT_FILTERED, MALFORMED_OUTPUT, EMPTY_OUTPUT, and what a finish reason stands for.
pub(super) fn whole(body: &Value, target: &Target) -> Result<Completion> {
    let mut answer = Answer::new(target);
    let events = &mut Vec::new();
    answer.body(body, events)?;
    if answer.finish_reason.is_empty() && answer.block_reason.is_empty() && answer.assembler.is_empty() {
        return Err(ProviderError::new(Reason::EmptyOutput, "the answer has no candidate"));
    }
    answer.finish(events)
}

/// An answer in the making.
#[derive(Debug)]
pub(super) struct Answer {
    assembler: Assembler,
    finish_reason: String,
    finish_message: String,
    block_reason: String,
}

impl Answer {
    pub(super) fn new(target: &Target) -> Self {
        Self {
            assembler: Assembler::new(target, counts),
            finish_reason: String::new(),
            finish_message: String::new(),
            block_reason: String::new(),
        }
    }

    /// A body: one response, or an array of them.
    ///
    /// # Errors
    /// The error inside.
    pub(super) fn body(&mut self, body: &Value, events: &mut Vec<Event>) -> Result<()> {
        match body {
            Value::Array(chunks) => chunks.iter().try_for_each(|chunk| self.chunk(chunk, events)),
            chunk => self.chunk(chunk, events),
        }
    }

    /// # Errors
    /// The error inside.
    pub(super) fn chunk(&mut self, chunk: &Value, events: &mut Vec<Event>) -> Result<()> {
        if let Some(error) = error::inside(chunk) {
            return Err(error);
        }
        let usage = &chunk["usageMetadata"];
        self.assembler.model(json::text(chunk, "modelVersion"));
        self.assembler.id(json::text(chunk, "responseId"));
        if let Some(prompt) = json::count(&usage["promptTokenCount"]) {
            // Tells answers apart that have no id.
            self.assembler.seed(&prompt.to_string());
        }
        set(&mut self.block_reason, json::text(&chunk["promptFeedback"], "blockReason"));
        let first = |c: &&Value| json::count(&c["index"]).unwrap_or(0) == 0;
        if let Some(candidate) = json::array(chunk, "candidates").iter().find(first) {
            for part in json::array(&candidate["content"], "parts") {
                self.part(part, events);
            }
            set(&mut self.finish_reason, json::text(candidate, "finishReason"));
            set(&mut self.finish_message, json::text(candidate, "finishMessage"));
        }
        self.usage(usage, events);
        Ok(())
    }

    fn part(&mut self, part: &Value, events: &mut Vec<Event>) {
        let mut state =
            State { thought_signature: json::text(part, "thoughtSignature").to_owned(), ..State::default() };
        let text = json::text(part, "text");
        if let Some(call) = part.get("functionCall") {
            json::text(call, "id").clone_into(&mut state.id);
            let arguments = json::arguments(&call["args"]);
            self.assembler.tool_call("", json::text(call, "name"), arguments, state.to_bytes(), events);
            return;
        }
        if part["thought"] == true {
            self.assembler.reasoning(text, events);
            state.on = On::Thought;
        } else if text.is_empty() {
            state.on = On::Nothing;
            let known = ["text", "thought", "thoughtSignature"];
            let left_out = part.as_object().and_then(|part| part.keys().find(|key| !known.contains(&key.as_str())));
            if let Some(kind) = left_out {
                self.assembler.warn(format!("a part of kind \"{kind}\" was left out"));
            }
        } else {
            self.assembler.text(text, events);
            state.on = On::Text;
        }
        if let Some(data) = state.to_bytes() {
            self.assembler.reasoning_state(data);
        }
    }

    /// Usage is cumulative: what is told overwrites, what is left out stays.
    fn usage(&mut self, usage: &Value, events: &mut Vec<Event>) {
        let newer = RawUsage {
            input: json::count(&usage["promptTokenCount"]),
            cache_read: json::count(&usage["cachedContentTokenCount"]),
            output: json::count(&usage["candidatesTokenCount"]),
            reasoning: json::count(&usage["thoughtsTokenCount"]),
            tool_input: json::count(&usage["toolUsePromptTokenCount"]),
            ..RawUsage::default()
        };
        self.assembler.usage(&newer, events);
    }

    pub(super) fn partial(&self) -> Completion {
        self.assembler.partial()
    }

    /// The end of the body. Without a finish reason it came too early.
    ///
    /// # Errors
    /// TRUNCATED, CONTENT_FILTERED, MALFORMED_OUTPUT, EMPTY_OUTPUT, and what a finish reason stands for.
    pub(super) fn finish(&mut self, events: &mut Vec<Event>) -> Result<Completion> {
        if self.finish_reason.is_empty() {
            if self.block_reason.is_empty() {
                return Err(ProviderError::truncated());
            }
            let message = format!("the prompt was blocked: {}", self.block_reason);
            return Err(ProviderError::new(Reason::ContentFiltered, message).with_code(&self.block_reason));
        }
        match ending(&self.finish_reason) {
            Ok(finish) => self.assembler.finish(finish, &self.finish_reason, events),
            Err(reason) => {
                let words = [self.finish_reason.as_str(), self.finish_message.as_str()];
                let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
                let message = format!("the provider broke the answer off: {}", words.join(": "));
                Err(ProviderError::new(reason, message).with_code(&self.finish_reason))
            }
        }
    }
}

/// The last text that is not empty counts: some models say STOP on every chunk.
fn set(kept: &mut String, text: &str) {
    if !text.is_empty() {
        text.clone_into(kept);
    }
}

/// What a finish reason means: an answer, or the failure it stands for. STOP becomes TOOL_CALLS where there are calls.
fn ending(reason: &str) -> Result<Finish, Reason> {
    match reason {
        "MAX_TOKENS" | "CONTINUATION" => Ok(Finish::Length),
        "SAFETY"
        | "RECITATION"
        | "BLOCKLIST"
        | "PROHIBITED_CONTENT"
        | "SPII"
        | "LANGUAGE"
        | "IMAGE_SAFETY"
        | "IMAGE_PROHIBITED_CONTENT"
        | "IMAGE_RECITATION"
        | "MODEL_ARMOR"
        | "ESCALATION"
        | "PUP_LIMITED_DISABLED" => Ok(Finish::ContentFilter),
        "MALFORMED_FUNCTION_CALL" | "UNEXPECTED_TOOL_CALL" | "TOO_MANY_TOOL_CALLS" | "MALFORMED_RESPONSE" => {
            Err(Reason::MalformedOutput)
        }
        // A fault of the history, which stays the same when it is sent again.
        "MISSING_THOUGHT_SIGNATURE" => Err(Reason::ProviderRejected),
        "OTHER" | "IMAGE_OTHER" | "NO_IMAGE" => Err(Reason::ProviderError),
        // Unknown reasons too: when something was written, it is an answer.
        _ => Ok(Finish::Stop),
    }
}

/// Thoughts are not among the candidates' tokens, nor the tools' prompts among the prompt's.
fn counts(usage: &RawUsage) -> TokenCounts {
    let input = usage.input.unwrap_or(0).saturating_add(usage.tool_input.unwrap_or(0));
    let thoughts = usage.reasoning.unwrap_or(0);
    let output = usage.output.unwrap_or(0).saturating_add(thoughts);
    TokenCounts::from_totals(input, usage.cache_read.unwrap_or(0), 0, output, thoughts)
}
