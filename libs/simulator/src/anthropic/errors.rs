//! Anthropic's error bodies and headers.

use serde_json::{Value, json};

use crate::digest;
use crate::problem::{ErrorKind, Problem, Rendered};

/// The type and usual message of a kind.
fn usual(kind: ErrorKind) -> (&'static str, &'static str) {
    match kind {
        ErrorKind::Auth => ("authentication_error", "invalid x-api-key"),
        ErrorKind::Permission => {
            ("permission_error", "Your API key does not have permission to use the specified resource.")
        }
        ErrorKind::Billing => (
            "billing_error",
            "Your credit balance is too low to access the Anthropic API. Please go to Plans & \
             Billing to upgrade or purchase credits.",
        ),
        ErrorKind::Quota => ("rate_limit_error", "You have reached your specified API usage limits."),
        ErrorKind::RateLimit => {
            ("rate_limit_error", "This request would exceed your organization's rate limit. Please try again later.")
        }
        ErrorKind::Context => ("invalid_request_error", "prompt is too long: 1200000 tokens > 1000000 maximum"),
        ErrorKind::ContentPolicy => ("invalid_request_error", "Output blocked by content filtering policy"),
        ErrorKind::NotFound => ("not_found_error", "Not found"),
        ErrorKind::Invalid => ("invalid_request_error", "Invalid request"),
        ErrorKind::TooLarge => ("request_too_large", "Request exceeds the maximum size"),
        ErrorKind::Server => ("api_error", "Internal server error"),
        ErrorKind::Overloaded => ("overloaded_error", "Overloaded"),
        ErrorKind::Timeout => ("timeout_error", "Request timed out"),
    }
}

/// The error body; `request` is the id that the header names too.
pub(crate) fn body(problem: &Problem, request: Option<&str>) -> Value {
    let (kind, message) = usual(problem.kind);
    let mut error = json!({"type": kind, "message": problem.message_or(message)});
    let code = match problem.kind {
        ErrorKind::Quota => Some("enforced_spend_limit_reached"),
        _ => problem.code.as_deref(),
    };
    if let Some(code) = code {
        error["details"] = json!({"error_code": code});
    }
    let mut body = json!({"type": "error", "error": error});
    if let Some(request) = request {
        body["request_id"] = json!(request);
    }
    body
}

fn request_id(seq: u64) -> String {
    format!("req_sim{}", digest::token(seq, 21))
}

pub(crate) fn headers(seq: u64) -> Vec<(&'static str, String)> {
    let reset = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    vec![
        ("request-id", request_id(seq)),
        ("anthropic-organization-id", "00000000-0000-4000-8000-000000000000".into()),
        ("anthropic-ratelimit-requests-limit", "4000".into()),
        ("anthropic-ratelimit-requests-remaining", "3999".into()),
        ("anthropic-ratelimit-requests-reset", reset.clone()),
        ("anthropic-ratelimit-tokens-limit", "2000000".into()),
        ("anthropic-ratelimit-tokens-remaining", "1999000".into()),
        ("anthropic-ratelimit-tokens-reset", reset),
    ]
}

pub(crate) fn render(problem: &Problem, seq: u64) -> Rendered {
    let mut headers = headers(seq);
    // A spend limit names no time: waiting does not help.
    let waits = matches!(problem.kind, ErrorKind::RateLimit) || problem.retry_after.is_some();
    if waits && problem.kind != ErrorKind::Quota {
        let seconds = problem.retry_after.unwrap_or(1.0);
        headers.push(("retry-after", format!("{}", seconds.ceil())));
    }
    if problem.kind == ErrorKind::RateLimit {
        headers.push(("anthropic-ratelimit-requests-remaining", "0".into()));
    }
    Rendered { headers, body: body(problem, Some(&request_id(seq))) }
}
