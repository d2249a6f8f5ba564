//! Failures in OpenAI's form: status, body and what a client should do next.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderValue, Response, StatusCode, header},
};
use serde::Serialize;
use tutti_error::{Error, Reason};
use tutti_types::RequestId;

/// Some SDKs sleep for as long as they are told.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

#[derive(Serialize)]
struct Envelope<'a> {
    error: Failure<'a>,
}

#[derive(Serialize)]
struct Failure<'a> {
    message: &'a str,
    r#type: &'static str,
    param: Option<String>,
    code: String,
}

/// The failure of a call whose head was not sent yet.
pub(super) fn response(error: &Error, id: RequestId) -> Response<Body> {
    let mut response = Response::new(Body::from(json(error)));
    *response.status_mut() = status_of(error.reason());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    super::put(headers, "x-request-id", &id.to_string());
    // Clients that don't know better try again after every 408, 409, 429 and 5xx.
    let again = if may_retry(error) { "true" } else { "false" };
    headers.insert("x-should-retry", HeaderValue::from_static(again));
    if !error.attempted().is_empty() {
        super::put(headers, "x-tutti-attempts", &super::sent(error.attempted()).to_string());
    }
    if let Some(delay) = error.retry_delay() {
        let seconds = delay.min(MAX_RETRY_AFTER).as_secs_f64().ceil().max(1.0);
        super::put(headers, "retry-after", &seconds.to_string());
    }
    response
}

/// `{"error":{…}}`. What only the log may see goes there.
pub(super) fn json(error: &Error) -> Vec<u8> {
    let status = status_of(error.reason());
    if status == StatusCode::INTERNAL_SERVER_ERROR {
        tracing::error!(context = error.internal_context(), "{}", error.message());
    }
    let mut message = error.message().to_owned();
    for (field, why) in error.fields() {
        message.push_str(&format!("; {}: {why}", param_of(field)));
    }
    let body = Failure {
        message: &message,
        r#type: type_of(error.reason(), status),
        param: error.fields().first().map(|(field, _)| param_of(field)),
        code: code_of(error.reason()),
    };
    // Texts alone can't fail to be written.
    serde_json::to_vec(&Envelope { error: body }).unwrap_or_default()
}

/// Only what failed before any provider was asked, and may be over in a moment: whatever our own fallback has tried in
/// vain must not be tried again by every client.
fn may_retry(error: &Error) -> bool {
    use Reason as R;
    let passes = matches!(
        error.reason(),
        R::RateLimited
            | R::BackendRateLimited
            | R::CircuitOpen
            | R::Overloaded
            | R::StoreUnavailable
            | R::ServiceUnavailable
            | R::WorkspaceUnavailable
            | R::ShuttingDown
    );
    passes && super::sent(error.attempted()) == 0
}

