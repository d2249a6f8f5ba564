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
