//! A conversation as Anthropic takes it: system text apart, user and assistant in turns, every call answered at once.

use std::collections::HashSet;

use serde_json::{Value, json};
use tutti_error::Reason;
use tutti_types::llm::{CacheTtl, Content, Message, Part, ToolCall};

use super::blocks;
use crate::{ProviderError, Result, Target};

/// The most `cache_control` marks a request may have.
const MAX_CACHE_MARKS: usize = 4;

/// One turn: all blocks of consecutive messages of one role.
#[derive(Debug)]
pub(super) struct Turn {
    /// `user` or `assistant`.
    pub(super) role: &'static str,
    /// Its content, never empty.
    pub(super) blocks: Vec<Value>,
}

impl Turn {
    fn has(&self, kind: &str) -> bool {
        self.blocks.iter().any(|block| block["type"] == kind)
    }
}

/// The whole conversation.
#[derive(Debug, Default)]
pub(super) struct Conversation {
    /// Text blocks.
    pub(super) system: Vec<Value>,
    /// User and assistant in turns, the user first.
    pub(super) turns: Vec<Turn>,
    /// What was changed, in words.
    pub(super) warnings: Vec<String>,
}

impl Conversation {
    /// # Errors
    /// UNSUPPORTED for content that has no block, INVALID_REQUEST when nothing is left to say.
    pub(super) fn of(messages: &[Message], target: &Target) -> Result<Self> {
        let mut all = Self::default();
        for message in messages {
            match message {
                Message::System { parts } => all.system(parts)?,
                Message::User { parts, name } => {
                    if name.is_some() {
                        all.warn("names of speakers were dropped: the format has no place for them");
                    }
                    all.push("user", content(parts, target, "user")?);
                }
                Message::Assistant { parts, tool_calls } => all.push("assistant", answer(parts, tool_calls, target)?),
                Message::Tool { call_id, parts, is_error, .. } => {
                    all.push("user", vec![result(call_id, parts, *is_error, target)?]);
                }
            }
        }
        all.begin_with_user()?;
        all.answer_every_call();
        all.limit_cache_marks();
        Ok(all)
    }

    /// Notes a change once.
    pub(super) fn warn(&mut self, text: &str) {
        if !self.warnings.iter().any(|w| w == text) {
            self.warnings.push(text.to_owned());
        }
    }

    /// Whether the last answer wants tools and doesn't begin with its reasoning: such a history can't be gone on with
    /// while a thinking budget is set.
    pub(super) fn lacks_reasoning(&self) -> bool {
        let last = self.turns.iter().rfind(|turn| turn.role == "assistant");
        last.is_some_and(|turn| {
            turn.has("tool_use") && !matches!(blocks::kind(&turn.blocks[0]), "thinking" | "redacted_thinking")
        })
    }

    fn system(&mut self, parts: &[Part]) -> Result<()> {
        for part in parts {
            match &part.content {
                Content::Text(text) if text.trim().is_empty() => {}
                Content::Text(text) => self.system.push(marked(json!({"type": "text", "text": text}), part.cache)),
                Content::Reasoning(_) => {}
                Content::Image(_) | Content::Audio(_) | Content::File(_) => {
                    return Err(ProviderError::new(Reason::Unsupported, "a system message takes only text"));
                }
            }
        }
        Ok(())
    }

    fn push(&mut self, role: &'static str, blocks: Vec<Value>) {
        match self.turns.last_mut() {
            _ if blocks.is_empty() => {}
            Some(turn) if turn.role == role => turn.blocks.extend(blocks),
            _ => self.turns.push(Turn { role, blocks }),
        }
    }

    fn begin_with_user(&mut self) -> Result<()> {
        match self.turns.first() {
            Some(turn) if turn.role == "user" => {}
            Some(_) => {
                let blocks = vec![json!({"type": "text", "text": "(The beginning of the conversation is left out.)"})];
                self.turns.insert(0, Turn { role: "user", blocks });
                self.warn("the conversation began with an answer; a user turn was put before it");
            }
            None if self.system.is_empty() => {
                return Err(ProviderError::new(Reason::InvalidRequest, "the messages are blank"));
            }
            None => {
                let blocks = std::mem::take(&mut self.system);
                self.turns.push(Turn { role: "user", blocks });
                self.warn("there were only system messages; they were sent as the user's");
            }
        }
        Ok(())
    }

