//! `[telemetry]`.

use regex::Regex;

use crate::reader::Reader;
use crate::section::Section;

/// The variable that OpenTelemetry's own tools read.
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// Which traces are sent, and where.
#[derive(Clone, Debug)]
pub struct TelemetryConfig {
    /// An OTLP collector that takes gRPC, such as `http://127.0.0.1:4317`; without one there are no traces.
    pub otlp_endpoint: Option<String>,
    /// Which part of the traces that begin here is kept, 0 to 1.
    pub sample_ratio: f64,
    /// Spans that may wait for the collector; more are dropped.
    pub max_queued_spans: usize,
    /// Whether prompts, answers and arguments of tools are put into spans.
    pub capture_content: bool,
    /// What is taken out of them before.
    pub redact: Vec<Regex>,
}

impl TelemetryConfig {
    /// Reads `[telemetry]`; an endpoint that is not there is taken from `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub fn read(reader: &Reader) -> Self {
        let section = reader.section("telemetry");
        let config = Self {
            otlp_endpoint: endpoint(&section, reader),
            sample_ratio: section.float("sample_ratio", 1.0, 0.0..=1.0),
            max_queued_spans: section.integer("max_queued_spans", 2048, 1..=1_000_000),
            capture_content: section.bool("capture_content", false),
            redact: redact(&section),
        };
        section.finish();
        config
    }
}

fn endpoint(section: &Section<'_>, reader: &Reader) -> Option<String> {
    let written = section.opt_string("otlp_endpoint");
    let endpoint = written.or_else(|| reader.config().env().get(ENDPOINT).map(str::to_owned))?;
    // A collector beside the process does what is missing here, TLS and credentials.
    if !endpoint.starts_with("http://") {
        let found = format!("expected an address such as \"http://127.0.0.1:4317\", found {endpoint:?}");
        section.problem("otlp_endpoint", &found);
    }
    Some(endpoint)
}

fn redact(section: &Section<'_>) -> Vec<Regex> {
    let mut patterns = Vec::new();
    for (index, text) in section.string_list("redact", &[]).iter().enumerate() {
        match Regex::new(text) {
            Ok(pattern) => patterns.push(pattern),
            Err(error) => section.item_problem("redact", index, &format!("expected a regular expression: {error}")),
        }
    }
    patterns
}

#[cfg(test)]
mod tests {
    use super::TelemetryConfig;
    use crate::{env::Env, loader::Loader};

    fn read(variables: &[(&str, &str)]) -> (TelemetryConfig, Result<(), String>) {
        let config = Loader::new().env(Env::from_map(variables.iter().copied())).load().unwrap();
        let reader = config.reader();
        let read = TelemetryConfig::read(&reader);
        (read, reader.finish().map(drop).map_err(|problems| problems.to_string()))
    }

    #[test]
    fn there_are_no_traces_unless_somebody_takes_them() {
        let (config, problems) = read(&[]);
        assert_eq!((config.otlp_endpoint, config.capture_content, problems), (None, false, Ok(())));
        let (config, _) = read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317")]);
        assert_eq!(config.otlp_endpoint.as_deref(), Some("http://collector:4317"));
        let own = ("TUTTI_TELEMETRY__OTLP_ENDPOINT", "http://own:4317");
        let (config, _) = read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317"), own]);
        assert_eq!(config.otlp_endpoint.as_deref(), Some("http://own:4317"));
    }

    #[test]
    fn what_cannot_be_used_is_a_problem() {
        let (_, problems) = read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317")]);
        assert!(problems.unwrap_err().contains("telemetry.otlp_endpoint"));
        let (_, problems) = read(&[("TUTTI_TELEMETRY__REDACT", "['a', '(']")]);
        assert!(problems.unwrap_err().contains("telemetry.redact"));
        let (_, problems) = read(&[("TUTTI_TELEMETRY__SAMPLE_RATIO", "2")]);
        assert!(problems.unwrap_err().contains("telemetry.sample_ratio"));
    }
}
