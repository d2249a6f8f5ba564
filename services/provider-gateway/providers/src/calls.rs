//! Tool calls, put together from fragments.

use std::collections::HashSet;

use bytes::Bytes;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use tutti_types::llm::{ProviderState, ToolCall};

use crate::Event;

/// What a provider names the call a fragment belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallKey {
    /// The index in the answer (OpenAI) or of the content block (Anthropic).
    Index(u64),
    /// No index: the place in the chunk's list. The call's id decides first, where there is one.
    Position(usize),
}

#[derive(Debug, Clone)]
struct Call {
    index: Option<u64>,
    call: ToolCall,
    /// No more fragments come.
    closed: bool,
}

/// What became of a call when its answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All calls are whole.
    Whole,
    /// The last call was cut and has been dropped.
    Cut,
    /// The arguments of a call are no JSON object.
    Malformed,
}

/// The calls of one answer, in the order in which they began.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    calls: Vec<Call>,
    /// How many have been given out; always a prefix, so that events come in the order of the answer.
    given: usize,
    /// Makes ids differ between answers.
    seed: String,
    ids: HashSet<String>,
}

impl Calls {
    pub(crate) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    pub(crate) fn seed(&mut self, seed: &str) {
        if self.seed.is_empty() {
            seed.clone_into(&mut self.seed);
        }
    }

    /// Adds a fragment. Id and name are set once, arguments appended.
    pub(crate) fn delta(&mut self, key: CallKey, id: &str, name: &str, arguments: &str) {
        let at = self.find(key, id, name).unwrap_or_else(|| {
            let index = if let CallKey::Index(index) = key { Some(index) } else { None };
            self.calls.push(Call { index, call: empty(), closed: false });
            self.calls.len() - 1
        });
        let call = &mut self.calls[at].call;
        if call.id.is_empty() {
            id.clone_into(&mut call.id);
        }
        if call.name.is_empty() {
            name.clone_into(&mut call.name);
        }
        call.arguments.push_str(arguments);
    }

    /// The open call a fragment continues; `None` begins a new one.
    fn find(&self, key: CallKey, id: &str, name: &str) -> Option<usize> {
        let open = |at: &usize| !self.calls[*at].closed;
        match key {
            CallKey::Index(index) => {
                let at = self.calls.iter().rposition(|c| c.index == Some(index)).filter(open)?;
                let known = &self.calls[at].call.id;
                // Servers that number all parallel calls 0 tell them apart by id.
                let other = !id.is_empty() && !name.is_empty() && !known.is_empty() && known != id;
                (!other).then_some(at)
            }
            CallKey::Position(_) if !id.is_empty() => self.calls.iter().rposition(|c| c.call.id == id).filter(open),
            CallKey::Position(0) if name.is_empty() => self.calls.len().checked_sub(1).filter(open),
            CallKey::Position(at) => {
                let known = self.calls.get(at)?;
                let begins_anew = !name.is_empty() && (known.call.name != name || is_object(&known.call.arguments));
                (!begins_anew).then_some(at).filter(open)
            }
        }
    }

    /// Adds a call that came in one piece.
    pub(crate) fn whole(&mut self, id: &str, name: &str, arguments: String, state: Option<ProviderState>) {
        let call = ToolCall { id: id.into(), name: name.into(), arguments, state };
        self.calls.push(Call { index: None, call, closed: true });
    }

    /// What the provider must get back with a call.
    pub(crate) fn state(&mut self, key: CallKey, provider: &str, model: &str, data: Bytes) {
        if let Some(at) = self.find(key, "", "") {
            let state = ProviderState { provider: provider.into(), model: model.into(), data };
            self.calls[at].call.state = Some(state);
        }
    }

    /// No more fragments come for this call.
    pub(crate) fn close(&mut self, key: CallKey, events: &mut Vec<Event>) {
        if let Some(at) = self.find(key, "", "") {
            self.calls[at].closed = true;
        }
        self.give(events);
    }

    /// No more fragments come for any call.
    pub(crate) fn close_all(&mut self, events: &mut Vec<Event>) {
        for call in &mut self.calls {
            call.closed = true;
        }
        self.give(events);
    }

    /// Gives out what is certain. A last call without arguments is not: the output cap may have cut it.
    fn give(&mut self, events: &mut Vec<Event>) {
        while let Some(next) = self.calls.get(self.given) {
            let is_last = self.given + 1 == self.calls.len();
            let empty = next.call.arguments.trim().is_empty();
            let named = !next.call.name.is_empty();
            if !next.closed || !named || (empty && is_last) || (!empty && !is_object(&next.call.arguments)) {
                break;
            }
            self.give_next(events);
        }
    }

    fn give_next(&mut self, events: &mut Vec<Event>) {
        let at = self.given;
        self.given += 1;
        if self.calls[at].call.arguments.trim().is_empty() {
            self.calls[at].call.arguments = "{}".into();
        }
        let taken = !self.ids.insert(self.calls[at].call.id.clone());
        if taken || self.calls[at].call.id.is_empty() {
            let id = self.make_id(at);
            self.ids.insert(id.clone());
            self.calls[at].call.id = id;
        }
        events.push(Event::ToolCall(self.calls[at].call.clone()));
    }

    /// The same for the same answer, different within it and (as far as the seed differs) between answers.
    fn make_id(&self, at: usize) -> String {
        let call = &self.calls[at].call;
        let mut hash = Sha256::new();
        for piece in [&self.seed, &call.name, &call.arguments] {
            hash.update(piece.len().to_le_bytes());
            hash.update(piece);
        }
        let short: String = hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        format!("call_{at}_{short}")
    }

    /// The answer has ended: gives out the rest. `may_be_cut` says that the provider cut the answer short.
    pub(crate) fn finish(&mut self, may_be_cut: bool, events: &mut Vec<Event>) -> Outcome {
        self.close_all(events);
        let last = self.calls.len().saturating_sub(1);
        while let Some(next) = self.calls.get(self.given) {
            let arguments = next.call.arguments.trim();
            let whole = is_object(arguments) || (arguments.is_empty() && !may_be_cut);
            if next.call.name.is_empty() || !whole {
                let cut = may_be_cut && self.given == last;
                self.calls.truncate(self.given);
                return if cut { Outcome::Cut } else { Outcome::Malformed };
            }
            self.give_next(events);
        }
        Outcome::Whole
    }

    /// The calls that are whole by now.
    pub(crate) fn whole_so_far(&self) -> Vec<ToolCall> {
        self.calls[..self.given].iter().map(|c| c.call.clone()).collect()
    }
}

fn empty() -> ToolCall {
    ToolCall { id: String::new(), name: String::new(), arguments: String::new(), state: None }
}

fn is_object(text: &str) -> bool {
    serde_json::from_str::<Map<String, Value>>(text).is_ok()
}
