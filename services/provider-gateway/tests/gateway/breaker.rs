//! A backend that keeps failing is left alone: when, for how long, who is told, and how it comes back.

use std::time::{Duration, Instant};

use tonic::{Code, Streaming};
use tutti_config::BackendConfig;
use tutti_error::{Reason, attempts_of, from_status};
use tutti_proto::{
    gateway::v1::{
        BackendStatus, BreakerState, CheckBackendsRequest, CircuitBreaker, ResetBackendRequest, WatchBackendsRequest,
        WatchBackendsResponse,
    },
    llm::v1::AttemptOutcome,
};
use tutti_types::time;

use crate::support::{LONG, World, ask, done, reason, within};

/// Open for longer than any test runs.
fn steady(backend: &mut BackendConfig) {
    backend.resilience.breaker.open_for = 10 * LONG;
}

/// Open for a moment.
fn brief(backend: &mut BackendConfig) {
    backend.resilience.breaker.open_for = Duration::from_millis(50);
}

const DOWN: &str = "[[fault status=503]] hi";

async fn fail(world: &World, backend: &str, times: usize) {
    for _ in 0..times {
        assert_eq!(reason(&world.generate(ask(backend, DOWN)).await.unwrap_err()), Reason::ProviderError);
    }
}

async fn status(world: &World, backend: &str) -> BackendStatus {
    let request = CheckBackendsRequest { backends: vec![backend.into()], probe: false };
    world.client.clone().check_backends(request).await.unwrap().into_inner().backends.remove(0)
}

async fn breaker(world: &World, backend: &str) -> CircuitBreaker {
    status(world, backend).await.breaker.unwrap()
}

async fn watch(world: &World, backends: &[&str]) -> Streaming<WatchBackendsResponse> {
    let backends = backends.iter().map(|name| (*name).to_owned()).collect();
    world.client.clone().watch_backends(WatchBackendsRequest { backends }).await.unwrap().into_inner()
}

/// Waits until the watched backend's breaker is in this state.
async fn until(watched: &mut Streaming<WatchBackendsResponse>, state: BreakerState) {
    let waiting = async {
        loop {
            let message = watched.message().await.unwrap().unwrap();
            if message.backends.iter().any(|backend| backend.breaker.as_ref().unwrap().state() == state) {
                return;
            }
        }
    };
    tokio::time::timeout(LONG, waiting).await.unwrap();
}

#[tokio::test]
async fn five_failures_open_it_and_the_provider_is_left_alone() {
    let world = World::with(steady).await;
    fail(&world, "anthropic", 4).await;
    world.generate(ask("anthropic", "hi")).await.unwrap();
    fail(&world, "anthropic", 4).await;
    assert_eq!(breaker(&world, "anthropic").await.state(), BreakerState::Closed);
    fail(&world, "anthropic", 1).await;
    let sent = world.sim.stats().requests;
    let reserved = world.ledger.books().reserved.len();
    let refused = world.generate(ask("anthropic", "hi")).await.unwrap_err();
    let error = from_status(&refused, "gateway");
    assert_eq!((error.reason(), refused.code()), (Reason::CircuitOpen, Code::Unavailable));
    assert!(error.retry_delay().is_some_and(|wait| wait > 9 * LONG && wait <= 10 * LONG));
    assert!(attempts_of(&refused).is_empty());
    let (events, ended) = world.stream(ask("anthropic", "hi")).await;
    assert_eq!((events.len(), reason(&ended.unwrap_err())), (0, Reason::CircuitOpen));
    // Nothing was sent, and nothing was held.
    assert_eq!((world.sim.stats().requests, world.ledger.books().reserved.len()), (sent, reserved));
    // The others are not concerned.
    world.generate(ask("openai", "hi")).await.unwrap();
    let counted = breaker(&world, "anthropic").await;
    assert_eq!((counted.state(), counted.total, counted.ok), (BreakerState::Open, 10, 1));
    assert_eq!((counted.failed, counted.rejected, counted.error_rate), (9, 2, 0.9));
    let micros = |at: &Option<_>| time::to_unix_micros(at.as_ref().unwrap());
    assert!(micros(&counted.last_failure) > micros(&counted.last_success) && counted.open_for.is_some());
}

