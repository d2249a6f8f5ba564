//! Failures, as Google tells them.

use std::time::Duration;

use serde_json::Value;
use tutti_error::Reason;

use crate::{ProviderError, http, json};

/// The class of an answer that is not 2xx.
pub(super) fn classify(status: u16, header: http::Header<'_>, body: &[u8]) -> ProviderError {
    let body = serde_json::from_slice(body).unwrap_or(Value::Null);
    // Bodies of some paths are wrapped in an array.
    let body = if body.is_array() { &body[0] } else { &body };
    let mut error = of_error(&body["error"], status);
    error.http_status = status;
    error.retry_after = http::retry_after(header).or(error.retry_after);
    error
}

/// The error inside a 200, if there is one.
pub(super) fn inside(body: &Value) -> Option<ProviderError> {
    let error = body.get("error").filter(|error| !error.is_null())?;
    // The code is the status it would have had.
    let status = json::count(&error["code"]).and_then(|code| u16::try_from(code).ok()).unwrap_or(0);
    Some(of_error(error, status))
}

fn of_error(error: &Value, status: u16) -> ProviderError {
    let message = match json::text(error, "message") {
        "" => format!("the provider answered with status {status}"),
        message => message.to_owned(),
    };
    let code = json::text(error, "status");
    let reason = reason(error, code, &message.to_lowercase(), status);
    let mut out = ProviderError::new(reason, message.as_str()).with_code(code);
    out.retry_after = retry_delay(error).or_else(|| delay_in_words(&message));
    out
}

fn reason(error: &Value, code: &str, message: &str, status: u16) -> Reason {
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if details(error, "ErrorInfo").any(|info| json::text(info, "reason").starts_with("API_KEY"))
        || says(&["api key not valid", "api key expired", "api key not found"])
    {
        return Reason::ProviderAuth;
    }
    match (status, code) {
        (402, _) => Reason::ProviderBilling,
        (_, "FAILED_PRECONDITION") if says(&["billing"]) => Reason::ProviderBilling,
        (429, _) | (_, "RESOURCE_EXHAUSTED") if is_used_up(error, message) => Reason::ProviderBilling,
        (_, "RESOURCE_EXHAUSTED") => Reason::ProviderRateLimited,
        (400 | 413, _) if says(&["payload size exceeds", "too large"]) => Reason::MessageTooLarge,
        (400 | 413 | 500, _) if says(&["exceeds the maximum number of tokens", "input context is too long"]) => {
            Reason::ContextTooLong
        }
        (413, _) => Reason::MessageTooLarge,
        (404, _) if says(&["model"]) => Reason::UnknownModel,
        (_, "UNAUTHENTICATED" | "PERMISSION_DENIED") => Reason::ProviderAuth,
        (0, "UNAVAILABLE" | "INTERNAL" | "DEADLINE_EXCEEDED" | "CANCELLED") => Reason::ProviderError,
        _ => http::reason_of_status(status),
    }
}

/// A quota that does not come back within minutes: of the day, or of zero because there is no paid plan.
fn is_used_up(error: &Value, message: &str) -> bool {
    let mut violations = details(error, "QuotaFailure").flat_map(|failure| json::array(failure, "violations"));
    let zero = message.match_indices("limit: 0").any(|(at, found)| {
        let next = message[at + found.len()..].chars().next();
        !next.is_some_and(|c| c.is_ascii_digit() || c == '.')
    });
    violations.any(|violation| json::text(violation, "quotaId").contains("PerDay"))
        || zero
        || message.contains("credits are depleted")
        || message.contains("spending cap")
}

fn details<'a>(error: &'a Value, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    json::array(error, "details").iter().filter(move |detail| json::text(detail, "@type").ends_with(kind))
}

fn retry_delay(error: &Value) -> Option<Duration> {
    http::go_duration(json::text(details(error, "RetryInfo").next()?, "retryDelay"))
}

/// "Please retry in 10h17m5.7s."
fn delay_in_words(message: &str) -> Option<Duration> {
    let (_, rest) = message.split_once("retry in ")?;
    http::go_duration(rest.split_whitespace().next()?.trim_end_matches('.'))
}