/// The HTTP status of a reason: the table in the README.
fn status_of(reason: Reason) -> StatusCode {
    use Reason as R;
    match reason {
        R::InvalidRequest
        | R::ProviderRejected
        | R::ContextTooLong
        | R::ContentFiltered
        | R::InvalidToolArguments
        | R::Unsupported
        | R::ApprovalRequired
        | R::ToolDisabled => StatusCode::BAD_REQUEST,
        R::Unauthenticated => StatusCode::UNAUTHORIZED,
        R::PermissionDenied | R::PathOutsideWorkspace => StatusCode::FORBIDDEN,
        R::UnknownBackend
        | R::UnknownModel
        | R::UnknownPersona
        | R::UnknownSession
        | R::UnknownTool
        | R::UnknownRequest
        | R::UnknownAttempt
        | R::UnknownWorkspace => StatusCode::NOT_FOUND,
        R::IdempotencyConflict => StatusCode::CONFLICT,
        R::MessageTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        R::ToolRoundsExceeded | R::AttemptsExceeded => StatusCode::UNPROCESSABLE_ENTITY,
        R::BudgetExceeded | R::RateLimited | R::BackendRateLimited | R::ProviderRateLimited => {
            StatusCode::TOO_MANY_REQUESTS
        }
        // Widely used for a caller who went away; hardly anybody sees it.
        R::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        R::AllBackendsFailed
        | R::ProviderAuth
        | R::ProviderBilling
        | R::ProviderError
        | R::ConnectionFailed
        | R::Truncated
        | R::MalformedOutput
        | R::EmptyOutput => StatusCode::BAD_GATEWAY,
        R::Overloaded
        | R::CircuitOpen
        | R::BackendNotUsable
        | R::StoreUnavailable
        | R::ServiceUnavailable
        | R::WorkspaceUnavailable
        | R::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
        R::DeadlineExceeded | R::ConnectTimeout | R::FirstTokenTimeout | R::IdleTimeout | R::TotalTimeout => {
            StatusCode::GATEWAY_TIMEOUT
        }
        R::Unspecified | R::ToolFailed | R::ToolTimeout | R::ToolOutputLimit | R::Internal => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

/// OpenAI's coarse kinds.
fn type_of(reason: Reason, status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        429 if reason == Reason::BudgetExceeded => "insufficient_quota",
        429 => "rate_limit_error",
        503 => "service_unavailable_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    }
}

/// Our stable reason in small letters.
fn code_of(reason: Reason) -> String {
    reason.as_str_name().trim_start_matches("ERROR_REASON_").to_ascii_lowercase()
}

/// A field of our own request under the name that it has in OpenAI's.
fn param_of(field: &str) -> String {
    const NAMES: [(&str, &str); 15] = [
        ("sampling.max_output_tokens", "max_completion_tokens"),
        ("sampling.", ""),
        ("response_format.schema_json", "response_format.json_schema.schema"),
        ("tool_choice.mode", "tool_choice"),
        ("tool_choice.tool_name", "tool_choice.function.name"),
        (".arguments_json", ".function.arguments"),
        (".parameters_json", ".function.parameters"),
        (".parts[", ".content["),
        (".text", ".content"),
        ("inputs", "input"),
        ("attribution.tags", "user"),
        ("session_id", "x-tutti-session"),
        ("task_type", "x-tutti-task"),
        ("mesh_tools", "x-tutti-mesh-tools"),
        ("idempotency_key", "x-tutti-idempotency-key"),
    ];
    let mut name = field.to_owned();
    for (ours, theirs) in NAMES {
        if name.contains(ours) {
            name = name.replacen(ours, theirs, 1);
        }
    }
    if name.starts_with("tools[") && name.ends_with("].name") {
        name = name.replace("].name", "].function.name");
    }
    name
}

#[cfg(test)]
mod tests {
    use tutti_proto::llm::v1::{Attempt, AttemptOutcome};

    use super::*;

    fn header(error: &Error, name: &str) -> Option<String> {
        let response = response(error, RequestId::generate());
        response.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_body_has_openais_form_and_our_reason() {
        let error = Error::invalid("sampling.temperature", "must be between 0 and 2");
        let body: serde_json::Value = serde_json::from_slice(&json(&error)).unwrap();
        let expected = serde_json::json!({"error": {
            "message": "the request is not valid; temperature: must be between 0 and 2",
            "type": "invalid_request_error", "param": "temperature", "code": "invalid_request"
        }});
        assert_eq!(body, expected);
    }

    #[test]
    fn fields_have_openais_names() {
        for (ours, theirs) in [
            ("messages[0].parts[1].image.url", "messages[0].content[1].image.url"),
            ("messages[3].text", "messages[3].content"),
            ("messages[1].tool_calls[0].arguments_json", "messages[1].tool_calls[0].function.arguments"),
            ("tools[2].name", "tools[2].function.name"),
            ("sampling.max_output_tokens", "max_completion_tokens"),
            ("inputs[4]", "input[4]"),
        ] {
            assert_eq!(param_of(ours), theirs);
        }
    }

    #[test]
    fn what_our_fallback_has_tried_in_vain_is_not_tried_again() {
        let attempt = Attempt { outcome: AttemptOutcome::Failed.into(), ..Default::default() };
        let spent = Error::new(Reason::ServiceUnavailable, "gone").attempts(vec![attempt]);
        assert_eq!(header(&spent, "x-should-retry").as_deref(), Some("false"));
        assert_eq!(header(&Error::new(Reason::Overloaded, "busy"), "x-should-retry").as_deref(), Some("true"));
        assert_eq!(header(&Error::new(Reason::BudgetExceeded, "no"), "x-should-retry").as_deref(), Some("false"));
    }

    #[test]
    fn nobody_is_told_to_wait_for_hours() {
        let limited = |delay| Error::new(Reason::RateLimited, "slow down").retry_after(delay);
        assert_eq!(header(&limited(Duration::from_secs(36_000)), "retry-after").as_deref(), Some("60"));
        assert_eq!(header(&limited(Duration::from_millis(1_200)), "retry-after").as_deref(), Some("2"));
        assert_eq!(header(&limited(Duration::ZERO), "retry-after").as_deref(), Some("1"));
    }
}
