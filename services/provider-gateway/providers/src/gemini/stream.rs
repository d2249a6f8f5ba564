//! Streamed answers: unnamed events, no end mark but the end of the body.

use serde_json::Value;
use tutti_error::Reason;
use tutti_types::llm::Completion;

use super::answer::Answer;
use crate::{
    Event, Result, StreamDecoder, Target, json,
    lines::LineSplitter,
    sse::{SseDecoder, SseEvent},
};

/// The most that is kept of a body that is no event stream.
const MAX_BARE_BYTES: usize = 1024 * 1024;

/// Decodes one streamed answer.
#[derive(Debug)]
pub(super) struct Decoder {
    sse: SseDecoder,
    answer: Answer,
    lines: LineSplitter,
    /// Lines outside of events: errors come as bare JSON, even in the middle of a stream.
    bare: Vec<u8>,
}

impl Decoder {
    pub(super) fn new(target: &Target) -> Self {
        let (sse, lines) = (SseDecoder::default(), LineSplitter::default());
        Self { sse, answer: Answer::new(target), lines, bare: Vec::new() }
    }

    fn take(&mut self, event: &SseEvent, events: &mut Vec<Event>) -> Result<()> {
        if event.data.trim() == "[DONE]" {
            return Ok(());
        }
        self.answer.body(&json::parse(event.data.as_bytes())?, events)
    }
}

fn keep_bare(line: &[u8], bare: &mut Vec<u8>) {
    let is_sse = [b"data".as_slice(), b"event", b"id", b"retry", b":"].iter().any(|field| line.starts_with(field));
    if !line.is_empty() && !is_sse && bare.len() + line.len() < MAX_BARE_BYTES {
        bare.extend_from_slice(line);
        bare.push(b'\n');
    }
}

impl StreamDecoder for Decoder {
    fn feed(&mut self, bytes: &[u8], events: &mut Vec<Event>) -> Result<()> {
        let Self { lines, bare, .. } = self;
        lines.push(bytes, |line| {
            keep_bare(line, bare);
            Ok(())
        })?;
        let mut complete = Vec::new();
        self.sse.push(bytes, &mut complete)?;
        complete.iter().try_for_each(|event| self.take(event, events))
    }

    fn finish(&mut self, events: &mut Vec<Event>) -> Result<Completion> {
        let mut rest = Vec::new();
        self.sse.finish(&mut rest)?;
        for event in &rest {
            // An event that the end has cut in two is no malformed one: the finish reason is missing then.
            match self.take(event, events) {
                Err(error) if error.reason == Reason::MalformedOutput => break,
                result => result?,
            }
        }
        let Self { lines, bare, .. } = self;
        lines.finish(|line| {
            keep_bare(line, bare);
            Ok(())
        })?;
        if let Ok(body) = serde_json::from_slice::<Value>(&self.bare) {
            self.answer.body(&body, events)?;
        }
        self.answer.finish(events)
    }

    fn partial(&self) -> Completion {
        self.answer.partial()
    }
}
