//! A plan played as a sequence of events, and the interface by which formats write them.

use std::sync::Arc;

use crate::ask::tokens_of;
use crate::plan::{Plan, Segment, TOKEN_CHARS, ToolCall};
use crate::problem::Problem;

/// One step of a streamed answer. Every content piece lies between a start and an end.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event<'a> {
    /// The stream begins.
    Start,
    /// Reasoning begins.
    ThinkStart,
    /// A piece of reasoning.
    Think(&'a str),
    /// Reasoning ends; holds all of it.
    ThinkEnd(&'a str),
    /// Text begins.
    TextStart,
    /// A piece of text.
    Text(&'a str),
    /// Text ends.
    TextEnd,
    /// A tool call begins.
    ToolStart(&'a ToolCall),
    /// A piece of its arguments.
    ToolArgs(&'a str),
    /// The tool call is complete.
    ToolEnd(&'a ToolCall),
    /// All content is sent: the finish reason and usage.
    Finish,
    /// The end mark.
    End,
}

impl Event<'_> {
    /// Whether it carries generated tokens, and so is subject to pacing and counting.
    pub(crate) fn is_content(&self) -> bool {
        matches!(self, Self::Think(_) | Self::Text(_) | Self::ToolStart(_) | Self::ToolArgs(_))
    }

    /// Generated tokens it carries.
    pub(crate) fn tokens(&self) -> u64 {
        match self {
            Self::Think(text) | Self::Text(text) | Self::ToolArgs(text) => tokens_of(text.chars().count()),
            Self::ToolStart(call) => tokens_of(call.name.chars().count()),
            _ => 0,
        }
    }
}

/// Writes events in a wire format. An event may write nothing.
pub(crate) trait Encoder: Send {
    /// Appends the bytes of `event`.
    fn encode(&mut self, event: Event<'_>, plan: &Plan, out: &mut Vec<u8>);
    /// Appends an error inside the stream.
    fn error(&mut self, problem: &Problem, out: &mut Vec<u8>);
    /// Appends one broken chunk.
    fn malformed(&mut self, out: &mut Vec<u8>);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Start,
    Open(usize),
    Inside(usize, usize),
    Finish,
    End,
    Done,
}

/// Plays a plan event by event; memory does not grow with the length of the answer.
#[derive(Debug)]
pub(crate) struct Cursor {
    plan: Arc<Plan>,
    piece_chars: usize,
    at: At,
}

impl Cursor {
    /// Starts at the beginning, with pieces of `tokens` tokens.
    pub(crate) fn new(plan: Arc<Plan>, tokens: u64) -> Self {
        let tokens = usize::try_from(tokens.max(1)).unwrap_or(usize::MAX);
        Self { plan, piece_chars: tokens.saturating_mul(TOKEN_CHARS), at: At::Start }
    }

    /// The plan being played.
    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The current event, `None` after the last.
    pub(crate) fn peek(&self) -> Option<Event<'_>> {
        Some(match self.at {
            At::Start => Event::Start,
            At::Open(n) => match &self.plan.segments[n] {
                Segment::Think(_) => Event::ThinkStart,
                Segment::Text(_) => Event::TextStart,
                Segment::Tool(call) => Event::ToolStart(call),
            },
            At::Inside(n, from) => match &self.plan.segments[n] {
                Segment::Think(text) if from >= text.len() => Event::ThinkEnd(text),
                Segment::Think(text) => Event::Think(self.piece(text, from)),
                Segment::Text(text) if from >= text.len() => Event::TextEnd,
                Segment::Text(text) => Event::Text(self.piece(text, from)),
                Segment::Tool(call) if from >= call.args.len() => Event::ToolEnd(call),
                Segment::Tool(call) => Event::ToolArgs(self.piece(&call.args, from)),
            },
            At::Finish => Event::Finish,
            At::End => Event::End,
            At::Done => return None,
        })
    }

    /// Moves to the next event.
    pub(crate) fn advance(&mut self) {
        self.at = match self.at {
            At::Start => self.open(0),
            At::Open(n) => At::Inside(n, 0),
            At::Inside(n, from) => {
                let text = match &self.plan.segments[n] {
                    Segment::Think(text) | Segment::Text(text) => text,
                    Segment::Tool(call) => &call.args,
                };
                if from >= text.len() { self.open(n + 1) } else { At::Inside(n, from + self.piece(text, from).len()) }
            }
            At::Finish => At::End,
            At::End | At::Done => At::Done,
        };
    }

    fn open(&self, n: usize) -> At {
        if n < self.plan.segments.len() { At::Open(n) } else { At::Finish }
    }

    /// The piece of `text` that starts at byte `from`.
    fn piece<'a>(&self, text: &'a str, from: usize) -> &'a str {
        let rest = &text[from..];
        let end = rest.char_indices().nth(self.piece_chars).map_or(rest.len(), |(at, _)| at);
        &rest[..end]
    }
}
