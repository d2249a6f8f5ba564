//! Both limiters behave alike; the shared one stays quick and true when Redis doesn't.

#![cfg(test)]

mod contract;
mod outage;
mod truth;

use std::time::Duration;

use tutti_limits::{Amount, Decision, Redis, RedisOptions, Unit, Window};
use tutti_testkit::{TestRedis, wait_for};

const SOON: Duration = Duration::from_secs(20);

fn requests(limit: u64, per: Duration, burst: u64) -> Window {
    Window::new(Unit::Requests, limit, per, burst).unwrap()
}

fn tokens(limit: u64, per: Duration, burst: u64) -> Window {
    Window::new(Unit::Tokens, limit, per, burst).unwrap()
}

/// One call without tokens.
const CALL: Amount = Amount { requests: 1, tokens: 0 };

#[track_caller]
fn waits(decision: Decision) -> Duration {
    match decision {
        Decision::Wait(time) => time,
        Decision::Allowed { .. } => panic!("allowed: {decision:?}"),
    }
}

#[track_caller]
fn remaining(decision: Decision) -> Amount {
    match decision {
        Decision::Allowed { remaining } => remaining,
        Decision::Wait(_) => panic!("not allowed: {decision:?}"),
    }
}

fn options(redis: &TestRedis, replica: &str) -> RedisOptions {
    // Ample, so that a busy machine doesn't change what is tested; outages are tested with the default.
    RedisOptions { budget: Duration::from_secs(5), ..RedisOptions::new(redis.url().into(), "tutti", replica) }
}

async fn shared(redis: &TestRedis, replica: &str) -> Redis {
    connected(options(redis, replica)).await
}

async fn connected(options: RedisOptions) -> Redis {
    let limiter = Redis::start(options).unwrap();
    wait_for(SOON, async || limiter.is_shared()).await;
    limiter
}
