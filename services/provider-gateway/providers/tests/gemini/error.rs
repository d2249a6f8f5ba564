use std::time::Duration;

use tutti_error::Reason;

use super::{adapter, fixture};

const NO_HEADER: fn(&str) -> Option<String> = |_| None;

/// §3.4: decided by what is said, not by status alone.
#[test]
fn trap_14_every_failure_has_its_class() {
    let wait = |seconds: f64| Some(Duration::from_secs_f64(seconds));
    for (name, reason, retryable, retry_after) in [
        ("400_api_key", Reason::ProviderAuth, false, None),
        ("400_context", Reason::ContextTooLong, false, None),
        ("400_signature", Reason::ProviderRejected, false, None),
        ("400_location", Reason::ProviderRejected, false, None),
        ("400_billing", Reason::ProviderBilling, false, None),
        ("400_payload", Reason::MessageTooLarge, false, None),
        ("402_money", Reason::ProviderBilling, false, None),
        ("403_denied", Reason::ProviderAuth, false, None),
        ("404_model", Reason::UnknownModel, false, None),
        ("429_per_minute", Reason::ProviderRateLimited, true, wait(34.4)),
        ("429_per_day", Reason::ProviderBilling, false, wait(37_025.5)),
        ("429_limit_zero", Reason::ProviderBilling, false, wait(5.0)),
        ("499_cancelled", Reason::ProviderError, true, None),
        ("500_internal", Reason::ProviderError, true, None),
        ("503_unavailable", Reason::ProviderError, true, None),
        ("503_in_array", Reason::ProviderError, true, None),
        ("504_deadline", Reason::ProviderError, true, None),
    ] {
        let status: u16 = name[..3].parse().unwrap();
        let error = adapter().error(status, &NO_HEADER, &fixture(&format!("{name}.error.json")));
        assert_eq!((error.reason, error.is_retryable(), error.http_status), (reason, retryable, status), "{name}");
        assert_eq!(error.retry_after, retry_after, "{name}");
        assert!(!error.code.is_empty() && !error.message.is_empty(), "{name}");
    }
}

#[test]
fn a_header_says_better_when_to_come_back() {
    let header = |name: &str| (name == "retry-after").then(|| "3".to_owned());
    let error = adapter().error(429, &header, &fixture("429_per_minute.error.json"));
    assert_eq!(error.retry_after, Some(Duration::from_secs(3)));
}

#[test]
fn only_a_limit_of_zero_is_one() {
    for (words, reason) in [
        ("limit: 0", Reason::ProviderBilling),
        ("limit: 0, model: x", Reason::ProviderBilling),
        ("limit: 05", Reason::ProviderRateLimited),
        ("limit: 0.5", Reason::ProviderRateLimited),
        ("limit: 10", Reason::ProviderRateLimited),
    ] {
        let body = format!("{{\"error\":{{\"code\":429,\"status\":\"RESOURCE_EXHAUSTED\",\"message\":\"{words}\"}}}}");
        assert_eq!(adapter().error(429, &NO_HEADER, body.as_bytes()).reason, reason, "{words}");
    }
}

#[test]
fn a_body_that_says_nothing_is_classed_by_status() {
    for (status, reason) in [
        (401, Reason::ProviderAuth),
        (402, Reason::ProviderBilling),
        (413, Reason::MessageTooLarge),
        (429, Reason::ProviderRateLimited),
        (502, Reason::ProviderError),
        (418, Reason::ProviderRejected),
    ] {
        for body in [b"<html>Bad gateway</html>".as_slice(), b"", b"[]", b"{\"error\":null}"] {
            let error = adapter().error(status, &NO_HEADER, body);
            assert_eq!((error.reason, error.http_status), (reason, status));
            assert!(error.message.contains(&status.to_string()));
        }
    }
}
