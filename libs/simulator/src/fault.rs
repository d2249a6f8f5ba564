//! Scripted faults: what they are and the `key=value` grammar in which prompts, the
//! `x-sim-fault` header and scenario files write them.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Number, Value};

use crate::format::Format;
use crate::problem::{ErrorKind, Problem};

/// How the reported usage lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UsageFault {
    /// No usage is reported at all.
    Missing,
    /// Every figure is 0.
    Zero,
    /// Every figure is twice the truth.
    Double,
    /// A billion output tokens.
    Huge,
}

/// Text that is no fault.
#[derive(Debug, thiserror::Error)]
#[error("fault: {0}")]
pub struct FaultSyntax(String);

/// One scripted fault. Unset fields change nothing; several faults that hit one request
/// are merged field by field.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fault {
    /// HTTP status to answer with; with `error_after`, the code inside the error event.
    pub status: Option<u16>,
    /// Which of the provider's errors to answer with; without it, the usual one of `status`.
    pub kind: Option<ErrorKind>,
    /// The error text; without it, the provider's usual one.
    pub message: Option<String>,
    /// Seconds to name in `retry-after` (Gemini: `RetryInfo`).
    pub retry_after: Option<f64>,
    /// Milliseconds before the response head.
    pub head_ms: Option<u64>,
    /// Milliseconds before the first token.
    pub ttft_ms: Option<u64>,
    /// Milliseconds between chunks.
    pub chunk_ms: Option<u64>,
    /// Tokens a chunk holds, at least 1.
    pub chunk_tokens: Option<u64>,
    /// Send nothing more after this many chunks of content (unary: never answer).
    pub stall_after: Option<u64>,
    /// End the body as if complete after this many chunks: no finish reason, no end mark.
    pub truncate_after: Option<u64>,
    /// One broken chunk after this many chunks, then go on.
    pub malformed_after: Option<u64>,
    /// An error event inside the 200 stream after this many chunks, then end.
    pub error_after: Option<u64>,
    /// Cut the connection after exactly this many bytes of the body.
    pub cut_at: Option<u64>,
    /// Close the connection before the head.
    pub close: bool,
    /// Reset (RST) the connection: before the head, or where `cut_at` says.
    pub reset: bool,
    /// Report wrong usage.
    pub usage: Option<UsageFault>,
    /// Input tokens to report as read from the cache (at most the whole prompt).
    pub cached: Option<u64>,
    /// Input tokens to report as written to the cache.
    pub cache_write: Option<u64>,
    /// Finish for this reason: `stop`, `length`, `tool_calls`, `content_filter`, `error`,
    /// or any other text, sent as it is.
    pub finish: Option<String>,
    /// Answer without any content.
    pub empty: bool,
    /// Condition: only the first so many requests with this very fault text.
    pub times: Option<u32>,
    /// Condition: only models that match this pattern (`*` stands for anything).
    pub model: Option<String>,
    /// Condition: only this wire format.
    pub format: Option<Format>,
    /// Condition: only this round of the tool loop, counted from 0.
    pub round: Option<usize>,
}

macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident: $kind:ty;)*) => {$(
        $(#[$doc])*
        #[must_use]
        pub fn $name(mut self, value: $kind) -> Self {
            self.$name = Some(value);
            self
        }
    )*};
}

