//! Gemini's error bodies: google.rpc.Status as JSON.

use serde_json::{Value, json};

use crate::problem::{ErrorKind, Problem, Rendered};

pub(crate) const NO_KEY: &str = "Method doesn't allow unregistered callers (callers without \
    established identity). Please use API Key or other form of API consumer identity to call \
    this API.";

/// The `status` word of an HTTP status.
fn word(status: u16, kind: ErrorKind) -> &'static str {
    match status {
        _ if kind == ErrorKind::Billing => "FAILED_PRECONDITION",
        400 | 413 => "INVALID_ARGUMENT",
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        409 => "ABORTED",
        429 => "RESOURCE_EXHAUSTED",
        499 => "CANCELLED",
        503 | 529 => "UNAVAILABLE",
        504 | 408 => "DEADLINE_EXCEEDED",
        _ => "INTERNAL",
    }
}

fn usual(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Auth => "API key not valid. Please pass a valid API key.",
        ErrorKind::Permission => "Permission denied.",
        ErrorKind::Billing => "Billing is not enabled for this project.",
        ErrorKind::Quota | ErrorKind::RateLimit => {
            "You exceeded your current quota, please check \
            your plan and billing details."
        }
        ErrorKind::Context => {
            "The input token count (1200000) exceeds the maximum number of \
            tokens allowed (1048576)."
        }
        ErrorKind::ContentPolicy => "The request was blocked by a policy.",
        ErrorKind::NotFound => "Requested entity was not found.",
        ErrorKind::Invalid => "Request contains an invalid argument.",
        ErrorKind::TooLarge => "Request payload size exceeds the limit: 20971520 bytes.",
        ErrorKind::Server => {
            "An internal error has occurred. Please retry or report in \
            https://developers.generativeai.google/guide/troubleshooting"
        }
        ErrorKind::Overloaded => "The model is overloaded. Please try again later.",
        ErrorKind::Timeout => "Deadline expired before operation could complete.",
    }
}

fn details(problem: &Problem) -> Vec<Value> {
    let mut details = Vec::new();
    let quota = match problem.kind {
        ErrorKind::Quota => Some("GenerateRequestsPerDayPerProjectPerModel-FreeTier"),
        ErrorKind::RateLimit => Some("GenerateRequestsPerMinutePerProjectPerModel"),
        _ => None,
    };
    if let Some(id) = quota {
        details.push(json!({"@type": "type.googleapis.com/google.rpc.QuotaFailure",
            "violations": [{"quotaId": id, "quotaMetric":
                "generativelanguage.googleapis.com/generate_requests", "quotaValue": "10"}]}));
    }
    let delay = problem.retry_after.or((problem.kind == ErrorKind::RateLimit).then_some(1.0));
    if let Some(seconds) = delay {
        details.push(json!({"@type": "type.googleapis.com/google.rpc.RetryInfo",
            "retryDelay": format!("{seconds}s")}));
    }
    if problem.kind == ErrorKind::Auth {
        details.push(json!({"@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "API_KEY_INVALID", "domain": "googleapis.com",
            "metadata": {"service": "generativelanguage.googleapis.com"}}));
    }
    if let Some(field) = &problem.param {
        details.push(json!({"@type": "type.googleapis.com/google.rpc.BadRequest",
            "fieldViolations": [{"field": field, "description": problem.message}]}));
    }
    details
}

pub(crate) fn body(problem: &Problem) -> Value {
    let message = problem.message_or(usual(problem.kind));
    let mut error = json!({"code": problem.status, "message": message,
        "status": word(problem.status, problem.kind)});
    let details = details(problem);
    if !details.is_empty() {
        error["details"] = Value::Array(details);
    }
    json!({"error": error})
}

/// The response; a list's error is a list too.
pub(crate) fn render(problem: &Problem, as_list: bool) -> Rendered {
    let body = body(problem);
    Rendered { headers: Vec::new(), body: if as_list { json!([body]) } else { body } }
}
