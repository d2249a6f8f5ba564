//! How a backend is, as `CheckBackends`, `WatchBackends` and `ResetBackend` tell it.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant, SystemTime},
};

use tutti_config::ProviderKind;
use tutti_limits::Amount;
use tutti_proto::gateway::v1::{
    BackendHealth, BackendStatus, BreakerState, CircuitBreaker, CredentialStatus, LimitStatus,
};
use tutti_types::time;

use crate::{
    app::Gateway,
    backends::{self, Backend},
    domain::{breaker::State, resolve::Resolved},
    resilience::{Key, KeyState, Room, Rule, Whose, key_of},
};

/// The backend's model; as written where it names one of another provider, which every call will be told.
pub(super) fn default_model(gateway: &Gateway, backend: &Backend) -> Resolved {
    let resolved = backend.resolve(&gateway.catalogue, "");
    resolved.unwrap_or_else(|_| Resolved { wire: backend.config.model.clone(), model: None })
}

/// A backend with everything that is known of it.
pub(super) fn of(gateway: &Gateway, backend: &Backend) -> BackendStatus {
    let model = &default_model(gateway, backend);
    let health = backend.health();
    let state = match health.healthy {
        None => BackendHealth::Unspecified,
        Some(true) => BackendHealth::Healthy,
        Some(false) => BackendHealth::Unhealthy,
    };
    let (reason, error) = health.last_failure.unwrap_or_default();
    let config = &backend.config;
    let credentials = credentials(backend);
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
            .map_or(0, |upstream| u32::try_from(upstream.keys().count()).unwrap_or(u32::MAX)),
        context_window: i64::try_from(backend.context_window(model)).unwrap_or(i64::MAX),
        max_output_tokens: config.max_output_tokens.min(known_most.unwrap_or(u32::MAX)).into(),
        capabilities: Some(super::capabilities(backends::capabilities(model))),
        local: backend.free,
        simulator: config.provider == ProviderKind::Simulator,
        persona: config.persona.clone(),
        temperature: config.temperature,
        breaker: together(&credentials),
        credential_states: credentials,
        limits: Vec::new(),
    }
}

/// The same with its rate limits, for which the limiter has to be asked.
pub(super) async fn with_limits(gateway: &Gateway, backend: &Backend) -> BackendStatus {
    let mut status = of(gateway, backend);
    for rule in &backend.limits.all {
        for (key, name) in keys_of(backend, rule) {
            let room = gateway.limits.room(&key, rule).await;
            status.limits.push(limit(rule, name, Some(room)));
        }
        if !matches!(rule.whose, Whose::Backend | Whose::Credential) {
            status.limits.push(limit(rule, String::new(), None));
        }
    }
    status
}

/// The keys of a limit that are the backend's own, each with what tells it from the others.
pub(super) fn keys_of(backend: &Backend, rule: &Rule) -> Vec<(String, String)> {
    let Ok(upstream) = backend.upstream() else { return Vec::new() };
    let all = upstream.keys().all();
    let key = |key: &Key| key_of(rule.whose, &backend.config.name, key, "", "");
    match rule.whose {
        Whose::Backend => all.first().and_then(|first| Some((key(first)?, String::new()))).into_iter().collect(),
        Whose::Credential => all.iter().filter_map(|each| Some((key(each)?, each.masked.clone()))).collect(),
        Whose::Org | Whose::Team | Whose::Project => Vec::new(),
    }
}

fn limit(rule: &Rule, name: String, room: Option<Room>) -> LimitStatus {
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    // A unit without a window has no end.
    let counted = |part: fn(&Amount) -> u64| move |amount: &Amount| Some(part(amount)).filter(|left| *left < u64::MAX);
    let available = room.map(|room| room.available);
    let (requests, tokens) = (counted(|amount| amount.requests), counted(|amount| amount.tokens));
    let (of_requests, of_tokens) = (available.as_ref().and_then(requests), available.as_ref().and_then(tokens));
    LimitStatus {
        limit: rule.whose.name().to_owned(),
        name,
        allowed: count(&rule.decided.allowed),
        throttled: count(&rule.decided.throttled),
        waited: count(&rule.decided.waited),
        requests_available: of_requests,
        requests_in_use: of_requests.and(room).map(|room| room.in_use.requests),
        tokens_available: of_tokens,
        tokens_in_use: of_tokens.and(room).map(|room| room.in_use.tokens),
    }
}

fn credentials(backend: &Backend) -> Vec<CredentialStatus> {
    let Ok(upstream) = backend.upstream() else { return Vec::new() };
    let now = Instant::now();
    let status = |name: &str, state: KeyState| CredentialStatus {
        name: name.to_owned(),
        breaker: Some(breaker(&state, now)),
        resting_for: state.rest.map(|(left, _)| time::to_wire(left)),
        resting_because: state.rest.map_or(0, |(_, reason)| reason.into()),
    };
    upstream.keys().all().iter().map(|key| status(&key.masked, key.state(now))).collect()
}

fn breaker(state: &KeyState, now: Instant) -> CircuitBreaker {
    let (kind, open_for) = match state.breaker {
        State::Closed => (BreakerState::Closed, None),
        State::Open(left) => (BreakerState::Open, Some(left)),
        State::HalfOpen => (BreakerState::HalfOpen, None),
    };
    let at = |seen: Instant| time::timestamp(SystemTime::now() - now.saturating_duration_since(seen));
    let counters = state.counters;
    CircuitBreaker {
        state: kind.into(),
        open_for: open_for.map(time::to_wire),
        total: counters.total,
        ok: counters.ok,
        failed: counters.failed,
        rejected: counters.rejected,
        error_rate: state.error_rate,
        last_failure: counters.last_failure.map(at),
        last_success: counters.last_success.map(at),
    }
}

/// The breakers of all credentials as one: as open as the best of them.
fn together(credentials: &[CredentialStatus]) -> Option<CircuitBreaker> {
    let each = || credentials.iter().filter_map(|credential| credential.breaker.as_ref());
    let states = [BreakerState::Closed, BreakerState::HalfOpen, BreakerState::Open];
    let state = states.into_iter().find(|state| each().any(|breaker| breaker.state() == *state))?;
    let open_for = each().filter_map(|breaker| breaker.open_for.as_ref()).map(time::from_wire).min();
    let rates = each().map(|breaker| breaker.error_rate);
    let latest = |when: fn(&CircuitBreaker) -> Option<prost_types::Timestamp>| {
        each().filter_map(when).max_by_key(|at| (at.seconds, at.nanos))
    };
    Some(CircuitBreaker {
        state: state.into(),
        open_for: open_for.filter(|_| state == BreakerState::Open).map(|left: Duration| time::to_wire(left)),
        total: each().map(|breaker| breaker.total).sum(),
        ok: each().map(|breaker| breaker.ok).sum(),
        failed: each().map(|breaker| breaker.failed).sum(),
        rejected: each().map(|breaker| breaker.rejected).sum(),
        error_rate: rates.fold(0.0, f64::max),
        last_failure: latest(|breaker| breaker.last_failure),
        last_success: latest(|breaker| breaker.last_success),
    })
}
