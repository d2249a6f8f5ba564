//! What nobody wants is not made. In a process of its own: what callsites know of filters is shared by all threads.
#![cfg(test)]

use tutti_telemetry::{LogFormat, Options, server, start};

#[test]
fn spans_of_libraries_are_off_for_good() {
    let options = Options { log_level: "info".into(), log_format: LogFormat::Text, traces: None };
    let _telemetry = start(&options).unwrap();
    // Not `is_none`: with the feature `log` of tracing, a span that is off still knows its name.
    assert!(tracing::debug_span!(target: "h2", "Connection").is_disabled());
    assert!(tracing::trace_span!(target: "hyper", "frame").is_disabled());
    assert!(!server("a.B/C", None, None).is_disabled());
}