impl Fault {
    /// Nothing; a start for the builder methods.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Answer with HTTP `status` and the provider's usual body for it.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self { status: Some(status), ..Self::default() }
    }

    /// Answer with the provider's error of this kind, under the provider's usual status.
    #[must_use]
    pub fn error(kind: ErrorKind) -> Self {
        Self { kind: Some(kind), ..Self::default() }
    }

    /// Close the connection before the head.
    #[must_use]
    pub fn close() -> Self {
        Self { close: true, ..Self::default() }
    }

    /// Reset the connection before the head.
    #[must_use]
    pub fn reset() -> Self {
        Self { reset: true, ..Self::default() }
    }

    /// Answer without any content.
    #[must_use]
    pub fn empty() -> Self {
        Self { empty: true, ..Self::default() }
    }

    setters! {
        /// Names the error kind besides the status.
        kind: ErrorKind;
        /// Seconds to name in `retry-after`.
        retry_after: f64;
        /// Milliseconds before the response head.
        head_ms: u64;
        /// Milliseconds before the first token.
        ttft_ms: u64;
        /// Milliseconds between chunks.
        chunk_ms: u64;
        /// Tokens a chunk holds.
        chunk_tokens: u64;
        /// Stall for ever after so many chunks.
        stall_after: u64;
        /// End early but cleanly after so many chunks.
        truncate_after: u64;
        /// A broken chunk after so many chunks.
        malformed_after: u64;
        /// An error event after so many chunks.
        error_after: u64;
        /// Cut the connection at this byte of the body.
        cut_at: u64;
        /// Report wrong usage.
        usage: UsageFault;
        /// Input tokens reported as read from the cache.
        cached: u64;
        /// Input tokens reported as written to the cache.
        cache_write: u64;
        /// Only the first so many requests.
        times: u32;
        /// Only this round of the tool loop.
        round: usize;
    }

    /// Finish for this reason.
    #[must_use]
    pub fn finish(mut self, reason: &str) -> Self {
        self.finish = Some(reason.to_owned());
        self
    }

    /// Reads the grammar `key=value flag key="two words"`, e.g. `status=429 retry_after=2`.
    ///
    /// # Errors
    /// [`FaultSyntax`] names an unknown key or a value of the wrong kind.
    pub fn parse(text: &str) -> Result<Self, FaultSyntax> {
        let mut members = Map::new();
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            let end = rest.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(rest.len());
            let (key, after) = rest.split_at(end);
            let (value, after) = match after.strip_prefix('=') {
                Some(after) => scan_value(after)?,
                None => (Value::Bool(true), after),
            };
            members.insert(key.to_owned(), value);
            rest = after.trim_start();
        }
        Self::from_json(Value::Object(members))
    }

    fn from_json(value: Value) -> Result<Self, FaultSyntax> {
        match value {
            Value::String(text) => Self::parse(&text),
            table => serde_json::from_value(table).map_err(|error| FaultSyntax(error.to_string())),
        }
    }

    /// Accepts a table or the text grammar.
    pub(crate) fn deserialize_either<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(from)?;
        Self::from_json(value).map_err(serde::de::Error::custom)
    }

    /// `self` with the fields that `other` sets.
    #[must_use]
    pub(crate) fn merged(self, other: Self) -> Self {
        Self {
            status: other.status.or(self.status),
            kind: other.kind.or(self.kind),
            message: other.message.or(self.message),
            retry_after: other.retry_after.or(self.retry_after),
            head_ms: other.head_ms.or(self.head_ms),
            ttft_ms: other.ttft_ms.or(self.ttft_ms),
            chunk_ms: other.chunk_ms.or(self.chunk_ms),
            chunk_tokens: other.chunk_tokens.or(self.chunk_tokens),
            stall_after: other.stall_after.or(self.stall_after),
            truncate_after: other.truncate_after.or(self.truncate_after),
            malformed_after: other.malformed_after.or(self.malformed_after),
            error_after: other.error_after.or(self.error_after),
            cut_at: other.cut_at.or(self.cut_at),
            close: other.close || self.close,
            reset: other.reset || self.reset,
            usage: other.usage.or(self.usage),
            cached: other.cached.or(self.cached),
            cache_write: other.cache_write.or(self.cache_write),
            finish: other.finish.or(self.finish),
            empty: other.empty || self.empty,
            times: None,
            model: None,
            format: None,
            round: None,
        }
    }

    /// Whether the conditions on model, format and round hold (`times` is counted elsewhere).
    pub(crate) fn applies(&self, format: Format, model: &str, round: usize) -> bool {
        self.format.is_none_or(|wanted| wanted == format)
            && self.round.is_none_or(|wanted| wanted == round)
            && self.model.as_deref().is_none_or(|pattern| matches_glob(pattern, model))
    }

    /// Whether the exchange cannot end well for the client.
    pub(crate) fn is_failure(&self) -> bool {
        self.status.is_some_and(|status| status >= 400)
            || self.kind.is_some()
            || self.close
            || self.reset
            || self.cut_at.is_some()
            || self.stall_after.is_some()
            || self.truncate_after.is_some()
            || self.malformed_after.is_some()
            || self.error_after.is_some()
    }

    /// The error that the fault asks for in `format`, if any.
    pub(crate) fn problem(&self, format: Format) -> Option<Problem> {
        let status = self.status.filter(|status| *status >= 400);
        if status.is_none() && self.kind.is_none() && self.error_after.is_none() {
            return None;
        }
        let kind = self.kind.unwrap_or_else(|| match status {
            Some(status) => ErrorKind::of_status(status),
            None => ErrorKind::Overloaded,
        });
        let status = status.unwrap_or_else(|| kind.status(format));
        let mut problem = Problem::new(status, kind, self.message.clone().unwrap_or_default());
        problem.retry_after = self.retry_after;
        Some(problem)
    }

    /// One line for the records, e.g. `status=429 retry_after=2.0`.
    pub(crate) fn summary(&self) -> Option<String> {
        let Ok(Value::Object(members)) = serde_json::to_value(self) else { return None };
        let set: Vec<String> = members
            .iter()
            .filter(|(_, value)| !value.is_null() && **value != Value::Bool(false))
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        (!set.is_empty()).then(|| set.join(" "))
    }
}

