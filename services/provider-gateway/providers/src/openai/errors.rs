//! The classes of errors, from HTTP answers and from inside answers that began well.

use std::time::Duration;

use serde_json::Value;
use tutti_error::Reason;

use crate::{
    ProviderError,
    http::{self, Header},
    json,
};

/// What an error says, wherever it says it.
#[derive(Debug, Default)]
struct Told {
    message: String,
    /// `code`; a number only where there is no word.
    code: String,
    kind: String,
    param: String,
    /// A status that the error itself names.
    status: Option<u16>,
}

/// The error of an answer that is not 2xx.
pub(super) fn from_answer(status: u16, header: Header<'_>, body: &[u8]) -> ProviderError {
    let told = match serde_json::from_slice::<Value>(body) {
        Ok(value) => tell(&value),
        Err(_) => Told { message: http::plain_message(status, body), ..Told::default() },
    };
    let mut error = classed(status, told);
    error.http_status = status;
    let limited = error.reason == Reason::ProviderRateLimited;
    let reset = || limited.then(|| reset(header, &error)).flatten();
    error.retry_after = http::retry_after(header).or_else(reset).or(error.retry_after);
    error
}

/// An error inside an answer, where there is one.
pub(super) fn find(chunk: &Value) -> Option<ProviderError> {
    let chunk = chunk.as_array().and_then(|list| list.first()).unwrap_or(chunk);
    let is_error = |value: &&Value| !matches!(value, Value::Null | Value::Bool(false)) && value.as_str() != Some("");
    let in_choice = || json::array(chunk, "choices").iter().find_map(|c| c.get("error").filter(is_error));
    let flat = json::text(chunk, "object") == "error"
        || (chunk.get("choices").is_none() && (chunk.get("detail").is_some() || json::text(chunk, "type") == "error"));
    if chunk.get("error").filter(is_error).is_some() || flat {
        return Some(inside(chunk));
    }
    in_choice().map(inside)
}

/// The error that a value inside an answer of status 200 says.
pub(super) fn inside(value: &Value) -> ProviderError {
    classed(0, tell(value))
}

fn tell(value: &Value) -> Told {
    let value = value.as_array().and_then(|list| list.first()).unwrap_or(value);
    let error = value.get("error").unwrap_or(value);
    let error = error.as_array().and_then(|list| list.first()).unwrap_or(error);
    if let Some(message) = error.as_str() {
        let code = value.get("code").map(json::code).unwrap_or_default();
        return Told { message: message.into(), code, ..Told::default() };
    }
    let field = |key: &str| error.get(key).map(json::code).unwrap_or_default();
    let number = |key: &str| error.get(key).and_then(json::count).and_then(|n| u16::try_from(n).ok());
    let status = number("status_code").or_else(|| number("code")).or_else(|| number("status"));
    Told {
        message: message(error),
        code: field("code"),
        kind: field("type"),
        param: field("param"),
        status: status.filter(|s| (400..600).contains(s)),
    }
}

fn message(error: &Value) -> String {
    let detail = error.get("detail").or_else(|| error.get("message"));
    let words = match detail {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(list)) => {
            let each = |item: &Value| item.get("msg").or(Some(item)).map(json::arguments);
            list.iter().filter_map(each).collect::<Vec<_>>().join("; ")
        }
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    };
    // OpenRouter puts the words of the server behind it here.
    match error.pointer("/metadata/raw").and_then(Value::as_str) {
        Some(raw) if !raw.is_empty() => format!("{words}: {raw}"),
        _ if words.is_empty() => error.to_string(),
        _ => words,
    }
}

fn classed(status: u16, told: Told) -> ProviderError {
    let reason = reason(status, &told);
    let is_number = told.code.bytes().all(|b| b.is_ascii_digit());
    let code = if is_number && !told.kind.is_empty() { told.kind } else { told.code };
    let mut error = ProviderError::new(reason, told.message).with_code(code);
    if reason == Reason::ProviderRateLimited {
        error.retry_after = said(&error.message);
    }
    error
}

const BILLING: &[&str] = &[
    "insufficient_quota",
    "credit_balance_exhausted",
    "organization_spend_limit_exceeded",
    "project_spend_limit_exceeded",
    "organization_usage_limit_exceeded",
    "exceeded_current_quota_error",
    "billing_hard_limit_reached",
    "billing_not_active",
    "insufficient_balance",
];

