//! A program's output on its way: to the caller as it comes, and kept for the result.

use tutti_error::Reason;

use super::{OutputSink, Piece, Stop};
use crate::domain::{Failure, HeadTail, Outcome, Stream, Utf8Decoder};

/// A program that writes this many times what is kept of it is ended.
const HARD_FACTOR: u64 = 16;

/// Takes a program's output.
#[derive(Debug)]
pub(super) struct Capture {
    sink: OutputSink,
    kept: HeadTail,
    decoders: [Utf8Decoder; 2],
    bytes: u64,
    hard_limit: u64,
}

impl Capture {
    /// Keeps at most `cap` bytes, and hands on all to `sink`.
    pub(super) fn new(sink: OutputSink, cap: usize) -> Self {
        let decoders = [Utf8Decoder::default(), Utf8Decoder::default()];
        Self { sink, kept: HeadTail::new(cap), decoders, bytes: 0, hard_limit: HARD_FACTOR * cap as u64 }
    }

    /// Takes what was read from a stream.
    ///
    /// # Errors
    /// TOOL_OUTPUT_LIMIT; why the call ends, when it does before the reader has taken the output.
    pub(super) async fn take(&mut self, stream: Stream, bytes: &[u8], stop: &Stop) -> Result<(), Failure> {
        let text = self.keep(stream, bytes);
        if self.bytes > self.hard_limit {
            let limit = self.hard_limit;
            return Err(Failure::new(
                Reason::ToolOutputLimit,
                format!("the program wrote more than {limit} bytes and was killed"),
            ));
        }
        if text.is_empty() { Ok(()) } else { self.sink.send(Piece { stream, text }, stop).await }
    }

    /// Ends both streams: a character that never became complete is replaced.
    pub(super) async fn close(&mut self, stop: &Stop) {
        for (stream, decoder) in [Stream::Stdout, Stream::Stderr].into_iter().zip(&mut self.decoders) {
            let text = decoder.finish();
            self.kept.push(text);
            if !text.is_empty() {
                // A reader that is gone misses nothing by this.
                let _ = self.sink.send(Piece { stream, text: text.to_owned() }, stop).await;
            }
        }
    }

    /// What the result shows of it.
    pub(super) fn into_outcome(self, exit_code: Option<i32>, failure: Option<Failure>) -> Outcome {
        let (output, truncated) = self.kept.finish();
        Outcome { output, output_bytes: self.bytes, truncated, exit_code, failure }
    }

    /// Keeps what was read for the result, and returns it as text.
    pub(super) fn keep(&mut self, stream: Stream, bytes: &[u8]) -> String {
        self.bytes += bytes.len() as u64;
        let [stdout, stderr] = &mut self.decoders;
        let text = match stream {
            Stream::Stdout => stdout.push(bytes),
            Stream::Stderr => stderr.push(bytes),
        };
        self.kept.push(&text);
        text
    }
}
