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
use tracing_subscriber::{
    EnvFilter, Layer as _,
    filter::{LevelFilter, filter_fn},
    layer::SubscriberExt as _,
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
    // Spans of calls pass every filter: the lines inside are to have their ids, whatever the level.
    let calls = || filter_fn(|meta| meta.is_span() && meta.target() == trace::TARGET);
    let level = EnvFilter::try_new(&options.log_level).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = log::layer(options.log_format).with_filter(tracing_subscriber::filter::FilterExt::or(level, calls()));
    let spans = provider
        .as_ref()
        .map(|provider| otlp::layer(provider).with_filter(calls().with_max_level_hint(LevelFilter::ERROR)));
    // The only failure is a logger that is set already, by a test or an embedding program: theirs wins.
    if tracing_subscriber::registry().with(spans).with(lines).try_init().is_ok()
        && let Some(traces) = &options.traces
    {
        trace::export();
        content::capture(traces.capture_content, &traces.redact);
    }
    Ok(Telemetry { provider })
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