    /// The API refuses a history with an unanswered call, and wants the results before anything else.
    fn answer_every_call(&mut self) {
        let mut index = 0;
        while index < self.turns.len() {
            let calls: Vec<String> = ids(&self.turns[index], "tool_use", "id");
            index += 1;
            if calls.is_empty() {
                continue;
            }
            if index == self.turns.len() {
                self.turns.push(Turn { role: "user", blocks: Vec::new() });
            }
            let answered: HashSet<String> = ids(&self.turns[index], "tool_result", "tool_use_id").into_iter().collect();
            for id in calls.into_iter().filter(|id| !answered.contains(id)) {
                let text = "There is no result: the tool was not run.";
                let block = json!({"type": "tool_result", "tool_use_id": id, "content": text, "is_error": true});
                self.turns[index].blocks.push(block);
                self.warn("a tool call without a result was answered with an error");
            }
            // Stable, so that results keep their order and text keeps its own.
            self.turns[index].blocks.sort_by_key(|block| block["type"] != "tool_result");
        }
    }

    fn limit_cache_marks(&mut self) {
        let blocks = self.system.iter_mut().chain(self.turns.iter_mut().flat_map(|turn| &mut turn.blocks));
        let mut marks: Vec<&mut Value> = blocks.filter(|block| block.get("cache_control").is_some()).collect();
        let surplus = marks.len().saturating_sub(MAX_CACHE_MARKS);
        for block in marks.iter_mut().take(surplus) {
            if let Some(block) = block.as_object_mut() {
                block.remove("cache_control");
            }
        }
        if surplus > 0 {
            self.warn("only the last 4 cache hints were sent: the format takes no more");
        }
    }
}

fn ids(turn: &Turn, kind: &str, key: &str) -> Vec<String> {
    let blocks = turn.blocks.iter().filter(|block| block["type"] == kind);
    blocks.filter_map(|block| block[key].as_str().map(str::to_owned)).collect()
}

fn content(parts: &[Part], target: &Target, role: &str) -> Result<Vec<Value>> {
    let mut out = Vec::with_capacity(parts.len());
    for part in parts {
        out.extend(blocks::of_part(&part.content, target, role)?.map(|block| marked(block, part.cache)));
    }
    Ok(out)
}

/// Calls stand where the model put them between its reasoning: the API checks that.
fn answer(parts: &[Part], calls: &[ToolCall], target: &Target) -> Result<Vec<Value>> {
    let mut out = Vec::with_capacity(parts.len() + calls.len());
    let mut calls = calls.iter().peekable();
    for (index, part) in parts.iter().enumerate() {
        while let Some(call) = calls.next_if(|call| blocks::position(call, target).is_some_and(|at| at <= index)) {
            out.push(blocks::of_call(call));
        }
        out.extend(content(std::slice::from_ref(part), target, "assistant")?);
    }
    out.extend(calls.map(blocks::of_call));
    Ok(out)
}

fn result(call_id: &str, parts: &[Part], is_error: bool, target: &Target) -> Result<Value> {
    let mut blocks = Vec::with_capacity(parts.len());
    for part in parts {
        blocks.extend(blocks::of_part(&part.content, target, "user")?);
    }
    let mut block = json!({"type": "tool_result", "tool_use_id": blocks::tool_id(call_id)});
    match blocks.as_slice() {
        // An error must say something.
        [] if is_error => block["content"] = "The tool failed.".into(),
        [] => {}
        [only] if only["type"] == "text" => block["content"] = only["text"].clone(),
        _ => block["content"] = blocks.into(),
    }
    if is_error {
        block["is_error"] = true.into();
    }
    // The hint of any of its parts is the result's: marks are few.
    Ok(marked(block, parts.iter().rev().find_map(|part| part.cache)))
}

fn marked(mut block: Value, cache: Option<CacheTtl>) -> Value {
    let mark = match cache {
        // Blocks of reasoning are replayed as they are.
        _ if matches!(blocks::kind(&block), "thinking" | "redacted_thinking") => return block,
        None => return block,
        Some(CacheTtl::FiveMinutes) => json!({"type": "ephemeral"}),
        Some(CacheTtl::OneHour) => json!({"type": "ephemeral", "ttl": "1h"}),
    };
    block["cache_control"] = mark;
    block
}
