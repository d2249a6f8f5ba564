//! An error in neutral terms; each format renders it with its own body and headers.

use serde::{Deserialize, Serialize};

use crate::format::Format;

/// What went wrong, as the four formats distinguish it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The key is missing or refused.
    Auth,
    /// The key may not do this.
    Permission,
    /// There is no money left on the account (402 where the provider has it).
    Billing,
    /// The quota is used up: 429, but retrying cannot help.
    Quota,
    /// Too many requests: 429, retry later.
    RateLimit,
    /// The prompt does not fit the model's context.
    Context,
    /// The prompt is refused by a content policy.
    ContentPolicy,
    /// No such model or path.
    NotFound,
    /// The request is malformed.
    Invalid,
    /// The body is too large.
    TooLarge,
    /// The server failed.
    Server,
    /// The server is busy: 529 at Anthropic, 503 elsewhere.
    Overloaded,
    /// The server gave up waiting.
    Timeout,
}

impl ErrorKind {
    /// The kind that an HTTP status means when nothing else is said.
    #[must_use]
    pub fn of_status(status: u16) -> Self {
        match status {
            401 => Self::Auth,
            402 => Self::Billing,
            403 => Self::Permission,
            404 => Self::NotFound,
            408 | 504 => Self::Timeout,
            413 => Self::TooLarge,
            429 => Self::RateLimit,
            503 | 529 => Self::Overloaded,
            400..=499 => Self::Invalid,
            _ => Self::Server,
        }
    }

    /// The HTTP status under which `format` reports this kind.
    #[must_use]
    pub fn status(self, format: Format) -> u16 {
        match self {
            // A wrong API key is an invalid argument there.
            Self::Auth if format == Format::Gemini => 400,
            Self::Auth => 401,
            Self::Permission => 403,
            Self::Billing => match format {
                Format::OpenAi => 429,
                _ => 402,
            },
            Self::Quota | Self::RateLimit => 429,
            Self::Context | Self::ContentPolicy | Self::Invalid => 400,
            Self::NotFound => 404,
            Self::TooLarge => 413,
            Self::Server => 500,
            Self::Overloaded => match format {
                Format::Anthropic => 529,
                _ => 503,
            },
            Self::Timeout => 504,
        }
    }
}

/// One refusal or failure, before it gets the shape of a format.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    /// HTTP status.
    pub(crate) status: u16,
    /// What went wrong.
    pub(crate) kind: ErrorKind,
    /// The text; empty means the format's usual text for the kind.
    pub(crate) message: String,
    /// The request field concerned (OpenAI's `param`).
    pub(crate) param: Option<String>,
    /// A machine-readable code (OpenAI's `code`).
    pub(crate) code: Option<String>,
    /// Seconds after which to try again.
    pub(crate) retry_after: Option<f64>,
}

impl Problem {
    /// A problem of `kind` with `status`.
    pub(crate) fn new(status: u16, kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { status, kind, message: message.into(), param: None, code: None, retry_after: None }
    }

    /// A malformed request: 400.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(400, ErrorKind::Invalid, message)
    }

    /// Names the field concerned.
    pub(crate) fn at(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// Adds a machine-readable code.
    pub(crate) fn code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// The message, or `usual` when there is none.
    pub(crate) fn message_or<'a>(&'a self, usual: &'a str) -> &'a str {
        if self.message.is_empty() { usual } else { &self.message }
    }
}

/// An error response of a format: extra headers and the body.
#[derive(Debug)]
pub(crate) struct Rendered {
    /// Headers besides the content type.
    pub(crate) headers: Vec<(&'static str, String)>,
    /// The JSON body.
    pub(crate) body: serde_json::Value,
}
