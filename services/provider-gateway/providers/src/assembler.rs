//! Puts an answer together: the one place where text, reasoning, tool calls and usage become a [`Completion`], for all
//! formats, streamed or not.

use bytes::Bytes;
use tutti_error::Reason;
use tutti_types::{
    TokenCounts,
    llm::{Completion, Content, Finish, Part, ProviderState, Reasoning},
};

use crate::{
    Event, ProviderError, Result, Target,
    calls::{CallKey, Calls, Outcome},
};

/// Usage as the wire tells it. What has not been told is `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RawUsage {
    /// Input, by the format's own definition.
    pub(crate) input: Option<u64>,
    /// Input read from the cache.
    pub(crate) cache_read: Option<u64>,
    /// Input written to the cache, for 5 minutes or the provider's one lifetime.
    pub(crate) cache_write: Option<u64>,
    /// Input written to the cache for 1 hour.
    pub(crate) cache_write_1h: Option<u64>,
    /// Output, by the format's own definition.
    pub(crate) output: Option<u64>,
    /// Reasoning.
    pub(crate) reasoning: Option<u64>,
    /// Input that the provider's own tools added.
    pub(crate) tool_input: Option<u64>,
}

impl RawUsage {
    /// Overwrites each field that the newer one tells. Usage is cumulative everywhere, so nothing is ever summed.
    fn merge(&mut self, newer: &Self) {
        let fields = [
            (&mut self.input, newer.input),
            (&mut self.cache_read, newer.cache_read),
            (&mut self.cache_write, newer.cache_write),
            (&mut self.cache_write_1h, newer.cache_write_1h),
            (&mut self.output, newer.output),
            (&mut self.reasoning, newer.reasoning),
            (&mut self.tool_input, newer.tool_input),
        ];
        for (known, newer) in fields {
            *known = newer.or(*known);
        }
    }

    /// The algebra of most formats: cache counts are parts of the input, reasoning is part of the output.
    pub(crate) fn totals(&self) -> TokenCounts {
        TokenCounts::from_totals(
            self.input.unwrap_or(0),
            self.cache_read.unwrap_or(0),
            self.cache_write.unwrap_or(0),
            self.output.unwrap_or(0),
            self.reasoning.unwrap_or(0),
        )
    }
}

/// How a format's usage becomes disjoint classes.
pub(crate) type Algebra = fn(&RawUsage) -> TokenCounts;

/// An answer in the making.
#[derive(Debug)]
pub(crate) struct Assembler {
    target: (String, String),
    algebra: Algebra,
    parts: Vec<(Option<u64>, Part)>,
    block: Option<u64>,
    calls: Calls,
    usage: Option<RawUsage>,
    model: String,
    id: String,
    warnings: Vec<String>,
}

impl Assembler {
    /// Nothing yet, from this model.
    pub(crate) fn new(target: &Target, algebra: Algebra) -> Self {
        Self {
            target: (target.provider.clone(), target.model.clone()),
            algebra,
            parts: Vec::new(),
            block: None,
            calls: Calls::default(),
            usage: None,
            model: String::new(),
            id: String::new(),
            warnings: Vec::new(),
        }
    }

    /// The model as the provider names it; the first that is not empty counts.
    pub(crate) fn model(&mut self, model: &str) {
        if self.model.is_empty() {
            model.clone_into(&mut self.model);
        }
    }

    /// The provider's id of the answer; the first that is not empty counts.
    pub(crate) fn id(&mut self, id: &str) {
        if self.id.is_empty() {
            id.clone_into(&mut self.id);
        }
        self.calls.seed(id);
    }

    /// Makes call ids differ between answers where the provider has no id of the answer, for instance a time stamp.
    pub(crate) fn seed(&mut self, seed: &str) {
        self.calls.seed(seed);
    }