#[tokio::test]
async fn what_the_caller_brings_about_does_not_count() {
    let world = World::with(steady).await;
    for fault in ["kind=invalid", "kind=context", "kind=content_policy", "kind=auth", "empty"] {
        for _ in 0..6 {
            let prompt = format!("[[fault {fault}]] hi");
            assert_ne!(reason(&world.generate(ask("gemini", &prompt)).await.unwrap_err()), Reason::CircuitOpen);
        }
    }
    for _ in 0..6 {
        let request = within(ask("gemini", "[[fault head_ms=60000]] hi"), Duration::from_millis(50));
        assert_eq!(world.client.clone().generate(request).await.unwrap_err().code(), Code::DeadlineExceeded);
    }
    let counted = breaker(&world, "gemini").await;
    assert_eq!((counted.state(), counted.failed), (BreakerState::Closed, 0));
    assert!(counted.total >= 30, "{counted:?}");
}

#[tokio::test]
async fn each_credential_has_its_own() {
    let world = World::with(steady).await;
    // Of the two credentials the one of this session fails.
    let mut request = ask("openai", DOWN);
    request.attribution = Some(tutti_proto::llm::v1::Attribution { session_id: "s".into(), ..Default::default() });
    for _ in 0..5 {
        world.generate(request.clone()).await.unwrap_err();
    }
    let openai = status(&world, "openai").await;
    let mut states: Vec<_> =
        openai.credential_states.iter().map(|credential| credential.breaker.as_ref().unwrap().state()).collect();
    states.sort_unstable();
    assert_eq!(states, [BreakerState::Closed, BreakerState::Open]);
    assert_eq!(openai.breaker.unwrap().state(), BreakerState::Closed);
    for _ in 0..4 {
        world.generate(ask("openai", "hi")).await.unwrap();
    }
}

#[tokio::test]
async fn it_comes_back_by_itself_when_probes_go_well() {
    let world = World::with(brief).await;
    let mut watched = watch(&world, &["anthropic"]).await;
    until(&mut watched, BreakerState::Closed).await;
    fail(&world, "anthropic", 5).await;
    until(&mut watched, BreakerState::HalfOpen).await;
    // A probe that fails opens it again.
    fail(&world, "anthropic", 1).await;
    until(&mut watched, BreakerState::HalfOpen).await;
    world.generate(ask("anthropic", "hi")).await.unwrap();
    assert_eq!(breaker(&world, "anthropic").await.state(), BreakerState::HalfOpen);
    world.generate(ask("anthropic", "hi")).await.unwrap();
    until(&mut watched, BreakerState::Closed).await;
}

#[tokio::test]
async fn probes_are_counted_over_all_calls() {
    let world = World::with(brief).await;
    let mut watched = watch(&world, &["anthropic"]).await;
    fail(&world, "anthropic", 5).await;
    until(&mut watched, BreakerState::HalfOpen).await;
    let before = world.sim.stats().requests;
    // They stay out until they are dropped.
    let slow = |_| {
        let world = &world;
        async move {
            let request = within(ask("anthropic", "[[fault head_ms=60000]] hi"), LONG);
            world.client.clone().generate(request).await
        }
    };
    let mut probes: Vec<_> = (0..3).map(slow).map(Box::pin).collect();
    let all = futures::future::join_all(probes.iter_mut());
    let arrived = world.sim.wait_for(|sim| sim.stats().requests == before + 3, LONG);
    tokio::select! {
        _ = all => panic!("nobody answers"),
        arrived = arrived => arrived.unwrap(),
    }
    assert_eq!(reason(&world.generate(ask("anthropic", "hi")).await.unwrap_err()), Reason::CircuitOpen);
    assert_eq!(world.sim.stats().requests, before + 3);
    // Cancelled probes say nothing and make room.
    drop(probes);
    world.ledger.balanced().await;
    world.generate(ask("anthropic", "hi")).await.unwrap();
    world.generate(ask("anthropic", "hi")).await.unwrap();
    assert_eq!(breaker(&world, "anthropic").await.state(), BreakerState::Closed);
}

