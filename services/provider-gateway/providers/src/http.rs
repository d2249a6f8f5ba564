//! What HTTP itself says about a failure: status and headers.

use std::time::Duration;

use jiff::fmt::rfc2822;
use tutti_error::Reason;

/// Looks a header up by its lower-case name.
pub(crate) type Header<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The class of a status, where the body says no more.
pub(crate) fn reason_of_status(status: u16) -> Reason {
    match status {
        401 | 403 => Reason::ProviderAuth,
        402 => Reason::ProviderBilling,
        413 => Reason::ContextTooLong,
        429 => Reason::ProviderRateLimited,
        408 | 409 | 425 | 498 | 499 => Reason::ProviderError,
        400..=499 => Reason::ProviderRejected,
        _ => Reason::ProviderError,
    }
}

/// Words for a body that is no JSON: its beginning, unless it is a page of HTML or nothing.
pub(crate) fn plain_message(status: u16, body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(300)]);
    let text = text.trim();
    if text.is_empty() || text.starts_with('<') { format!("HTTP status {status}") } else { text.to_owned() }
}

/// The wait that `retry-after-ms` or `retry-after` (seconds or a date) asks for. A date is counted from the answer's
/// own `date` header, since an adapter has no clock. Zero, negative and broken values ask for nothing.
pub(crate) fn retry_after(header: Header<'_>) -> Option<Duration> {
    let millis = || number(&header("retry-after-ms")?).map(|ms| ms / 1000.0);
    let seconds = || number(&header("retry-after")?);
    millis().or_else(seconds).and_then(wait).or_else(|| until(&header("retry-after")?, &header("date")?))
}

fn number(text: &str) -> Option<f64> {
    text.trim().parse().ok()
}

/// A wait of so many seconds, if that is more than nothing and less than 100 years.
pub(crate) fn wait(seconds: f64) -> Option<Duration> {
    (seconds > 0.0 && seconds < 3e9).then(|| Duration::from_secs_f64(seconds))
}

fn until(date: &str, now: &str) -> Option<Duration> {
    let parse = |text: &str| rfc2822::DateTimeParser::new().parse_timestamp(text.trim()).ok();
    let gap = parse(date)?.duration_since(parse(now)?);
    wait(gap.as_secs_f64())
}

/// A duration as Go writes it: `6m0s`, `17ms`, `1.5s`, `1h2m3.5s`. Plain numbers are seconds.
pub(crate) fn go_duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    if let Some(seconds) = number(rest) {
        return wait(seconds);
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let value: f64 = rest[..digits].parse().ok()?;
        let tail = &rest[digits..];
        let letters = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let unit = match &tail[..letters] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1e-6,
            "ns" => 1e-9,
            "d" => 86_400.0,
            _ => return None,
        };
        total += value * unit;
        rest = &tail[letters..];
    }
    wait(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(headers: &[(&str, &str)]) -> Option<Duration> {
        let owned: Vec<(String, String)> = headers.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
        retry_after(&move |name| owned.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone()))
    }

    #[test]
    fn every_form_of_retry_after_is_read() {
        assert_eq!(after(&[("retry-after", "7")]), Some(Duration::from_secs(7)));
        assert_eq!(after(&[("retry-after", "0.5")]), Some(Duration::from_millis(500)));
        assert_eq!(after(&[("retry-after", "9"), ("retry-after-ms", "1500")]), Some(Duration::from_millis(1500)));
        let date = ("date", "Fri, 20 Nov 2026 12:00:00 GMT");
        let then = ("retry-after", "Fri, 20 Nov 2026 12:01:30 GMT");
        assert_eq!(after(&[then, date]), Some(Duration::from_secs(90)));
    }

    #[test]
    fn a_wait_that_is_none_is_not_invented() {
        let date = ("date", "Fri, 20 Nov 2026 12:00:00 GMT");
        assert_eq!(after(&[]), None);
        assert_eq!(after(&[("retry-after", "0")]), None);
        assert_eq!(after(&[("retry-after", "-3")]), None);
        assert_eq!(after(&[("retry-after", "soon")]), None);
        assert_eq!(after(&[("retry-after", "NaN")]), None);
        assert_eq!(after(&[("retry-after", "1e300")]), None);
        assert_eq!(after(&[("retry-after", "Fri, 20 Nov 2026 11:00:00 GMT"), date]), None);
        assert_eq!(after(&[("retry-after", "Fri, 20 Nov 2026 12:01:30 GMT")]), None);
    }

    #[test]
    fn go_durations_are_read() {
        assert_eq!(go_duration("6m0s"), Some(Duration::from_secs(360)));
        assert_eq!(go_duration("17ms"), Some(Duration::from_millis(17)));
        assert_eq!(go_duration("1.5s"), Some(Duration::from_millis(1500)));
        assert_eq!(go_duration("10h17m5.5s"), Some(Duration::from_secs_f64(37_025.5)));
        assert_eq!(go_duration("34.4s"), Some(Duration::from_secs_f64(34.4)));
        assert_eq!(go_duration("12"), Some(Duration::from_secs(12)));
        assert_eq!(go_duration("0s"), None);
        assert_eq!(go_duration("soon"), None);
        assert_eq!(go_duration("5"), Some(Duration::from_secs(5)));
    }
}