    /// Something was dropped or assumed. Said once however often it happens.
    pub(crate) fn warn(&mut self, warning: impl Into<String>) {
        let warning = warning.into();
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// The content block that text and reasoning belong to from now on. Without blocks, text and reasoning join the
    /// last part when it is of the same kind.
    pub(crate) fn block(&mut self, block: u64) {
        self.block = Some(block);
    }

    /// Whether nothing but, perhaps, usage has come yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty() && self.calls.is_empty()
    }

    /// More text; empty text is nothing.
    pub(crate) fn text(&mut self, piece: &str, events: &mut Vec<Event>) {
        if piece.is_empty() {
            return;
        }
        let found = self.slot(|part| matches!(part.content, Content::Text(_)));
        if let Some(Part { content: Content::Text(text), .. }) = found {
            text.push_str(piece);
        } else {
            self.parts.push((self.block, Part::text(piece)));
        }
        events.push(Event::Text(piece.to_owned()));
    }

    /// More readable reasoning; empty reasoning is nothing.
    pub(crate) fn reasoning(&mut self, piece: &str, events: &mut Vec<Event>) {
        if piece.is_empty() {
            return;
        }
        self.with_reasoning(|reasoning| reasoning.text.push_str(piece));
        events.push(Event::Reasoning(piece.to_owned()));
    }

    /// What the provider must get back with the reasoning of the current block (without blocks: with the last part).
    /// Reasoning without readable text becomes a part of its own.
    pub(crate) fn reasoning_state(&mut self, data: Bytes) {
        let state = self.provider_state(data);
        self.with_reasoning(|reasoning| reasoning.state = Some(state));
    }

    /// State of this provider and model.
    pub(crate) fn provider_state(&self, data: Bytes) -> ProviderState {
        let (provider, model) = self.target.clone();
        ProviderState { provider, model, data }
    }

    /// How many parts there are, if one of them is reasoning: where in it a call stands matters only then.
    pub(crate) fn parts_with_reasoning(&self) -> Option<usize> {
        let reasoned = self.parts.iter().any(|(_, part)| matches!(part.content, Content::Reasoning(_)));
        reasoned.then_some(self.parts.len())
    }

    /// All readable reasoning so far.
    pub(crate) fn reasoning_text(&self) -> String {
        let reasoning = |part: &Part| match &part.content {
            Content::Reasoning(r) => Some(r.text.clone()),
            _ => None,
        };
        self.parts.iter().filter_map(|(_, part)| reasoning(part)).collect()
    }

    /// Sets the state of the first reasoning part, for formats whose state covers all reasoning of an answer.
    pub(crate) fn first_reasoning_state(&mut self, data: Bytes) {
        let state = self.provider_state(data);
        for (_, part) in &mut self.parts {
            if let Content::Reasoning(reasoning) = &mut part.content {
                reasoning.state = Some(state);
                return;
            }
        }
    }

    /// Changes the reasoning part to add to, made if need be. Without blocks, one that has its state is complete.
    fn with_reasoning(&mut self, change: impl FnOnce(&mut Reasoning)) {
        let blocks = self.block.is_some();
        let fits = |part: &Part| matches!(&part.content, Content::Reasoning(r) if blocks || r.state.is_none());
        if let Some(Part { content: Content::Reasoning(reasoning), .. }) = self.slot(fits) {
            return change(reasoning);
        }
        let mut reasoning = Reasoning::default();
        change(&mut reasoning);
        self.parts.push((self.block, Part { content: Content::Reasoning(reasoning), cache: None }));
    }

    fn slot(&mut self, fits: impl Fn(&Part) -> bool) -> Option<&mut Part> {
        self.position(fits).map(|at| &mut self.parts[at].1)
    }

    fn position(&self, fits: impl Fn(&Part) -> bool) -> Option<usize> {
        match self.block {
            None => self.parts.last().filter(|(_, part)| fits(part)).map(|_| self.parts.len() - 1),
            block => self.parts.iter().rposition(|(b, part)| *b == block && fits(part)),
        }
    }

    /// A fragment of a tool call. Id and name are set once, arguments appended.
    pub(crate) fn tool_delta(&mut self, key: CallKey, id: &str, name: &str, arguments: &str) {
        self.calls.delta(key, id, name, arguments);
    }