#[tokio::test]
async fn tries_of_one_call_stop_when_it_opens() {
    let world = World::with(|backend| {
        steady(backend);
        backend.resilience.retry.max_attempts = 5;
        backend.resilience.retry.base_delay = Duration::from_millis(1);
        backend.resilience.breaker.failures = 2;
    })
    .await;
    let began = Instant::now();
    let error = from_status(&world.generate(ask("anthropic", DOWN)).await.unwrap_err(), "gateway");
    assert_eq!((error.reason(), error.attempted().len()), (Reason::ProviderError, 2));
    assert!(error.retry_delay().is_some_and(|wait| wait > 9 * LONG) && began.elapsed() < LONG);
    let (events, ended) = world.stream(ask("ollama", DOWN)).await;
    assert_eq!((reason(&ended.unwrap_err()), done(&events).attempts.len()), (Reason::ProviderError, 2));
    assert!(done(&events).attempts.iter().all(|attempt| attempt.outcome() == AttemptOutcome::Failed));
    world.ledger.balanced().await;
}

#[tokio::test]
async fn a_watcher_is_told_the_whole_state_and_then_what_changes() {
    let world = World::with(|backend| {
        steady(backend);
        backend.resilience.breaker.error_rate = 0.0;
    })
    .await;
    let mut watched = watch(&world, &[]).await;
    let first = watched.message().await.unwrap().unwrap().backends;
    let names: Vec<_> = first.iter().map(|backend| backend.name.as_str()).collect();
    assert_eq!(names, ["openai", "anthropic", "gemini", "ollama", "simulator", "locked"]);
    // Nobody reads while much happens: the steps in between are left out.
    for _ in 0..50 {
        world.generate(ask("gemini", "hi")).await.unwrap();
        fail(&world, "gemini", 1).await;
    }
    fail(&world, "ollama", 5).await;
    let mut messages = 0;
    let open = async {
        loop {
            messages += 1;
            let news = watched.message().await.unwrap().unwrap().backends;
            assert!(news.iter().all(|backend| ["gemini", "ollama"].contains(&backend.name.as_str())), "{news:?}");
            let open = |b: &BackendStatus| b.breaker.as_ref().unwrap().state() == BreakerState::Open;
            if news.iter().any(|backend| backend.name == "ollama" && open(backend)) {
                return;
            }
        }
    };
    tokio::time::timeout(LONG, open).await.unwrap();
    assert!(messages <= 40, "{messages} messages for 105 changes");
    // It ends with the gateway.
    world.app.stop(LONG).await;
    while let Some(_rest) = watched.message().await.unwrap() {}
}

#[tokio::test]
async fn a_reset_closes_it_at_once() {
    let world = World::with(steady).await;
    let mut watched = watch(&world, &["anthropic"]).await;
    fail(&world, "anthropic", 5).await;
    until(&mut watched, BreakerState::Open).await;
    let request = ResetBackendRequest { backend: "anthropic".into() };
    let answer = world.client.clone().reset_backend(request).await.unwrap().into_inner().backend.unwrap();
    let counted = answer.breaker.unwrap();
    assert_eq!((counted.state(), counted.total, counted.failed), (BreakerState::Closed, 0, 0));
    until(&mut watched, BreakerState::Closed).await;
    world.generate(ask("anthropic", "hi")).await.unwrap();
    let unknown = ResetBackendRequest { backend: "anthropics".into() };
    let status = world.client.clone().reset_backend(unknown).await.unwrap_err();
    assert_eq!((reason(&status), status.code()), (Reason::UnknownBackend, Code::NotFound));
}

#[tokio::test]
async fn an_unknown_backend_is_not_watched() {
    let world = World::start().await;
    let request = WatchBackendsRequest { backends: vec!["nobody".into()] };
    let status = world.client.clone().watch_backends(request).await.unwrap_err();
    assert_eq!(reason(&status), Reason::UnknownBackend);
    let request = within(WatchBackendsRequest::default(), Duration::from_millis(200));
    let mut stream = world.client.clone().watch_backends(request).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().is_some());
    assert_eq!(stream.message().await.unwrap_err().code(), Code::DeadlineExceeded);
}
