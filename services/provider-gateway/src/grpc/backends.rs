//! `CheckBackends` and `ResetBackend`.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use tutti_error::Result;
use tutti_layers::CallContext;
use tutti_proto::gateway::v1::{
    CheckBackendsRequest, CheckBackendsResponse, ResetBackendRequest, ResetBackendResponse,
};
use tutti_types::{AttemptId, Deadline};

use super::status;
use crate::{
    app::Gateway,
    backends::Backend,
    domain::resolve::Resolved,
    driver::{Clock, OnWire, Wait},
};

/// For one probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) async fn check(
    gateway: &Gateway,
    request: &CheckBackendsRequest,
    context: &CallContext,
) -> Result<CheckBackendsResponse> {
    let backends = chosen(gateway, &request.backends)?;
    if request.probe {
        let deadline = context.deadline.min(Deadline::after(PROBE_TIMEOUT));
        let probes = backends.iter().map(|backend| probe(backend, status::default_model(gateway, backend), deadline));
        join_all(probes).await;
    }
    let statuses = backends.iter().map(|backend| status::with_limits(gateway, backend));
    Ok(CheckBackendsResponse { backends: join_all(statuses).await })
}

/// The backends of these names, all where there are none, in the order of the configuration.
///
/// # Errors
/// UNKNOWN_BACKEND with the nearest names.
pub(super) fn chosen(gateway: &Gateway, names: &[String]) -> Result<Vec<Arc<Backend>>> {
    for name in names {
        gateway.backends.get(name)?;
    }
    let asked: HashSet<&str> = names.iter().map(String::as_str).collect();
    let all = gateway.backends.all().iter();
    Ok(all.filter(|backend| asked.is_empty() || asked.contains(backend.config.name.as_str())).cloned().collect())
}

pub(super) async fn reset(gateway: &Gateway, request: &ResetBackendRequest) -> Result<ResetBackendResponse> {
    let backend = gateway.backends.get(&request.backend)?;
    if let Ok(upstream) = backend.upstream() {
        upstream.keys().reset();
    }
    for rule in &backend.limits.all {
        rule.decided.reset();
        for (key, _) in status::keys_of(&backend, rule) {
            gateway.limits.reset(&key).await;
        }
    }
    tracing::info!(backend = request.backend, "the backend was reset");
    Ok(ResetBackendResponse { backend: Some(status::with_limits(gateway, &backend).await) })
}

async fn probe(backend: &Arc<Backend>, model: Resolved, deadline: Deadline) {
    let Ok(upstream) = backend.upstream() else { return };
    let Some(key) = upstream.keys().for_probe(Instant::now()) else { return };
    let request = upstream.adapter().probe(&backend.target(&model));
    let clock = Clock::start(&backend.config.timeouts, deadline);
    let sent = upstream.send(request, AttemptId::generate(), &key, OnWire::default(), &clock, Wait::Whole).await;
    match sent {
        Ok(_) => backend.observe(Ok(()), Some(clock.elapsed())),
        Err(mut failure) => {
            // Here the deadline is the probe's own, and missing it is the backend's fault.
            if failure.error.reason == tutti_error::Reason::DeadlineExceeded {
                failure.error.reason = tutti_error::Reason::FirstTokenTimeout;
                failure.error.message = format!("no answer to a probe within {PROBE_TIMEOUT:?}");
            }
            backend.observe(Err(&failure), None);
        }
    }
}