    /// A tool call that came in one piece; an empty id gets one made.
    pub(crate) fn tool_call(
        &mut self,
        id: &str,
        name: &str,
        arguments: String,
        state: Option<Bytes>,
        events: &mut Vec<Event>,
    ) {
        let state = state.map(|data| self.provider_state(data));
        let arguments = if arguments.trim().is_empty() { "{}".into() } else { arguments };
        self.calls.whole(id, name, arguments, state);
        self.calls.close_all(events);
    }

    /// What the provider must get back with an open tool call.
    pub(crate) fn tool_state(&mut self, key: CallKey, data: Bytes) {
        self.calls.state(key, &self.target.0, &self.target.1, data);
    }

    /// No more fragments come for this call; gives it out if it is whole.
    pub(crate) fn close_call(&mut self, key: CallKey, events: &mut Vec<Event>) {
        self.calls.close(key, events);
    }

    /// No more fragments come for any call; gives out those that are whole.
    pub(crate) fn close_calls(&mut self, events: &mut Vec<Event>) {
        self.calls.close_all(events);
    }

    /// Newer usage: overwrites each field that it tells.
    pub(crate) fn usage(&mut self, newer: &RawUsage, events: &mut Vec<Event>) {
        if *newer == RawUsage::default() {
            return;
        }
        let before = self.usage;
        let usage = self.usage.get_or_insert_default();
        usage.merge(newer);
        if before != self.usage {
            events.extend(self.tokens().map(Event::Usage));
        }
    }

    fn tokens(&self) -> Option<TokenCounts> {
        self.usage.as_ref().map(self.algebra)
    }

    /// What there is so far. `finish` is meaningless in it.
    pub(crate) fn partial(&self) -> Completion {
        Completion {
            parts: self.parts.iter().map(|(_, part)| part.clone()).collect(),
            tool_calls: self.calls.whole_so_far(),
            finish: Finish::Stop,
            raw_finish: String::new(),
            tokens: self.tokens(),
            model: if self.model.is_empty() { self.target.1.clone() } else { self.model.clone() },
            provider_request_id: self.id.clone(),
            warnings: self.warnings.clone(),
        }
    }

    /// The whole answer, once its end mark was seen. `raw` is the provider's own word for `finish`. Gives out the calls
    /// that were still open.
    ///
    /// A finish of STOP becomes TOOL_CALLS when there are calls; LENGTH and CONTENT_FILTER are never overridden, and a
    /// call that they cut is dropped with a warning.
    ///
    /// # Errors
    /// MALFORMED_OUTPUT when the arguments of a call are no JSON object, EMPTY_OUTPUT when there is nothing.
    pub(crate) fn finish(&mut self, finish: Finish, raw: &str, events: &mut Vec<Event>) -> Result<Completion> {
        let may_be_cut = matches!(finish, Finish::Length | Finish::ContentFilter);
        match self.calls.finish(may_be_cut, events) {
            Outcome::Whole => {}
            Outcome::Cut => self.warn("the answer was cut inside a tool call; that call is dropped"),
            Outcome::Malformed => {
                return Err(ProviderError::malformed("a tool call has no name or its arguments are no JSON object"));
            }
        }
        let mut answer = self.partial();
        let has_text = answer.parts.iter().any(|p| matches!(&p.content, Content::Text(_)));
        if !may_be_cut && !has_text && answer.tool_calls.is_empty() {
            return Err(ProviderError::new(Reason::EmptyOutput, "the answer is empty").with_code(raw));
        }
        answer.finish = match finish {
            Finish::Stop if !answer.tool_calls.is_empty() => Finish::ToolCalls,
            Finish::ToolCalls if answer.tool_calls.is_empty() => Finish::Stop,
            finish => finish,
        };
        raw.clone_into(&mut answer.raw_finish);
        Ok(answer)
    }
}

#[cfg(test)]
#[path = "assembler_tests.rs"]
mod tests;
