//! The streamed answer.

use tutti_types::llm::Completion;

use super::response::Reader;
use crate::{
    Event, ProviderError, Result, StreamDecoder, json,
    sse::{SseDecoder, SseEvent},
};

/// Decodes server-sent events that hold chunks.
#[derive(Debug)]
pub(super) struct Decoder {
    sse: SseDecoder,
    events: Vec<SseEvent>,
    reader: Reader,
    done: bool,
}

impl Decoder {
    pub(super) fn new(reader: Reader) -> Self {
        Self { sse: SseDecoder::default(), events: Vec::new(), reader, done: false }
    }

    fn take(&mut self, event: &SseEvent, out: &mut Vec<Event>) -> Result<()> {
        if self.done {
            return Ok(());
        }
        if event.data.trim() == "[DONE]" {
            self.done = true;
            self.reader.ended();
            return Ok(());
        }
        let chunk = json::parse(event.data.as_bytes())?;
        if event.event.as_deref() == Some("error") && chunk.get("error").is_none() {
            return Err(super::errors::inside(&chunk));
        }
        self.reader.take(&chunk, out)
    }
}

impl StreamDecoder for Decoder {
    fn feed(&mut self, bytes: &[u8], out: &mut Vec<Event>) -> Result<()> {
        let mut events = std::mem::take(&mut self.events);
        let fed = self.sse.push(bytes, &mut events);
        let result = events.iter().try_for_each(|event| self.take(event, out));
        events.clear();
        self.events = events;
        result.and(fed)
    }

    fn finish(&mut self, out: &mut Vec<Event>) -> Result<Completion> {
        let mut events = Vec::new();
        self.sse.finish(&mut events)?;
        for event in &events {
            // The end of the body may have cut the last event: what came before decides then.
            if json::parse(event.data.as_bytes()).is_ok() || event.data.trim() == "[DONE]" {
                self.take(event, out)?;
            }
        }
        if self.reader.has_ended() { self.reader.finish(out) } else { Err(ProviderError::truncated()) }
    }

    fn partial(&self) -> Completion {
        self.reader.partial()
    }
}
