//! Several processes, one truth.

use std::{
    cell::Cell,
    sync::Arc,
    time::{Duration, Instant},
};

use proptest::{prelude::*, test_runner::TestRunner};
use tokio::task::JoinSet;
use tutti_limits::{Amount, Decision, Limiter, Redis, Window};
use tutti_testkit::{TestRedis, wait_for};

use super::{CALL, SOON, requests, shared, tokens, waits};

/// One allowed call: it was decided at some moment between these two.
#[derive(Debug, Clone, Copy)]
struct Call {
    asked: Instant,
    answered: Instant,
    cost: u64,
}

#[tokio::test]
async fn two_replicas_count_together() {
    let redis = TestRedis::start().await;
    let (one, two) = (shared(&redis, "one").await, shared(&redis, "two").await);
    let windows = [requests(2, Duration::from_hours(1), 1)];
    assert!(one.take("backend", CALL, &windows).await.is_allowed());
    assert!(two.take("backend", CALL, &windows).await.is_allowed());
    waits(one.take("backend", CALL, &windows).await);
    waits(two.take("backend", CALL, &windows).await);
    assert_eq!(two.counts().replicas, 2);
    one.stop().await;
    let three = shared(&redis, "three").await;
    assert_eq!(three.counts().replicas, 2, "one has left");
}

/// Two adapters, callers that all ask as fast as they can, windows and costs of every kind.
#[test]
fn never_more_than_limit_and_burst_in_any_window() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (redis, replicas) = runtime.block_on(async {
        let redis = TestRedis::start().await;
        let replicas = [Arc::new(shared(&redis, "one").await), Arc::new(shared(&redis, "two").await)];
        (redis, replicas)
    });
    let cases = (20..400_u64, 20..120_u64, 0..60_u64, 1..30_u64, 1..6_usize);
    let case = Cell::new(0);
    let mut runner = TestRunner::new(ProptestConfig { cases: 12, max_shrink_iters: 0, ..ProptestConfig::default() });
    let result = runner.run(&cases, |(limit, per_ms, burst, largest, callers)| {
        case.set(case.get() + 1);
        let per = Duration::from_millis(per_ms);
        let windows = [tokens(limit, per, burst), requests(limit, per * 2, burst)];
        let key = format!("case {}", case.get());
        let calls = runtime.block_on(spend(&replicas, &key, windows, largest, callers));
        prop_assert!(!calls.is_empty());
        let bounds = [(per, limit + burst.max(largest - 1), true), (per * 2, limit + burst, false)];
        for (per, bound, in_tokens) in bounds {
            let most = most(&calls, per, in_tokens);
            prop_assert!(most <= bound, "{most} in {per:?}, at most {bound}");
        }
        Ok(())
    });
    runtime.block_on(async { drop((redis, replicas)) });
    result.unwrap();
}

/// Asks through all replicas for three lengths of the longer window; all that was allowed.
async fn spend(replicas: &[Arc<Redis>; 2], key: &str, windows: [Window; 2], largest: u64, callers: usize) -> Vec<Call> {
    let end = Instant::now() + Duration::from_millis(400);
    let mut tasks = JoinSet::new();
    for caller in 0..callers * replicas.len() {
        let (limiter, key) = (replicas[caller % replicas.len()].clone(), key.to_owned());
        tasks.spawn(async move {
            let mut calls = Vec::new();
            while Instant::now() < end {
                let cost = 1 + (calls.len() as u64 * 7 + caller as u64) % largest;
                let asked = Instant::now();
                if let Decision::Allowed { .. } = limiter.take(&key, Amount::request(cost), &windows).await {
                    calls.push(Call { asked, answered: Instant::now(), cost });
                }
            }
            calls
        });
    }
    tasks.join_all().await.concat()
}

/// The most that was surely allowed within any span shorter than `per`: asked after its begin, answered before its end.
fn most(calls: &[Call], per: Duration, in_tokens: bool) -> u64 {
    let within = |start: Instant| calls.iter().filter(move |call| call.asked >= start && call.answered < start + per);
    let cost = |call: &Call| if in_tokens { call.cost } else { 1 };
    calls.iter().map(|first| within(first.asked).map(cost).sum()).max().unwrap_or(0)
}

#[tokio::test]
async fn a_restarted_redis_is_used_again_and_loads_the_script_again() {
    let mut redis = TestRedis::start().await;
    let limiter = shared(&redis, "one").await;
    let windows = [requests(1, Duration::from_hours(1), 0)];
    assert!(limiter.take("backend", CALL, &windows).await.is_allowed());
    redis.restart().await;
    // It is empty now, so the hour begins anew; before it is back, the share allows one too.
    wait_for(SOON, async || {
        limiter.take("probe", CALL, &windows).await;
        limiter.is_shared() && limiter.counts().outages == 1
    })
    .await;
    let shared_so_far = limiter.counts().by_share;
    assert!(limiter.take("backend", CALL, &windows).await.is_allowed());
    assert_eq!(limiter.counts().by_share, shared_so_far);
}
