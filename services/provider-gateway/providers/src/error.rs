//! A provider's failure, classed.

use std::{fmt, time::Duration};

use tutti_error::{Error, Reason};

/// A failure of one attempt, as the provider told it or as its bytes show.
#[derive(Debug, Clone, PartialEq)]
pub struct ProviderError {
    /// The class.
    pub reason: Reason,
    /// In words, from the provider where it gave some; cut to 500 characters, never a secret.
    pub message: String,
    /// The HTTP status; 0 when there was none or the failure is inside a 200.
    pub http_status: u16,
    /// The provider's own code or type.
    pub code: String,
    /// When the provider wants to be asked again.
    pub retry_after: Option<Duration>,
}

impl ProviderError {
    /// A failure with a reason and words.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if reason == Reason::ProviderAuth {
            message = masked(&message);
        }
        if let Some((at, _)) = message.char_indices().nth(500) {
            message.truncate(at);
        }
        Self { reason, message, http_status: 0, code: String::new(), retry_after: None }
    }

    /// Bytes that are not what the format says.
    pub(crate) fn malformed(message: impl Into<String>) -> Self {
        Self::new(Reason::MalformedOutput, message)
    }

    /// A body that ended before its format's end mark.
    pub(crate) fn truncated() -> Self {
        Self::new(Reason::Truncated, "the answer ended before its end mark")
    }

    /// With the provider's own code or type.
    #[must_use]
    pub(crate) fn with_code(mut self, code: impl Into<String>) -> Self {
        self.code = code.into();
        self
    }

    /// Whether the same request may go well at the same backend a little later.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.reason,
            Reason::ProviderRateLimited
                | Reason::ProviderError
                | Reason::ConnectionFailed
                | Reason::ConnectTimeout
                | Reason::FirstTokenTimeout
                | Reason::IdleTimeout
                | Reason::Truncated
                | Reason::MalformedOutput
                | Reason::EmptyOutput
        )
    }
}

/// Providers repeat the key they refuse: words that look like one are masked.
fn masked(message: &str) -> String {
    let is_key_byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'*' | b'.');
    let looks_like_key = |word: &str| {
        let word = word.trim_end_matches('.');
        word.len() >= 12
            && word.bytes().all(is_key_byte)
            && word.bytes().any(|b| b.is_ascii_digit() || b == b'*')
            && !word.contains("..")
    };
    let is_border =
        |c: char| c.is_whitespace() || matches!(c, ',' | ':' | ';' | '"' | '\'' | '`' | '(' | ')' | '=' | '/');
    message
        .split_inclusive(is_border)
        .map(|piece| {
            let word = piece.trim_end_matches(is_border);
            if looks_like_key(word) { format!("[masked]{}", &piece[word.len()..]) } else { piece.to_owned() }
        })
        .collect()
}

impl fmt::Display for ProviderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ProviderError {}

impl From<ProviderError> for Error {
    fn from(error: ProviderError) -> Self {
        let mut out = Self::new(error.reason, error.message);
        if error.http_status != 0 {
            out = out.metadata("http_status", error.http_status.to_string());
        }
        if !error.code.is_empty() {
            out = out.metadata("provider_code", error.code);
        }
        if let Some(delay) = error.retry_after {
            out = out.retry_after(delay);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_in_the_words_of_a_refusal_is_masked() {
        let words = |text: &str| ProviderError::new(Reason::ProviderAuth, text).message;
        let said = words("Incorrect API key provided: sk-abc1********9xyz. See https://example.com/keys");
        assert_eq!(said, "Incorrect API key provided: [masked] See https://example.com/keys");
        assert_eq!(words("bad key \"gsk_4f5e6d7c8b9a0\""), "bad key \"[masked]\"");
        assert_eq!(words("authentication-required today"), "authentication-required today");
    }

    #[test]
    fn messages_are_cut_between_characters() {
        assert_eq!(ProviderError::new(Reason::ProviderError, "\u{e4}".repeat(600)).message.chars().count(), 500);
    }
}
