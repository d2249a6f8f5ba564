//! Streamed answers: named events about blocks that are told apart by their index.

use serde_json::Value;
use tutti_types::llm::Completion;

use super::{answer::Answer, error};
use crate::{
    Event, ProviderError, Result, StreamDecoder, Target, json,
    sse::{SseDecoder, SseEvent},
};

/// Decodes one streamed answer. `message_stop` is its end mark.
#[derive(Debug)]
pub(super) struct Decoder {
    sse: SseDecoder,
    answer: Answer,
    ended: bool,
}

impl Decoder {
    pub(super) fn new(target: &Target) -> Self {
        Self { sse: SseDecoder::default(), answer: Answer::new(target), ended: false }
    }

    fn take(&mut self, event: &SseEvent, events: &mut Vec<Event>) -> Result<()> {
        if self.ended || event.data.trim() == "[DONE]" {
            return Ok(());
        }
        let data = json::parse(event.data.as_bytes())?;
        let index = json::count(&data["index"]).unwrap_or(0);
        let kind = match json::text(&data, "type") {
            "" => event.event.as_deref().unwrap_or_default(),
            kind => kind,
        };
        match kind {
            "message_start" => self.answer.begin(&data["message"], events),
            "content_block_start" => self.answer.start_block(index, &data["content_block"], events),
            "content_block_delta" => self.answer.delta(index, &data["delta"], events),
            "content_block_stop" => self.answer.stop_block(index, events),
            "message_delta" => {
                self.answer.stopped(&data["delta"]);
                self.answer.usage(&data["usage"], events);
            }
            "message_stop" => self.ended = true,
            _ => return failure(&data),
        }
        Ok(())
    }
}

/// Pings and unknown events mean nothing, unless there is an error inside.
fn failure(data: &Value) -> Result<()> {
    error::inside(data).map_or(Ok(()), Err)
}

impl StreamDecoder for Decoder {
    fn feed(&mut self, bytes: &[u8], events: &mut Vec<Event>) -> Result<()> {
        let mut complete = Vec::new();
        self.sse.push(bytes, &mut complete)?;
        complete.iter().try_for_each(|event| self.take(event, events))
    }

    fn finish(&mut self, events: &mut Vec<Event>) -> Result<Completion> {
        let mut rest = Vec::new();
        self.sse.finish(&mut rest)?;
        for event in &rest {
            // An event that the end has cut in two is no malformed one.
            match self.take(event, events) {
                Err(error) if error.reason == tutti_error::Reason::MalformedOutput => break,
                result => result?,
            }
        }
        if self.ended { self.answer.finish(events) } else { Err(ProviderError::truncated()) }
    }

    fn partial(&self) -> Completion {
        self.answer.partial()
    }
}
