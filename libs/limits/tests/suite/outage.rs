//! Redis frozen, stopped, never there: answers stay quick, by this replica's share, and it comes back by itself.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::task::JoinSet;
use tutti_limits::{Amount, Correction, Limiter, Redis, RedisOptions, Window};
use tutti_testkit::{Fault, FaultProxy, TestRedis, free_port, wait_for};

use super::{CALL, SOON, connected, remaining, requests, shared, tokens, waits};

const HOUR: Duration = Duration::from_hours(1);
/// What no answer may exceed, with Redis frozen.
const QUICK: Duration = Duration::from_millis(50);
const BUDGET: Duration = Duration::from_millis(40);

fn by_default(redis: &TestRedis, replica: &str) -> RedisOptions {
    RedisOptions::new(redis.url().into(), "tutti", replica)
}

/// One connected with the default budget, though the machine may be too busy for it at first.
async fn prompt(redis: &TestRedis, replica: &str) -> Redis {
    connected(by_default(redis, replica)).await
}

/// Waits until Redis decides again; on a busy machine it may be given up once more before.
async fn back(limiter: &Redis) {
    wait_for(SOON, async || {
        let before = limiter.counts().by_share;
        limiter.take("back", CALL, &[requests(60, HOUR, 4)]).await;
        limiter.counts().by_share == before
    })
    .await;
}

/// Asks `count` times at once; all answers must be quick.
async fn quick(limiter: &Arc<Redis>, count: usize, windows: [Window; 1]) {
    let start = Instant::now();
    let mut calls = JoinSet::new();
    for call in 0..count {
        let limiter = limiter.clone();
        calls.spawn(async move {
            let asked = Instant::now();
            limiter.take(&format!("caller {call}"), CALL, &windows).await;
            asked.elapsed()
        });
    }
    // What the budget alone takes on a machine that may be busy.
    let control = tokio::time::timeout(BUDGET, std::future::pending::<()>());
    let (slowest, _) = tokio::join!(calls.join_all(), control);
    let (slowest, control) = (slowest.into_iter().max().unwrap_or_default(), start.elapsed());
    assert!(slowest <= QUICK.max(control + (QUICK - BUDGET)), "{slowest:?}, {control:?} without Redis");
}

#[tokio::test]
async fn frozen_it_costs_at_most_the_budget_once_and_comes_back_by_itself() {
    let redis = TestRedis::start().await;
    let limiter = Arc::new(prompt(&redis, "one").await);
    let windows = [requests(60, HOUR, 4)];

    redis.freeze();
    quick(&limiter, 50, windows).await;
    let first = limiter.counts();
    assert_eq!((limiter.is_shared(), first.by_share, first.outages), (false, 50, 1), "{first:?}");
    assert!(first.timeouts >= 1, "{first:?}");
    // From then on no call waits for it.
    quick(&limiter, 50, windows).await;
    let later = limiter.counts();
    assert_eq!((later.by_share, later.outages, later.timeouts), (100, 1, first.timeouts), "{later:?}");

    redis.thaw();
    back(&limiter).await;
}

#[tokio::test]
async fn stopped_it_is_left_at_once_and_found_again() {
    let mut redis = TestRedis::start().await;
    let limiter = Arc::new(prompt(&redis, "one").await);
    let windows = [requests(1, HOUR, 0)];
    assert!(limiter.take("backend", CALL, &windows).await.is_allowed());

    redis.stop();
    quick(&limiter, 20, windows).await;
    assert_eq!(limiter.counts().by_share, 20);

    redis.restart().await;
    back(&limiter).await;
}

#[tokio::test]
async fn slower_than_the_budget_it_is_not_used_and_calls_do_not_ask_for_it() {
    let redis = TestRedis::start().await;
    let proxy = FaultProxy::start(SocketAddr::from(([127, 0, 0, 1], redis.port()))).await;
    let url = format!("redis://{}", proxy.address());
    let limiter = connected(RedisOptions::new(url.into(), "tutti", "one")).await;
    let windows = [requests(1_000_000, HOUR, 1_000_000)];

    proxy.set(Fault::Delay(BUDGET * 3)).await;
    wait_for(SOON, async || {
        limiter.take("backend", CALL, &windows).await;
        !limiter.is_shared()
    })
    .await;
    let (before, lost) = (limiter.counts(), proxy.connections());
    for _ in 0..1_000 {
        assert!(limiter.take("backend", CALL, &windows).await.is_allowed());
    }
    assert_eq!(limiter.counts().by_share - before.by_share, 1_000);
    // The background task goes on trying, and finds it too slow each time.
    wait_for(SOON, async || proxy.connections() >= lost + 4).await;
    assert_eq!((limiter.is_shared(), limiter.counts().outages), (false, before.outages));
    assert!(proxy.connections() < lost + 100, "{}", proxy.connections());

    proxy.set(Fault::Pass).await;
    back(&limiter).await;
}

#[tokio::test]
async fn without_it_each_replica_keeps_to_its_share() {
    let redis = TestRedis::start().await;
    let one = shared(&redis, "one").await;
    let (_two, three) = (shared(&redis, "two").await, prompt(&redis, "three").await);
    assert_eq!(three.counts().replicas, 3);
    let windows = [requests(60, HOUR, 8)];

    redis.freeze();
    let mut allowed = 0;
    while three.take("backend", CALL, &windows).await.is_allowed() {
        allowed += 1;
    }
    // A third of the burst, rounded down, and the one call that is always allowed; then a third of the rate.
    assert_eq!(allowed, 8 / 3 + 1);
    let wait = waits(three.take("backend", CALL, &windows).await);
    assert!(wait > Duration::from_secs(170) && wait <= Duration::from_mins(3), "{wait:?}");
    drop(one);
}

#[tokio::test]
async fn corrections_are_kept_without_it() {
    let options = RedisOptions {
        replicas: 2,
        ..RedisOptions::new(format!("redis://127.0.0.1:{}", free_port()).into(), "tutti", "one")
    };
    let limiter = Redis::start(options).unwrap();
    let windows = [tokens(7200, HOUR, 1998)];
    let take = async || limiter.take("backend", Amount { requests: 0, tokens: 100 }, &windows).await;
    assert!((900..=902).contains(&remaining(take().await).tokens), "half of it is this replica's");
    limiter.correct("backend", Correction::tokens(1_000, 100), &windows).await;
    assert!(!take().await.is_allowed());
    limiter.correct("backend", Correction::tokens(0, 1_000), &windows).await;
    assert!(take().await.is_allowed());
    assert_eq!((limiter.counts().by_share, limiter.counts().replicas), (3, 2));
    assert!(!limiter.is_shared());
}
