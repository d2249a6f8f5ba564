//! Failures, as Anthropic tells them.

use serde_json::Value;
use tutti_error::Reason;

use crate::{
    ProviderError, http,
    json::{code, text},
};

/// The class of an answer that is not 2xx.
pub(super) fn classify(status: u16, header: http::Header<'_>, body: &[u8]) -> ProviderError {
    let body = serde_json::from_slice(body).unwrap_or(Value::Null);
    let mut error = of_error(&body["error"], status);
    error.http_status = status;
    error.retry_after = http::retry_after(header);
    error
}

/// The error inside a 200, if there is one.
pub(super) fn inside(body: &Value) -> Option<ProviderError> {
    body.get("error").filter(|error| !error.is_null()).map(|error| of_error(error, 0))
}

fn of_error(error: &Value, status: u16) -> ProviderError {
    let kind = text(error, "type");
    let message = match error {
        Value::String(message) => message,
        _ => text(error, "message"),
    };
    let detail = code(&error["details"]["error_code"]);
    let message = match message {
        "" if status == 0 => "the provider failed without a word".to_owned(),
        "" => format!("the provider answered with HTTP status {status}"),
        message => message.to_owned(),
    };
    let reason = reason(kind, &detail, &message.to_lowercase(), status);
    ProviderError::new(reason, message).with_code(if detail.is_empty() { kind } else { &detail })
}

fn reason(kind: &str, detail: &str, message: &str, status: u16) -> Reason {
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    // Money first: it comes with the statuses of bad requests and of rate limits, and waiting doesn't help.
    if kind == "billing_error"
        || detail.contains("spend_limit")
        || says(&["credit balance", "spend limit", "spending limit", "specified api usage limits"])
    {
        return Reason::ProviderBilling;
    }
    match kind {
        "request_too_large" => Reason::MessageTooLarge,
        "invalid_request_error" if says(&["prompt is too long", "exceed context limit", "context window"]) => {
            Reason::ContextTooLong
        }
        "invalid_request_error" if says(&["content filtering policy"]) => Reason::ContentFiltered,
        "authentication_error" | "permission_error" => Reason::ProviderAuth,
        "not_found_error" if says(&["model"]) => Reason::UnknownModel,
        "invalid_request_error" | "not_found_error" | "conflict_error" => Reason::ProviderRejected,
        "rate_limit_error" => Reason::ProviderRateLimited,
        "overloaded_error" | "api_error" | "timeout_error" => Reason::ProviderError,
        _ if status == 413 => Reason::MessageTooLarge,
        _ => http::reason_of_status(status),
    }
}
