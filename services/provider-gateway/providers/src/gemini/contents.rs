//! A conversation as Gemini takes it: system text apart, all results of an answer's calls in one content after it.

use std::collections::HashMap;

use serde_json::{Value, json};
use tutti_error::Reason;
use tutti_types::llm::{Content, Message, Part, ToolCall};

use super::{model::Model, parts, state::State};
use crate::{ProviderError, Result, Target};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    User,
    Model,
    /// The results of the calls of the answer before; never mixed with what the user says.
    Results,
}

#[derive(Debug)]
struct Turn {
    kind: Kind,
    parts: Vec<Value>,
    /// The calls that are made or answered here.
    call_ids: Vec<String>,
}

/// A call that can be answered.
#[derive(Debug)]
struct Known {
    name: String,
    /// Gemini's own id of it, or empty.
    id: String,
}

/// The whole conversation.
#[derive(Debug)]
pub(super) struct Conversation<'a> {
    /// Text parts.
    pub(super) system: Vec<Value>,
    /// What was changed, in words.
    pub(super) warnings: Vec<String>,
    turns: Vec<Turn>,
    calls: HashMap<String, Known>,
    model: Model,
    target: &'a Target,
}

impl<'a> Conversation<'a> {
    /// # Errors
    /// UNSUPPORTED for content that has no part, INVALID_REQUEST when nothing is left to say.
    pub(super) fn of(messages: &[Message], model: Model, target: &'a Target) -> Result<Self> {
        let (turns, calls) = (Vec::new(), HashMap::new());
        let mut all = Self { system: Vec::new(), warnings: Vec::new(), turns, calls, model, target };
        for message in messages {
            match message {
                Message::System { parts } => all.system(parts)?,
                Message::User { parts, name } => all.user(parts, name.is_some())?,
                Message::Assistant { parts, tool_calls } => all.answer(parts, tool_calls)?,
                Message::Tool { call_id, name, parts, is_error } => {
                    let id = all.calls.get(call_id).map(|known| known.id.clone()).unwrap_or_default();
                    let parts = parts::of_result(name, &id, parts, *is_error, model)?;
                    all.result(call_id, parts);
                }
            }
        }
        all.begin_with_user()?;
        all.answer_every_call();
        Ok(all)
    }

    /// Notes a change once.
    pub(super) fn warn(&mut self, text: &str) {
        if !self.warnings.iter().any(|w| w == text) {
            self.warnings.push(text.to_owned());
        }
    }

    /// The `contents`.
    pub(super) fn contents(self) -> Value {
        let role = |kind| if kind == Kind::Model { "model" } else { "user" };
        self.turns.into_iter().map(|turn| json!({"role": role(turn.kind), "parts": turn.parts})).collect()
    }

    fn system(&mut self, parts: &[Part]) -> Result<()> {
        for part in parts {
            match &part.content {
                Content::Text(text) if text.is_empty() => {}
                Content::Text(text) => self.system.push(json!({"text": text})),
                Content::Reasoning(_) => {}
                Content::Image(_) | Content::Audio(_) | Content::File(_) => {
                    return Err(ProviderError::new(Reason::Unsupported, "a system message takes only text"));
                }
            }
        }
        Ok(())
    }

    fn user(&mut self, parts: &[Part], is_named: bool) -> Result<()> {
        if is_named {
            self.warn("names of speakers were dropped: the format has no place for them");
        }
        let mut out = Vec::with_capacity(parts.len());
        for part in parts {
            out.extend(parts::of_content(&part.content)?);
        }
        self.push(Kind::User, out, Vec::new());
        Ok(())
    }

    fn answer(&mut self, parts: &[Part], calls: &[ToolCall]) -> Result<()> {
        let mut out = parts::of_answer(parts, self.target)?;
        out.extend(parts::of_calls(calls, self.model, self.target));
        for call in calls {
            let id = State::of(call.state.as_ref(), self.target).unwrap_or_default().id;
            self.calls.insert(call.id.clone(), Known { name: call.name.clone(), id });
        }
        self.push(Kind::Model, out, calls.iter().map(|call| call.id.clone()).collect());
        Ok(())
    }

    fn push(&mut self, kind: Kind, parts: Vec<Value>, call_ids: Vec<String>) {
        match self.turns.last_mut() {
            _ if parts.is_empty() => {}
            Some(turn) if turn.kind == kind => {
                turn.parts.extend(parts);
                turn.call_ids.extend(call_ids);
            }
            _ => self.turns.push(Turn { kind, parts, call_ids }),
        }
    }

    /// A result belongs right after the answer with its call, whatever was said in between.
    fn result(&mut self, call_id: &str, parts: Vec<Value>) {
        let makes_it = |turn: &Turn| turn.kind == Kind::Model && turn.call_ids.iter().any(|id| id == call_id);
        let at = self.turns.iter().rposition(makes_it).map_or(self.turns.len(), |at| at + 1);
        if self.turns.get(at).is_none_or(|turn| turn.kind != Kind::Results) {
            self.turns.insert(at, Turn { kind: Kind::Results, parts: Vec::new(), call_ids: Vec::new() });
        }
        self.turns[at].parts.extend(parts);
        self.turns[at].call_ids.push(call_id.to_owned());
    }

    fn begin_with_user(&mut self) -> Result<()> {
        match self.turns.first() {
            Some(turn) if turn.kind != Kind::Model => {}
            Some(_) => {
                let parts = vec![json!({"text": "(The beginning of the conversation is left out.)"})];
                self.turns.insert(0, Turn { kind: Kind::User, parts, call_ids: Vec::new() });
                self.warn("the conversation began with an answer; a user turn was put before it");
            }
            None if self.system.is_empty() => {
                return Err(ProviderError::new(Reason::InvalidRequest, "the messages are blank"));
            }
            None => {
                let parts = std::mem::take(&mut self.system);
                self.push(Kind::User, parts, Vec::new());
                self.warn("there were only system messages; they were sent as the user's");
            }
        }
        Ok(())
    }

    /// The API wants as many results as calls.
    fn answer_every_call(&mut self) {
        let mut open = Vec::new();
        for (index, turn) in self.turns.iter().enumerate().filter(|(_, turn)| turn.kind == Kind::Model) {
            let next = self.turns.get(index + 1).filter(|next| next.kind == Kind::Results);
            let is_open = |id: &&String| next.is_none_or(|next| !next.call_ids.contains(id));
            open.extend(turn.call_ids.iter().filter(is_open).cloned());
        }
        for call_id in open {
            let Some(known) = self.calls.get(&call_id) else { continue };
            let response = json!({"error": "There is no result: the tool was not run."});
            let mut part = json!({"functionResponse": {"name": known.name, "response": response}});
            if !known.id.is_empty() {
                part["functionResponse"]["id"] = known.id.as_str().into();
            }
            self.result(&call_id, vec![part]);
            self.warn("a tool call without a result was answered with an error");
        }
    }
}
