//! What a process tells of itself: logs to standard error, traces over OTLP, metrics for Prometheus.
//!
//! [`start`] is called once by a process. Traces and metrics are off unless they are asked for, and then cost next to
//! nothing: a call has one span, which carries the ids that its log lines are found by.

mod content;
mod log;
mod metrics;
mod otlp;
mod readiness;
mod trace;

use std::time::Duration;

pub use content::{captures_content, redacted};
pub use log::LogFormat;
pub use metrics::{Metrics, Scrape};
pub use opentelemetry::{Array, StringValue, Value};
use opentelemetry_sdk::trace::SdkTracerProvider;
pub use readiness::{Changes, Readiness};
pub use trace::{Current, TraceContext, child, current, is_exporting, resume, server, set, set_error, set_request_id};
use tracing::{Metadata, Subscriber, subscriber::Interest};
use tracing_subscriber::{
    EnvFilter, Layer as _,
    filter::{FilterExt, LevelFilter, dynamic_filter_fn},
    layer::{Context, Filter, SubscriberExt as _},
    registry::LookupSpan,
    util::SubscriberInitExt as _,
};

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Options {
    /// A level (`info`) or a filter (`info,router=debug`); what can't be read falls back to `info`.
    pub log_level: String,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Where spans go; `None` makes none.
    pub traces: Option<TraceOptions>,
}

/// How calls are traced.
#[derive(Debug, Clone)]
pub struct TraceOptions {
    /// Address of an OTLP collector that takes gRPC, for instance `http://127.0.0.1:4317`.
    pub endpoint: String,
    /// The `service.name` of the process.
    pub service_name: String,
    /// Which part of the traces that begin here is kept, 0 to 1. Traces that came with a call follow their caller.
    pub sample_ratio: f64,
    /// Spans that may wait for the collector; more are dropped.
    pub queue: usize,
    /// Whether prompts and answers are put into spans.
    pub capture_content: bool,
    /// What is taken out of them before.
    pub redact: Vec<regex::Regex>,
}

/// What was started; ends with [`Telemetry::stop`].
#[derive(Debug)]
#[must_use]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

/// Starts logging and, if asked for, tracing, which needs a Tokio runtime around. A second call in the same process
/// changes nothing.
///
/// # Errors
/// In words, when spans can't be sent to the endpoint as it is written.
pub fn start(options: &Options) -> Result<Telemetry, String> {
    let provider = options.traces.as_ref().map(otlp::provider).transpose()?;
    // The only failure is a logger that is set already, by a test or an embedding program: theirs wins.
    if subscriber(options, provider.as_ref()).try_init().is_ok()
        && let Some(traces) = &options.traces
    {
        trace::export();
        content::capture(traces.capture_content, &traces.redact);
    }
    Ok(Telemetry { provider })
}

/// Log lines, and spans where there is a provider of them.
fn subscriber(
    options: &Options,
    provider: Option<&SdkTracerProvider>,
) -> impl Subscriber + for<'a> LookupSpan<'a> + Send + Sync + 'static {
    let level = EnvFilter::try_new(&options.log_level).unwrap_or_else(|_| EnvFilter::new("info"));
    // Spans of calls pass every filter: the lines inside are to have their ids, whatever the level.
    let lines = log::layer(options.log_format).with_filter(FilterExt::or(level, calls()));
    // The filter is around the option: a missing layer counts as one without a filter, and enables every span there is.
    let spans = provider.map(otlp::layer).with_filter(calls());
    tracing_subscriber::registry().with(spans).with(lines)
}

/// Spans of calls only. They are asked about each time although the answer is always the same: a filter of one layer keeps
/// what it said last about its thread, and after somebody has only asked (`log_enabled!`, as sqlx does for a statement) a
/// span that nobody asks about would get that stranger's answer, and be lost.
fn calls<S: Subscriber>() -> impl Filter<S> {
    let is_of_call = |meta: &Metadata<'_>| meta.is_span() && meta.target() == trace::TARGET;
    dynamic_filter_fn(move |meta: &Metadata<'_>, _: &Context<'_, S>| is_of_call(meta))
        .with_callsite_filter(move |meta| if is_of_call(meta) { Interest::sometimes() } else { Interest::never() })
        .with_max_level_hint(LevelFilter::ERROR)
}

impl Telemetry {
    /// Sends what waits, at most for `grace`.
    pub async fn stop(self, grace: Duration) {
        let Some(provider) = self.provider else { return };
        // Waits for the collector on a thread that may block, so that this runtime goes on sending.
        let flushed = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(grace)).await;
        if let Ok(Err(error)) = flushed {
            tracing::warn!(%error, "the last spans could not be sent");
        }
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TraceContextExt as _;
    use tracing::{
        Level,
        callsite::{Callsite, Identifier},
        field::FieldSet,
        metadata::Kind,
    };
    use tracing_opentelemetry::OpenTelemetrySpanExt as _;

    use super::*;

    /// A line of the kind that others only ask about.
    struct Statement;
    static STATEMENT: Statement = Statement;
    static LINE: Metadata<'static> = Metadata::new(
        "statement",
        "sqlx::query",
        Level::DEBUG,
        None,
        None,
        None,
        FieldSet::new(&[], Identifier(&STATEMENT)),
        Kind::EVENT,
    );

    impl Callsite for Statement {
        fn set_interest(&self, _: Interest) {}
        fn metadata(&self) -> &Metadata<'_> {
            &LINE
        }
    }

    #[test]
    fn a_line_that_is_only_asked_about_takes_no_span_away() {
        let provider = SdkTracerProvider::builder().build();
        let options = Options { log_level: "info".into(), log_format: LogFormat::Text, traces: None };
        tracing::subscriber::with_default(subscriber(&options, Some(&provider)), || {
            for _ in 0..3 {
                let _ = tracing::dispatcher::get_default(|current| current.enabled(&LINE));
                let span = server("a.B/C", None, None);
                // What is exported is told by the layer that exports.
                assert!(span.context().span().span_context().is_valid(), "the span of the call is lost");
            }
        });
    }
}
