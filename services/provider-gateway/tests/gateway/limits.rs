//! Rate limits of ours: what they hold, whom they hold for, and what callers are told.

use std::time::{Duration, Instant};

use tonic::{Code, Request, Status};
use tutti_config::{BackendConfig, LimitsConfig, RedisConfig, ScopeLimits};
use tutti_error::{Reason, attempts_of, from_status};
use tutti_layers::CallContext;
use tutti_proto::{
    gateway::v1::{CheckBackendsRequest, GenerateRequest, LimitStatus, ResetBackendRequest},
    llm::v1::Attribution,
};
use tutti_testkit::{TestRedis, wait_for};
use tutti_types::{Deadline, Scope};

use crate::support::{LONG, World, ask, client, reason, start, within};

const HOUR: Duration = Duration::from_hours(1);

fn requests(limit: u64, burst: u64) -> ScopeLimits {
    ScopeLimits { requests: vec![(HOUR, limit)], burst, ..ScopeLimits::default() }
}

/// Three calls at once, then one an hour.
fn three(backend: &mut BackendConfig) {
    backend.resilience.limits.backend = requests(1, 2);
}

async fn status(world: &World, backend: &str) -> Vec<LimitStatus> {
    let request = CheckBackendsRequest { backends: vec![backend.into()], probe: false };
    world.client.clone().check_backends(request).await.unwrap().into_inner().backends.remove(0).limits
}

#[tokio::test]
async fn a_backend_has_so_many_calls_and_says_when_the_next() {
    let world = World::with(three).await;
    for _ in 0..3 {
        world.generate(ask("anthropic", "hi")).await.unwrap();
    }
    let refused = world.generate(ask("anthropic", "hi")).await.unwrap_err();
    let error = from_status(&refused, "gateway");
    assert_eq!((error.reason(), refused.code()), (Reason::BackendRateLimited, Code::ResourceExhausted));
    assert!(error.retry_delay().is_some_and(|wait| wait > HOUR - LONG && wait <= HOUR), "{error:?}");
    assert!(attempts_of(&refused).is_empty());
    assert_eq!(reason(&world.stream(ask("anthropic", "hi")).await.1.unwrap_err()), Reason::BackendRateLimited);
    // Nothing was sent or held, and the others have limits of their own.
    assert_eq!((world.sim.stats().requests, world.ledger.books().reserved.len()), (3, 3));
    world.generate(ask("gemini", "hi")).await.unwrap();
    let [limit] = &status(&world, "anthropic").await[..] else { panic!() };
    assert_eq!((limit.limit.as_str(), limit.allowed, limit.throttled, limit.waited), ("backend", 3, 2, 0));
    assert_eq!((limit.requests_available, limit.requests_in_use), (Some(0), Some(3)));
    assert_eq!((limit.tokens_available, limit.tokens_in_use), (None, None));
    let request = ResetBackendRequest { backend: "anthropic".into() };
    let after = world.client.clone().reset_backend(request).await.unwrap().into_inner().backend.unwrap();
    let [limit] = &after.limits[..] else { panic!() };
    assert_eq!((limit.allowed, limit.throttled, limit.requests_available), (0, 0, Some(3)));
    world.generate(ask("anthropic", "hi")).await.unwrap();
}

#[tokio::test]
async fn a_call_waits_for_room_as_long_as_it_may() {
    let world = World::with(|backend| {
        let ten = ScopeLimits { requests: vec![(Duration::from_secs(1), 5)], ..ScopeLimits::default() };
        backend.resilience.limits = LimitsConfig { wait: LONG, backend: ten, ..LimitsConfig::default() };
    })
    .await;
    let began = Instant::now();
    for _ in 0..3 {
        world.generate(ask("anthropic", "hi")).await.unwrap();
    }
    assert!(began.elapsed() >= Duration::from_millis(400));
    let [limit] = &status(&world, "anthropic").await[..] else { panic!() };
    assert_eq!((limit.allowed, limit.throttled), (3, 0));
    assert!((1..=2).contains(&limit.waited), "{limit:?}");
    // Its deadline bounds it too: it is refused at once.
    let slow = World::with(|backend| {
        three(backend);
        backend.resilience.limits.wait = 2 * HOUR;
    })
    .await;
    for _ in 0..3 {
        slow.generate(ask("anthropic", "hi")).await.unwrap();
    }
    let began = Instant::now();
    let refused = slow.client.clone().generate(within(ask("anthropic", "hi"), LONG)).await.unwrap_err();
    assert_eq!(reason(&refused), Reason::BackendRateLimited);
    assert!(began.elapsed() < LONG / 2);
}

#[tokio::test]
async fn several_windows_hold_together_and_a_refusal_is_charged_to_none() {
    let world = World::with(|backend| {
        backend.resilience.limits.backend = requests(1, 9);
        backend.resilience.limits.credential = requests(1, 1);
    })
    .await;
    for _ in 0..2 {
        world.generate(ask("anthropic", "hi")).await.unwrap();
    }
    for _ in 0..5 {
        let refused = world.generate(ask("anthropic", "hi")).await.unwrap_err();
        assert_eq!(
            from_status(&refused, "gateway").message(),
            "the rate limit of a credential of the backend \"anthropic\" is reached"
        );
    }
    let limits = status(&world, "anthropic").await;
    let left: Vec<_> = limits.iter().map(|limit| (limit.limit.as_str(), limit.requests_available)).collect();
    assert_eq!(left, [("backend", Some(8)), ("credential", Some(0))]);
    assert!(limits[1].name.starts_with("anthropic/"), "{limits:?}");
}

