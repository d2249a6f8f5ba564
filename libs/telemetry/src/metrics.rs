//! Metrics for Prometheus. Recorded through the `metrics` macros anywhere; without [`Metrics::install`] these do nothing.

use std::sync::atomic::{AtomicBool, Ordering};

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// Upper bounds of calls and attempts, in seconds.
const SECONDS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0];
/// Upper bounds of counts in one go.
const COUNTS: [f64; 8] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];

static RECORDED: AtomicBool = AtomicBool::new(false);

/// The metrics of a process: one constant a name, so that the README, the tests and the code agree.
#[derive(Debug, Clone, Copy)]
pub struct Metrics;

impl Metrics {
    /// Calls that ended, by `method` and `code`.
    pub const CALLS: &str = "tutti_calls_total";
    /// Time of a call until its body ended, in seconds, by `method`.
    pub const CALL_SECONDS: &str = "tutti_call_duration_seconds";
    /// Calls that run, by `service`.
    pub const IN_FLIGHT: &str = "tutti_calls_in_flight";
    /// Paid calls of providers, by `backend`, `model`, `outcome` and `reason`.
    pub const ATTEMPTS: &str = "tutti_attempts_total";
    /// Tokens, by `backend`, `model` and `kind`.
    pub const TOKENS: &str = "tutti_tokens_total";
    /// Cost in billionths of a US dollar, by `backend` and `model`.
    pub const COST: &str = "tutti_cost_nano_usd_total";
    /// From sending to the first piece of output, in seconds, by `backend`.
    pub const FIRST_TOKEN: &str = "tutti_time_to_first_token_seconds";
    /// Circuit breakers that opened, by `backend`.
    pub const BREAKER_OPENED: &str = "tutti_breaker_opened_total";
    /// Calls that an open circuit breaker refused, by `backend`.
    pub const BREAKER_REJECTED: &str = "tutti_breaker_rejected_total";
    /// Decisions of our rate limits, by `backend`, `limit` and `decision`.
    pub const LIMITS: &str = "tutti_limit_decisions_total";
    /// Charges that this process decided by its share, because Redis did not answer in time.
    pub const LIMITS_BY_SHARE: &str = "tutti_limits_by_share_total";
    /// How often Redis was given up, until it answered again.
    pub const LIMITS_OUTAGES: &str = "tutti_limits_outages_total";
    /// Changes of one transaction of the ledger.
    pub const BATCH: &str = "tutti_ledger_batch_size";
    /// Settlements on disk that wait for the ledger.
    pub const SPOOL: &str = "tutti_spool_length";
    /// Failures of a store, by `operation`.
    pub const STORE_ERRORS: &str = "tutti_store_errors_total";
    /// 0 while what the process depends on can't be reached, 1 when it is back, by `dependency`.
    pub const DEPENDENCY_UP: &str = "tutti_dependency_up";

    /// Starts to record. `None` when this process has a recorder already.
    pub fn install() -> Option<Scrape> {
        let recorder = builder().build_recorder();
        let scrape = Scrape(recorder.handle());
        metrics::set_global_recorder(recorder).ok()?;
        RECORDED.store(true, Ordering::Relaxed);
        describe();
        Some(scrape)
    }

    /// Whether anybody records: labels that cost something need not be made otherwise.
    pub fn are_recorded() -> bool {
        RECORDED.load(Ordering::Relaxed)
    }

    /// Records what `work` does, for tests: gives what a scrape shows then.
    pub fn of(work: impl FnOnce()) -> String {
        let recorder = builder().build_recorder();
        metrics::with_local_recorder(&recorder, || {
            describe();
            work();
        });
        recorder.handle().render()
    }
}

/// What Prometheus asks for.
#[derive(Debug, Clone)]
pub struct Scrape(PrometheusHandle);

impl Scrape {
    /// All metrics in Prometheus' text format.
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Folds new values into the histograms; to be called every few seconds, whether or not somebody scrapes.
    pub fn upkeep(&self) {
        self.0.run_upkeep();
    }
}

fn builder() -> PrometheusBuilder {
    let builder = PrometheusBuilder::new();
    let seconds = |builder: PrometheusBuilder, name: &str| {
        // It fails for an empty list of bounds only.
        builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), &SECONDS).unwrap_or_default()
    };
    let builder = seconds(seconds(builder, Metrics::CALL_SECONDS), Metrics::FIRST_TOKEN);
    builder.set_buckets_for_metric(Matcher::Full(Metrics::BATCH.to_owned()), &COUNTS).unwrap_or_default()
}

fn describe() {
    describe_counter!(Metrics::CALLS, "Calls that ended, by method and gRPC code");
    describe_histogram!(Metrics::CALL_SECONDS, Unit::Seconds, "Time of a call until its body ended");
    describe_gauge!(Metrics::IN_FLIGHT, "Calls that run, by service");
    describe_counter!(Metrics::ATTEMPTS, "Calls of providers, by backend, model, outcome and reason");
    describe_counter!(Metrics::TOKENS, "Tokens, by backend, model and kind");
    describe_counter!(Metrics::COST, "Cost in billionths of a US dollar, by backend and model");
    describe_histogram!(Metrics::FIRST_TOKEN, Unit::Seconds, "From sending to the first piece of output, by backend");
    describe_counter!(Metrics::BREAKER_OPENED, "Circuit breakers that opened, by backend");
    describe_counter!(Metrics::BREAKER_REJECTED, "Calls refused by an open circuit breaker, by backend");
    describe_counter!(Metrics::LIMITS, "Decisions of rate limits, by backend, limit and decision");
    describe_counter!(Metrics::LIMITS_BY_SHARE, "Charges decided by this process alone, without Redis");
    describe_counter!(Metrics::LIMITS_OUTAGES, "How often Redis was given up by the rate limits");
    describe_histogram!(Metrics::BATCH, "Changes of one transaction of the ledger");
    describe_gauge!(Metrics::SPOOL, "Settlements on disk that wait for the ledger");
    describe_counter!(Metrics::STORE_ERRORS, "Failures of a store, by operation");
    describe_gauge!(Metrics::DEPENDENCY_UP, "0 while a dependency can't be reached, 1 when it is back");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_have_buckets_and_metrics_their_help() {
        let text = Metrics::of(|| {
            metrics::histogram!(Metrics::CALL_SECONDS, "method" => "a.B/C").record(0.02);
            metrics::histogram!(Metrics::BATCH).record(3.0);
        });
        assert!(text.contains("tutti_call_duration_seconds_bucket{method=\"a.B/C\",le=\"0.025\"} 1"), "{text}");
        assert!(text.contains("tutti_ledger_batch_size_bucket{le=\"2\"} 0"), "{text}");
        assert!(text.contains("# HELP tutti_ledger_batch_size Changes of one transaction"), "{text}");
    }
}
