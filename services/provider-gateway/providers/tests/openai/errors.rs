//! Every error of the formats document has its class.

use std::time::Duration;

use serde_json::{Value, json};
use tutti_error::Reason as R;
use tutti_providers::{Dialect, ProviderError};

use crate::support::speaking;

fn error(status: u16, headers: &[(&str, &str)], body: &[u8]) -> ProviderError {
    let header = |name: &str| headers.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
    speaking(Dialect::Compatible).error(status, &header, body)
}

fn classed(status: u16, body: &Value) -> R {
    error(status, &[], body.to_string().as_bytes()).reason
}

fn openai(code: &str, kind: &str, message: &str) -> Value {
    json!({"error": {"message": message, "type": kind, "param": null, "code": code}})
}

#[test]
fn errors_of_openai() {
    let invalid = "invalid_request_error";
    let table = [
        (400, "context_length_exceeded", invalid, R::ContextTooLong),
        (400, "unsupported_parameter", invalid, R::ProviderRejected),
        (400, "unsupported_value", invalid, R::ProviderRejected),
        (400, "invalid_value", invalid, R::ProviderRejected),
        (400, "content_policy_violation", invalid, R::ContentFiltered),
        (400, "content_filter", invalid, R::ContentFiltered),
        (401, "invalid_api_key", invalid, R::ProviderAuth),
        (403, "unsupported_country_region_territory", "request_forbidden", R::ProviderAuth),
        (404, "model_not_found", invalid, R::UnknownModel),
        (408, "", "", R::ProviderError),
        (409, "", "", R::ProviderError),
        (500, "", "server_error", R::ProviderError),
        (502, "", "", R::ProviderError),
        (503, "server_is_overloaded", "service_unavailable_error", R::ProviderError),
        (429, "rate_limit_exceeded", "requests", R::ProviderRateLimited),
        (429, "rate_limit_exceeded", "tokens", R::ProviderRateLimited),
        (429, "slow_down", "rate_limit_error", R::ProviderRateLimited),
        (413, "", "", R::ContextTooLong),
        (422, "", "", R::ProviderRejected),
    ];
    for (status, code, kind, reason) in table {
        assert_eq!(classed(status, &openai(code, kind, "words")), reason, "{status} {code} {kind}");
    }
}

#[test]
fn trap_14_billing_is_told_by_code_not_by_status() {
    for code in [
        "insufficient_quota",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
    ] {
        let error = error(429, &[], openai(code, "insufficient_quota", "words").to_string().as_bytes());
        assert_eq!((error.reason, error.is_retryable(), error.code.as_str()), (R::ProviderBilling, false, code));
    }
    let kimi = json!({"error": {"type": "exceeded_current_quota_error", "message": "words"}});
    assert_eq!((classed(429, &kimi), classed(403, &kimi)), (R::ProviderBilling, R::ProviderBilling));
    assert_eq!(classed(402, &json!({"error": {"message": "Insufficient Balance"}})), R::ProviderBilling);
    assert_eq!(classed(402, &json!({"error": {"message": "no credit", "code": 402}})), R::ProviderBilling);
}

#[test]
fn a_request_larger_than_the_whole_limit_is_too_long_not_limited() {
    let words = "Request too large for zed-1 on tokens per min (TPM): Limit 30000, Requested 40000.";
    assert_eq!(classed(429, &openai("rate_limit_exceeded", "tokens", words)), R::ContextTooLong);
}

#[test]
fn too_long_in_everyones_words() {
    let table = [
        (400, json!({"error": {"type": "invalid_request_error", "message": "Input token length too long"}})),
        (400, json!({"error": {"message": "Your request exceeded model token limit : 262144"}})),
        (
            400,
            json!({"object": "error", "message": "This model's maximum context length is 10 tokens. However, you requested 12", "type": "BadRequestError", "code": 400}),
        ),
        (
            400,
            json!({"error": {"message": "This model's maximum context length is 10 tokens.", "type": "BadRequestError", "code": 400}}),
        ),
        (
            400,
            json!({"error": {"code": 400, "message": "the request exceeds the available context size", "type": "exceed_context_size_error", "n_prompt_tokens": 9, "n_ctx": 8}}),
        ),
        (
            403,
            json!({"error": {"message": "`inputs` tokens + `max_new_tokens` must be <= 4097", "type": "invalid_request_error"}}),
        ),
        (413, json!({"error": {"message": "too large"}})),
    ];
    for (status, body) in table {
        assert_eq!(classed(status, &body), R::ContextTooLong, "{body}");
    }
}