#[tokio::test]
async fn organisations_teams_and_projects_have_their_own() {
    let world = World::with(|backend| {
        backend.resilience.limits.org = requests(1, 3);
        backend.resilience.limits.team = requests(1, 1);
        backend.resilience.limits.project = requests(1, 0);
    })
    .await;
    let call = async |backend: &str, org: &str, team: &str, project: &str| -> Result<(), Status> {
        let attribution = Attribution { team: team.into(), project: project.into(), ..Default::default() };
        let request = GenerateRequest { attribution: Some(attribution), ..ask(backend, "hi") };
        let scope = Scope { org: org.into(), principal: "alice".into() };
        let context = CallContext::new(scope, Deadline::after(LONG));
        let request: Request<_> = tutti_client::request(request, &context);
        world.client.clone().generate(request).await.map(drop)
    };
    let refused = |status: Status| {
        let error = from_status(&status, "gateway");
        assert_eq!((error.reason(), status.code()), (Reason::RateLimited, Code::ResourceExhausted));
        error.message().to_owned()
    };
    call("anthropic", "acme", "red", "a").await.unwrap();
    // Over all backends.
    assert!(refused(call("gemini", "acme", "red", "a").await.unwrap_err()).contains("this project"));
    call("gemini", "acme", "red", "b").await.unwrap();
    assert!(refused(call("gemini", "acme", "red", "").await.unwrap_err()).contains("this team"));
    call("gemini", "acme", "blue", "").await.unwrap();
    call("gemini", "acme", "", "").await.unwrap();
    assert!(refused(call("gemini", "acme", "", "").await.unwrap_err()).contains("this org"));
    // Names are those of an organisation.
    call("gemini", "other", "red", "a").await.unwrap();
}

#[tokio::test]
async fn tokens_are_estimated_and_then_put_right() {
    let world = World::with(|backend| {
        let tokens = vec![(HOUR, 1000)];
        backend.max_output_tokens = 500;
        backend.resilience.limits.backend = ScopeLimits { tokens, token_burst: Some(999), ..ScopeLimits::default() };
    })
    .await;
    let left = async || status(&world, "anthropic").await[0].tokens_available.unwrap();
    assert_eq!(left().await, 1000);
    let answer = world.generate(ask("anthropic", "hi")).await.unwrap();
    let used = answer.usage.unwrap();
    let used = u64::try_from(used.input_tokens + used.output_tokens).unwrap();
    let after = left().await;
    assert!((1000 - used..=1000 - used + 2).contains(&after), "{after}: {used} were used");
    // While it runs, its estimate is taken; what was never used is given back.
    let mut stalled = world.client.clone();
    let mut running = Box::pin(stalled.generate(within(ask("anthropic", "[[fault head_ms=60000]] hi"), LONG)));
    tokio::select! {
        _ = &mut running => panic!("nobody answers"),
        arrived = world.sim.wait_for(|sim| sim.stats().in_progress == 1, LONG) => arrived.unwrap(),
    }
    assert!(left().await <= after - 500);
    drop(running);
    wait_for(LONG, async || left().await > after - 100).await;
}

#[tokio::test]
async fn what_was_never_sent_is_given_back() {
    let world = World::with(three).await;
    world.ledger.books().refusal = Some(Reason::BudgetExceeded);
    for _ in 0..5 {
        assert_eq!(reason(&world.generate(ask("anthropic", "hi")).await.unwrap_err()), Reason::BudgetExceeded);
    }
    assert_eq!(status(&world, "anthropic").await[0].requests_available, Some(3));
}

#[tokio::test]
async fn replicas_share_their_limits_through_redis_and_live_without_it() {
    let redis = TestRedis::start().await;
    let config = RedisConfig { url: redis.url().into(), prefix: "tutti".into() };
    let world = World::sharing(Some(config), |backend| {
        backend.resilience.limits.backend = requests(1, 99);
    })
    .await;
    let other = start(&world.config, &tempfile::tempdir().unwrap(), &world.ledger).await;
    let left = async || status(&world, "anthropic").await[0].requests_available.unwrap();
    // Both are connected when each sees what the other takes.
    wait_for(LONG, async || {
        client(&other).generate(ask("anthropic", "hi")).await.unwrap();
        left().await < 99
    })
    .await;
    let before = left().await;
    client(&other).generate(ask("anthropic", "hi")).await.unwrap();
    world.generate(ask("anthropic", "hi")).await.unwrap();
    assert_eq!(left().await, before - 2);
    // Frozen: calls go on, by the share of this replica.
    redis.freeze();
    for _ in 0..3 {
        world.generate(within(ask("anthropic", "hi"), LONG).into_inner()).await.unwrap();
    }
    redis.thaw();
    wait_for(LONG, async || left().await <= before - 2).await;
}

#[tokio::test]
async fn a_replica_that_stops_no_longer_has_a_share() {
    let redis = TestRedis::start().await;
    let config = RedisConfig { url: redis.url().into(), prefix: "tutti".into() };
    let world = World::sharing(Some(config), three).await;
    // Those that show that they live are counted in Redis itself.
    let living = async || {
        let client = redis::Client::open(redis.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        redis::cmd("ZCARD").arg("tutti:replicas").query_async::<u64>(&mut connection).await.unwrap()
    };
    wait_for(LONG, async || living().await == 1).await;
    world.app.stop(LONG).await;
    assert_eq!(living().await, 0);
}
