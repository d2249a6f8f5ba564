//! Reads answers. A whole answer has the form of a stream of one line.

use serde_json::Value;
use tutti_error::Reason;
use tutti_types::llm::{Completion, Finish};

use crate::{
    Event, ProviderError, Result, StreamDecoder, Target,
    assembler::{Assembler, RawUsage},
    http, json,
    lines::LineDecoder,
};

/// Puts an answer together from lines.
#[derive(Debug)]
pub(super) struct Reader {
    assembler: Assembler,
    /// `done_reason`, once the line with `done: true` has come.
    finish: Option<String>,
}

impl Reader {
    pub(super) fn new(target: &Target) -> Self {
        Self { assembler: Assembler::new(target, RawUsage::totals), finish: None }
    }

    /// Takes the next line, or the whole answer.
    ///
    /// # Errors
    /// The provider's error inside it.
    pub(super) fn take(&mut self, line: &Value, events: &mut Vec<Event>) -> Result<()> {
        if line.get("error").is_some_and(|e| !e.is_null()) {
            return Err(error(0, line));
        }
        if self.finish.is_some() {
            return Ok(());
        }
        self.assembler.model(json::text(line, "model"));
        // There is no id of the answer; its time keeps made ids of calls apart.
        self.assembler.seed(json::text(line, "created_at"));
        if let Some(message) = line.get("message") {
            self.assembler.reasoning(json::text(message, "thinking"), events);
            self.assembler.text(json::text(message, "content"), events);
            for call in json::array(message, "tool_calls") {
                let function = call.get("function").unwrap_or(&Value::Null);
                let arguments = function.get("arguments").map(json::arguments).unwrap_or_default();
                self.assembler.tool_call(json::text(call, "id"), json::text(function, "name"), arguments, None, events);
            }
        }
        if line.get("done") == Some(&Value::Bool(true)) {
            self.finish = Some(json::text(line, "done_reason").to_owned());
            let number = |key: &str| line.get(key).and_then(json::count);
            let (input, output) = (number("prompt_eval_count"), number("eval_count"));
            self.assembler.usage(&RawUsage { input, output, ..RawUsage::default() }, events);
        }
        Ok(())
    }

    /// The whole answer.
    ///
    /// # Errors
    /// TRUNCATED without a line that says done, EMPTY_OUTPUT, MALFORMED_OUTPUT.
    pub(super) fn finish(&mut self, events: &mut Vec<Event>) -> Result<Completion> {
        let raw = self.finish.clone().ok_or_else(ProviderError::truncated)?;
        let finish = match raw.as_str() {
            "length" => Finish::Length,
            // `load` and `unload` come without an answer, which the assembler sees.
            "stop" | "load" | "unload" | "" => Finish::Stop,
            other => {
                self.assembler.warn(format!("the finish reason {other} is unknown; stop is assumed"));
                Finish::Stop
            }
        };
        let thinking = self.assembler.reasoning_text();
        if !thinking.is_empty() {
            self.assembler.first_reasoning_state(thinking.into());
        }
        self.assembler.finish(finish, &raw, events)
    }
}

/// Decodes one JSON object a line.
#[derive(Debug)]
pub(super) struct Decoder {
    lines: LineDecoder,
    buffer: Vec<String>,
    reader: Reader,
}

impl Decoder {
    pub(super) fn new(target: &Target) -> Self {
        Self { lines: LineDecoder::default(), buffer: Vec::new(), reader: Reader::new(target) }
    }
}

impl StreamDecoder for Decoder {
    fn feed(&mut self, bytes: &[u8], events: &mut Vec<Event>) -> Result<()> {
        let mut lines = std::mem::take(&mut self.buffer);
        let fed = self.lines.push(bytes, &mut lines);
        let result = lines.iter().try_for_each(|line| self.reader.take(&json::parse(line.as_bytes())?, events));
        lines.clear();
        self.buffer = lines;
        result.and(fed)
    }

    fn finish(&mut self, events: &mut Vec<Event>) -> Result<Completion> {
        let mut lines = Vec::new();
        self.lines.finish(&mut lines)?;
        for line in &lines {
            // The end of the body may have cut the last line: what came before decides then.
            if let Ok(value) = json::parse(line.as_bytes()) {
                self.reader.take(&value, events)?;
            }
        }
        self.reader.finish(events)
    }

    fn partial(&self) -> Completion {
        self.reader.assembler.partial()
    }
}

/// The class of `{"error": "words"}`; a status of 0 is an error inside an answer.
pub(super) fn error(status: u16, value: &Value) -> ProviderError {
    let told = value.get("error").unwrap_or(value);
    let message =
        told.as_str().or_else(|| told.get("message")?.as_str()).map_or_else(|| told.to_string(), str::to_owned);
    let words = message.to_lowercase();
    let says = |all: &[&str]| all.iter().any(|w| words.contains(w));
    let reason = if says(&["context length", "context window", "context size", "prompt is too long"]) {
        Reason::ContextTooLong
    } else if words.contains("model") && says(&["not found", "no such model"]) {
        Reason::UnknownModel
    } else if says(&["does not support"]) {
        Reason::ProviderRejected
    } else if status == 0 {
        Reason::ProviderError
    } else {
        http::reason_of_status(status)
    };
    ProviderError::new(reason, message)
}
