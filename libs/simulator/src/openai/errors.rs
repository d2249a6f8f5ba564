//! OpenAI's error bodies and headers.

use serde_json::{Value, json};

use crate::digest;
use crate::problem::{ErrorKind, Problem, Rendered};

pub(crate) const NO_KEY: &str = "You didn't provide an API key. You need to provide your API key \
    in an Authorization header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY), or as the \
    password field (with blank username) if you're accessing the API from your browser and are \
    prompted for a username and password.";

/// The type, code and usual message of a kind.
fn usual(kind: ErrorKind, status: u16) -> (&'static str, Option<&'static str>, &'static str) {
    const REQUEST: &str = "invalid_request_error";
    match kind {
        ErrorKind::Auth => (
            REQUEST,
            None,
            "Incorrect API key provided: invalid*****. You can find \
            your API key at https://platform.openai.com/account/api-keys.",
        ),
        ErrorKind::Permission => {
            (REQUEST, Some("unsupported_country_region_territory"), "Country, region, or territory not supported")
        }
        ErrorKind::Billing if status == 402 => ("unknown_error", Some("invalid_request_error"), "Insufficient Balance"),
        ErrorKind::Billing | ErrorKind::Quota => (
            "insufficient_quota",
            Some("insufficient_quota"),
            "You exceeded your current quota, please check your plan and billing details.",
        ),
        ErrorKind::RateLimit => {
            ("requests", Some("rate_limit_exceeded"), "Rate limit reached for requests. Please try again later.")
        }
        ErrorKind::Context => (
            REQUEST,
            Some("context_length_exceeded"),
            "This model's maximum context length is 128000 tokens. However, your messages \
             resulted in 200000 tokens. Please reduce the length of the messages.",
        ),
        ErrorKind::ContentPolicy => {
            (REQUEST, Some("content_policy_violation"), "Your request was rejected as a result of our safety system.")
        }
        ErrorKind::NotFound => (REQUEST, Some("model_not_found"), "The model does not exist."),
        ErrorKind::Invalid => (REQUEST, None, "Invalid request."),
        ErrorKind::TooLarge => (REQUEST, None, "The request body is too large."),
        ErrorKind::Server => {
            ("server_error", None, "The server had an error while processing your request. Sorry about that!")
        }
        ErrorKind::Overloaded => (
            "service_unavailable_error",
            Some("server_is_overloaded"),
            "The engine is currently overloaded, please try again later.",
        ),
        ErrorKind::Timeout => ("server_error", Some("timeout"), "The request timed out."),
    }
}

pub(crate) fn body(problem: &Problem) -> Value {
    let (kind, code, message) = usual(problem.kind, problem.status);
    let code = problem.code.as_deref().or(code);
    json!({"error": {"message": problem.message_or(message), "type": kind,
        "param": problem.param, "code": code}})
}

pub(crate) fn headers(seq: u64) -> Vec<(&'static str, String)> {
    vec![
        ("x-request-id", format!("req_{}", digest::token(seq, 32).to_lowercase())),
        ("openai-processing-ms", "1".into()),
        ("openai-version", "2020-10-01".into()),
        ("x-ratelimit-limit-requests", "10000".into()),
        ("x-ratelimit-limit-tokens", "2000000".into()),
        ("x-ratelimit-remaining-requests", "9999".into()),
        ("x-ratelimit-remaining-tokens", "1999000".into()),
        ("x-ratelimit-reset-requests", "6ms".into()),
        ("x-ratelimit-reset-tokens", "30ms".into()),
    ]
}

pub(crate) fn render(problem: &Problem, seq: u64) -> Rendered {
    let mut headers = headers(seq);
    if problem.kind == ErrorKind::RateLimit {
        headers.retain(|(name, _)| !name.starts_with("x-ratelimit-re"));
        let seconds = problem.retry_after.unwrap_or(1.0);
        headers.push(("x-ratelimit-remaining-requests", "0".into()));
        headers.push(("x-ratelimit-reset-requests", format!("{seconds}s")));
    }
    if let Some(seconds) = problem.retry_after {
        // The real header counts whole seconds; the other one is exact.
        headers.push(("retry-after", format!("{}", seconds.ceil())));
        headers.push(("retry-after-ms", format!("{}", (seconds * 1000.0).round())));
    }
    Rendered { headers, body: body(problem) }
}