const TOO_LONG: &[&str] = &["context_length_exceeded", "exceed_context_size_error", "context_window_exceeded"];

const TOO_LONG_WORDS: &[&str] = &[
    "maximum context length",
    "context length exceeded",
    "exceeds the context",
    "exceed context",
    "exceeds the available context",
    "context window",
    "input token length too long",
    "exceeded model token limit",
    "prompt is too long",
    "prompt too long",
    "too many tokens",
    "request too large",
    "max_new_tokens` must be",
    "too large for model",
];

const FILTERED: &[&str] = &["content_filter", "content_policy_violation", "moderation_blocked"];

const NO_MODEL: &[&str] = &["model_not_found", "invalid_model", "model_decommissioned"];

const NO_MODEL_WORDS: &[&str] = &[
    "does not exist",
    "model not exist",
    "model not found",
    "not found the model",
    "not a valid model",
    "invalid model",
    "unable to access model",
];

const AUTH: &[&str] =
    &["invalid_api_key", "invalid_authentication_error", "incorrect_api_key_error", "authentication_error"];

const LIMITED: &[&str] =
    &["rate_limit_exceeded", "slow_down", "rate_limit_error", "rate_limit_reached_error", "too_many_requests"];

const SERVER: &[&str] = &[
    "server_error",
    "server_is_overloaded",
    "service_unavailable_error",
    "unavailable_error",
    "internal_server_error",
    "overloaded_error",
    "engine_overloaded_error",
];

/// By code and type first, then by words, then by status: a status says too little (a 429 may be a bill).
fn reason(status: u16, told: &Told) -> Reason {
    let message = told.message.to_lowercase();
    let named = |names: &[&str]| names.iter().any(|n| told.code == *n || told.kind == *n);
    let says = |words: &[&str]| words.iter().any(|w| message.contains(w));
    let status = if status == 0 { told.status.unwrap_or(0) } else { status };
    let refused = status == 0 || (400..500).contains(&status);
    let long_field = told.code == "string_above_max_length"
        && (told.param.starts_with("messages") || told.param.starts_with("input"));
    if named(BILLING) || status == 402 || (refused && says(&["insufficient balance", "exceeded your current quota"])) {
        return Reason::ProviderBilling;
    }
    if named(TOO_LONG) || long_field || (refused && status != 401 && says(TOO_LONG_WORDS)) {
        return Reason::ContextTooLong;
    }
    if named(FILTERED)
        || (refused
            && says(&["content management policy", "flagged for moderation", "was flagged", "content exists risk"]))
    {
        return Reason::ContentFiltered;
    }
    if named(AUTH) {
        return Reason::ProviderAuth;
    }
    let names_model = message.contains("model") && says(NO_MODEL_WORDS);
    let no_model = matches!(status, 400 | 404) && (names_model || says(&["no endpoints found"]));
    if named(NO_MODEL) || no_model {
        return Reason::UnknownModel;
    }
    if told.code == "tool_use_failed" {
        // The model wrote a call that is none.
        return Reason::MalformedOutput;
    }
    match status {
        0 if named(LIMITED) => Reason::ProviderRateLimited,
        0 if told.kind == "invalid_request_error" && !named(SERVER) => Reason::ProviderRejected,
        0 => Reason::ProviderError,
        status => http::reason_of_status(status),
    }
}

/// When the limit that was met resets. Resets are durations; which of the two was met is told by the error, else by
/// what remains, else the nearer one is taken.
fn reset(header: Header<'_>, error: &ProviderError) -> Option<Duration> {
    let of = |what: &str| header(&format!("x-ratelimit-reset-{what}")).as_deref().and_then(http::go_duration);
    let spent = |what: &str| header(&format!("x-ratelimit-remaining-{what}")).is_some_and(|left| left.trim() == "0");
    let (requests, tokens) = (of("requests"), of("tokens"));
    match error.code.as_str() {
        "requests" => return requests,
        "tokens" => return tokens,
        _ => {}
    }
    match (spent("requests"), spent("tokens")) {
        (true, true) => requests.max(tokens),
        (true, false) => requests,
        (false, true) => tokens,
        (false, false) => [requests, tokens].into_iter().flatten().min(),
    }
}

/// The wait in "Please try again in 1.2s."
fn said(message: &str) -> Option<Duration> {
    let (_, after) = message.split_once("try again in ")?;
    let word = after.split_whitespace().next()?;
    http::go_duration(word.trim_end_matches(['.', ',', '!', ';']))
}