/// One value of the grammar and the text after it.
fn scan_value(text: &str) -> Result<(Value, &str), FaultSyntax> {
    if let Some(quoted) = text.strip_prefix('"') {
        let end = quoted.find('"').ok_or_else(|| FaultSyntax("a quote is not closed".into()))?;
        return Ok((Value::from(&quoted[..end]), &quoted[end + 1..]));
    }
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    let value = if let Ok(whole) = word.parse::<u64>() {
        Value::from(whole)
    } else if let Some(number) = word.parse().ok().and_then(Number::from_f64) {
        Value::Number(number)
    } else if let Ok(truth) = word.parse::<bool>() {
        Value::Bool(truth)
    } else {
        Value::from(word)
    };
    Ok((value, rest))
}

/// Whether `text` matches `pattern`, in which `*` stands for any text.
pub(crate) fn matches_glob(pattern: &str, text: &str) -> bool {
    let Some((prefix, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut tail) = text.strip_prefix(prefix) else { return false };
    if rest.is_empty() {
        return true;
    }
    loop {
        if matches_glob(rest, tail) {
            return true;
        }
        let mut chars = tail.chars();
        if chars.next().is_none() {
            return false;
        }
        tail = chars.as_str();
    }
}

#[cfg(test)]
mod tests {
    use super::{Fault, matches_glob};
    use crate::format::Format;
    use crate::problem::ErrorKind;

    #[test]
    fn the_grammar_reads_numbers_flags_and_quoted_texts() {
        let fault = Fault::parse(r#"status=429 retry_after=2 reset message="slow down""#).unwrap();
        assert_eq!(fault.status, Some(429));
        assert_eq!(fault.retry_after, Some(2.0));
        assert!(fault.reset);
        assert_eq!(fault.message.as_deref(), Some("slow down"));
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let error = Fault::parse("statsu=429").unwrap_err().to_string();
        assert!(error.contains("statsu"), "{error}");
    }

    #[test]
    fn a_kind_without_status_takes_the_providers_status() {
        let fault = Fault::error(ErrorKind::Overloaded);
        assert_eq!(fault.problem(Format::Anthropic).unwrap().status, 529);
        assert_eq!(fault.problem(Format::OpenAi).unwrap().status, 503);
    }

    #[test]
    fn globs_match_anywhere() {
        assert!(matches_glob("gpt-*", "gpt-5.4"));
        assert!(matches_glob("*mini*", "gpt-5.4-mini-x"));
        assert!(!matches_glob("gpt", "gpt-5"));
        assert!(!matches_glob("a*b", "acbd"));
    }
}
