//! Spans to an OTLP collector, in batches, from a thread of their own.

use std::time::Duration;

use opentelemetry::{KeyValue, trace::TracerProvider as _};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider},
};
use tracing::Subscriber;
use tracing_opentelemetry::OpenTelemetryLayer;
use tracing_subscriber::registry::LookupSpan;

use crate::TraceOptions;

/// For one batch.
const TIMEOUT: Duration = Duration::from_secs(5);
/// A batch waits at most this long to become full.
const DELAY: Duration = Duration::from_secs(1);
/// Spans of one batch.
const BATCH: usize = 512;

pub(crate) fn provider(options: &TraceOptions) -> Result<SdkTracerProvider, String> {
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(&options.endpoint)
        .with_timeout(TIMEOUT)
        .build()
        .map_err(|error| format!("spans can't be sent to {}: {error}", options.endpoint))?;
    // What doesn't fit is dropped and counted in a warning: a collector that is away costs no caller anything.
    let bounds = BatchConfigBuilder::default()
        .with_max_queue_size(options.queue)
        .with_max_export_batch_size(BATCH.min(options.queue))
        .with_scheduled_delay(DELAY)
        .build();
    let processor = BatchSpanProcessor::builder(exporter).with_batch_config(bounds).build();
    let resource = Resource::builder()
        .with_service_name(options.service_name.clone())
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    Ok(SdkTracerProvider::builder()
        .with_span_processor(processor)
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(options.sample_ratio))))
        .with_resource(resource)
        .build())
}

/// Makes the spans. Nothing of our own source (lines, threads, targets) goes into them.
pub(crate) fn layer<S>(provider: &SdkTracerProvider) -> OpenTelemetryLayer<S, SdkTracer>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("tutti"))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        .with_context_activation(false)
}