#[test]
fn errors_of_the_dialects() {
    let table = [
        (400, json!({"error": {"type": "content_filter", "message": "high risk"}}), R::ContentFiltered),
        (401, json!({"error": {"type": "incorrect_api_key_error", "message": "no"}}), R::ProviderAuth),
        (429, json!({"error": {"type": "engine_overloaded_error", "message": "busy"}}), R::ProviderRateLimited),
        (429, json!({"error": {"type": "rate_limit_reached_error", "message": "slow"}}), R::ProviderRateLimited),
        (422, json!({"error": {"message": "invalid parameters"}}), R::ProviderRejected),
        (503, json!({"error": {"message": "overloaded"}}), R::ProviderError),
        (
            400,
            json!({"object": "error", "message": "Tool call id was x", "type": "invalid_request_error", "code": 3280}),
            R::ProviderRejected,
        ),
        (422, json!({"detail": [{"loc": ["body", "x"], "msg": "Extra inputs"}]}), R::ProviderRejected),
        (
            400,
            json!({"object": "error", "message": "Invalid model: x", "type": "invalid_model", "code": 1500}),
            R::UnknownModel,
        ),
        (404, json!({"object": "error", "message": "The model `x` does not exist.", "code": 404}), R::UnknownModel),
        (404, json!({"detail": "Not Found"}), R::ProviderRejected),
        (400, json!({"error": {"message": "failed", "code": "tool_use_failed"}}), R::MalformedOutput),
        (498, json!({"error": {"message": "capacity"}}), R::ProviderError),
        (
            503,
            json!({"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}),
            R::ProviderError,
        ),
        (
            502,
            json!({"error": {"code": 502, "message": "Provider returned error", "metadata": {"raw": "boom"}}}),
            R::ProviderError,
        ),
        (500, json!({"error": "broken"}), R::ProviderError),
        (
            400,
            json!({"error": {"message": "Content Exists Risk", "type": "invalid_request_error"}}),
            R::ContentFiltered,
        ),
        (404, json!({"error": {"message": "No endpoints found for maker/x.", "code": 404}}), R::UnknownModel),
        (403, json!({"error": {"message": "Your input was flagged", "code": 403}}), R::ContentFiltered),
        (
            429,
            json!([{"error": {"code": 429, "message": "quota", "status": "RESOURCE_EXHAUSTED"}}]),
            R::ProviderRateLimited,
        ),
    ];
    for (status, body, reason) in table {
        assert_eq!(classed(status, &body), reason, "{status} {body}");
    }
}

#[test]
fn words_and_codes_are_kept() {
    let detail = error(422, &[], br#"{"detail":[{"msg":"Extra inputs"},{"msg":"Missing"}]}"#);
    assert_eq!((detail.message.as_str(), detail.http_status), ("Extra inputs; Missing", 422));
    let llama = error(503, &[], br#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#);
    assert_eq!((llama.message.as_str(), llama.code.as_str()), ("Loading model", "unavailable_error"));
    let routed = error(502, &[], br#"{"error":{"code":502,"message":"Provider error","metadata":{"raw":"boom"}}}"#);
    assert_eq!((routed.message.as_str(), routed.code.as_str()), ("Provider error: boom", "502"));
    assert_eq!(error(500, &[], br#"{"error":"broken"}"#).message, "broken");
}

#[test]
fn bodies_that_are_no_json_are_classed_by_status() {
    let table: [(u16, &[u8], R, &str); 4] = [
        (502, b"<html>Bad gateway</html>", R::ProviderError, "HTTP status 502"),
        (503, b"", R::ProviderError, "HTTP status 503"),
        (429, b"slow down, please", R::ProviderRateLimited, "slow down, please"),
        (401, b"\xff\xfe", R::ProviderAuth, "\u{fffd}\u{fffd}"),
    ];
    for (status, body, reason, message) in table {
        let error = error(status, &[], body);
        assert_eq!((error.reason, error.message.as_str()), (reason, message));
    }
}

#[test]
fn a_key_that_is_repeated_back_is_masked() {
    let body = openai("invalid_api_key", "", "Incorrect API key provided: sk-proj-abc123def456ghi789.");
    let error = error(401, &[], body.to_string().as_bytes());
    assert!(!error.message.contains("abc123"), "{}", error.message);
}

#[test]
fn waits_are_read_from_every_header() {
    let limited = openai("rate_limit_exceeded", "", "words").to_string();
    let after = |status, headers: &[(&str, &str)]| error(status, headers, limited.as_bytes()).retry_after;
    let seconds = |s: f64| Some(Duration::from_secs_f64(s));
    assert_eq!(after(429, &[("retry-after-ms", "250"), ("retry-after", "9")]), seconds(0.25));
    assert_eq!(after(503, &[("retry-after", "9")]), seconds(9.0));
    let date = [("retry-after", "Fri, 20 Nov 2026 12:01:30 GMT"), ("date", "Fri, 20 Nov 2026 12:00:00 GMT")];
    assert_eq!(after(429, &date), seconds(90.0));
    assert_eq!(after(429, &[("x-ratelimit-reset-requests", "6m0s")]), seconds(360.0));
    let both = [("x-ratelimit-reset-requests", "2m"), ("x-ratelimit-reset-tokens", "17ms")];
    assert_eq!(after(429, &both), seconds(0.017));
    let spent = [both[0], both[1], ("x-ratelimit-remaining-requests", "0")];
    assert_eq!(after(429, &spent), seconds(120.0));
}

#[test]
fn resets_are_no_waits_for_other_errors() {
    let reset = [("x-ratelimit-reset-requests", "6m0s")];
    assert_eq!(error(503, &reset, b"{}").retry_after, None);
    let billed = openai("insufficient_quota", "insufficient_quota", "words").to_string();
    assert_eq!(error(429, &reset, billed.as_bytes()).retry_after, None);
}

#[test]
fn a_wait_in_words_is_read() {
    let body =
        openai("rate_limit_exceeded", "", "Rate limit reached. Please try again in 1m2.5s. Visit us.").to_string();
    assert_eq!(error(429, &[], body.as_bytes()).retry_after, Some(Duration::from_millis(62_500)));
}

#[test]
fn trap_13_errors_inside_a_whole_200_answer_are_errors() {
    let table = [
        (json!({"error": {"message": "m", "code": "insufficient_quota"}}), R::ProviderBilling),
        (json!({"error": {"message": "m", "code": 429}}), R::ProviderRateLimited),
        (json!({"error": {"message": "m", "code": "429"}, "choices": []}), R::ProviderRateLimited),
        (json!({"error": "words"}), R::ProviderError),
        (json!([{"error": {"message": "m", "code": 401}}]), R::ProviderAuth),
        (json!({"object": "error", "message": "m", "code": 400}), R::ProviderRejected),
        (json!({"choices": [{"error": {"code": 502, "message": "m"}}]}), R::ProviderError),
        (json!({"error": {"message": "m", "type": "invalid_request_error"}}), R::ProviderRejected),
        (json!({"error": {"message": "This model's maximum context length is 8 tokens"}}), R::ContextTooLong),
        (json!({"choices": []}), R::EmptyOutput),
        (json!({}), R::EmptyOutput),
    ];
    for (body, reason) in table {
        let target = crate::support::target("m");
        let error = speaking(Dialect::Compatible).completion(body.to_string().as_bytes(), &target).unwrap_err();
        assert_eq!((error.reason, error.http_status), (reason, 0), "{body}");
    }
    let fine = json!({"error": null, "choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]});
    let target = crate::support::target("m");
    assert_eq!(speaking(Dialect::Compatible).completion(fine.to_string().as_bytes(), &target).unwrap().text(), "Hi");
}
