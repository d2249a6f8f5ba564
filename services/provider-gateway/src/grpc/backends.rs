//! `CheckBackends`.

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures::future::join_all;
use tutti_config::ProviderKind;
use tutti_error::Result;
use tutti_layers::CallContext;
use tutti_proto::gateway::v1::{BackendHealth, BackendStatus, CheckBackendsRequest, CheckBackendsResponse};
use tutti_types::{AttemptId, Deadline, time};

use crate::{
    app::Gateway,
    backends::{self, Backend},
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
    for name in &request.backends {
        gateway.backends.get(name)?;
    }
    let asked: HashSet<&str> = request.backends.iter().map(String::as_str).collect();
    let all = gateway.backends.all().iter();
    let backends: Vec<_> =
        all.filter(|backend| asked.is_empty() || asked.contains(backend.config.name.as_str())).cloned().collect();
    let models: Vec<_> = backends.iter().map(|backend| default_model(gateway, backend)).collect();
    if request.probe {
        let deadline = context.deadline.min(Deadline::after(PROBE_TIMEOUT));
        join_all(backends.iter().zip(&models).map(|(backend, model)| probe(backend, model, deadline))).await;
    }
    Ok(CheckBackendsResponse { backends: backends.iter().zip(&models).map(|(b, m)| status(b, m)).collect() })
}

/// The backend's model; as written where it names one of another provider, which every call will be told.
fn default_model(gateway: &Gateway, backend: &Backend) -> Resolved {
    let resolved = backend.resolve(&gateway.catalogue, "");
    resolved.unwrap_or_else(|_| Resolved { wire: backend.config.model.clone(), model: None })
}

async fn probe(backend: &Arc<Backend>, model: &Resolved, deadline: Deadline) {
    let Ok(upstream) = backend.upstream() else { return };
    let request = upstream.adapter().probe(&backend.target(model));
    let clock = Clock::start(&backend.config.timeouts, deadline);
    let sent =
        upstream.send(request, AttemptId::generate(), &upstream.key(), OnWire::default(), &clock, Wait::Whole).await;
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

fn status(backend: &Backend, model: &Resolved) -> BackendStatus {
    let health = backend.health();
    let state = match health.healthy {
        None => BackendHealth::Unspecified,
        Some(true) => BackendHealth::Healthy,
        Some(false) => BackendHealth::Unhealthy,
    };
    let (reason, error) = health.last_failure.unwrap_or_default();
    let config = &backend.config;
    let known_most = model.model.as_ref().and_then(|known| known.max_output_tokens);
    BackendStatus {
        name: config.name.clone(),
        provider: backend.provider.to_owned(),
        model: model.wire.clone(),
        usable: backend.upstream.is_ok(),
        unusable_because: backend.upstream.as_ref().err().cloned().unwrap_or_default(),
        health: state.into(),
        last_error: error,
        last_error_reason: reason.into(),
        checked_at: health.checked_at.map(time::timestamp),
        latency: health.latency.map(time::to_wire),
        credentials: backend
            .upstream
            .as_ref()
            .map_or(0, |upstream| u32::try_from(upstream.key_count()).unwrap_or(u32::MAX)),
        context_window: i64::try_from(backend.context_window(model)).unwrap_or(i64::MAX),
        max_output_tokens: config.max_output_tokens.min(known_most.unwrap_or(u32::MAX)).into(),
        capabilities: Some(super::capabilities(backends::capabilities(model))),
        local: backend.free,
        simulator: config.provider == ProviderKind::Simulator,
        persona: config.persona.clone(),
        temperature: config.temperature,
    }
}
