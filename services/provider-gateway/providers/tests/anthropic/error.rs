use std::time::Duration;

use tutti_error::Reason;

use super::{adapter, fixture};

const NO_HEADER: fn(&str) -> Option<String> = |_| None;

/// §2.4: decided by type and code, not by status alone.
#[test]
fn trap_14_every_failure_has_its_class() {
    for (name, reason, retryable) in [
        ("400_prompt_too_long", Reason::ContextTooLong, false),
        ("400_spend_limit", Reason::ProviderBilling, false),
        ("400_credit", Reason::ProviderBilling, false),
        ("400_extra_inputs", Reason::ProviderRejected, false),
        ("400_filter", Reason::ContentFiltered, false),
        ("401_key", Reason::ProviderAuth, false),
        ("402_billing", Reason::ProviderBilling, false),
        ("403_permission", Reason::ProviderAuth, false),
        ("404_model", Reason::UnknownModel, false),
        ("409_conflict", Reason::ProviderRejected, false),
        ("413_too_large", Reason::MessageTooLarge, false),
        ("429_rate", Reason::ProviderRateLimited, true),
        ("429_enforced_spend", Reason::ProviderBilling, false),
        ("429_contract_spend", Reason::ProviderBilling, false),
        ("500_api", Reason::ProviderError, true),
        ("504_timeout", Reason::ProviderError, true),
        ("529_overloaded", Reason::ProviderError, true),
    ] {
        let status: u16 = name[..3].parse().unwrap();
        let error = adapter().error(status, &NO_HEADER, &fixture(&format!("{name}.error.json")));
        assert_eq!((error.reason, error.is_retryable(), error.http_status), (reason, retryable, status), "{name}");
        assert!(!error.code.is_empty() && !error.message.is_empty(), "{name}");
        assert_eq!(error.retry_after, None, "{name}");
    }
}

#[test]
fn the_code_is_the_most_exact_one() {
    let code = |name: &str| adapter().error(429, &NO_HEADER, &fixture(&format!("{name}.error.json"))).code;
    assert_eq!(code("429_rate"), "rate_limit_error");
    assert_eq!(code("429_contract_spend"), "contract_spend_limit_reached");
}

#[test]
fn the_wait_is_read_from_seconds_and_dates() {
    let rate = fixture("429_rate.error.json");
    let seconds = |name: &str| (name == "retry-after").then(|| "17".to_owned());
    assert_eq!(adapter().error(429, &seconds, &rate).retry_after, Some(Duration::from_secs(17)));
    let date = |name: &str| match name {
        "retry-after" => Some("Fri, 20 Nov 2026 12:00:40 GMT".to_owned()),
        "date" => Some("Fri, 20 Nov 2026 12:00:00 GMT".to_owned()),
        _ => None,
    };
    assert_eq!(adapter().error(429, &date, &rate).retry_after, Some(Duration::from_secs(40)));
}

#[test]
fn a_body_that_says_nothing_is_classed_by_status() {
    for (status, reason) in [
        (401, Reason::ProviderAuth),
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
