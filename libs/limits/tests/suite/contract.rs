//! The behaviours of every limiter.

use std::time::{Duration, Instant};

use tutti_limits::{Amount, Correction, Limiter, Local};
use tutti_testkit::{TestRedis, wait_for};

use super::{CALL, SOON, remaining, requests, shared, tokens, waits};

const HOUR: Duration = Duration::from_hours(1);

#[tokio::test]
async fn in_process() {
    all(&Local::new()).await;
}

#[tokio::test]
async fn on_redis() {
    let redis = TestRedis::start().await;
    let limiter = shared(&redis, "a").await;
    all(&limiter).await;
    let counts = limiter.counts();
    assert_eq!((counts.by_share, counts.timeouts, counts.failures), (0, 0, 0), "{counts:?}");
}

/// Each behaviour has keys of its own.
async fn all(limiter: &dyn Limiter) {
    a_burst_and_then_a_wait(limiter).await;
    who_waits_as_told_is_allowed(limiter).await;
    the_narrowest_window_decides(limiter).await;
    a_refused_call_is_not_charged(limiter).await;
    keys_are_independent(limiter).await;
    units_are_independent(limiter).await;
    estimates_are_corrected(limiter).await;
    a_large_call_is_paid_for_by_the_next(limiter).await;
    a_changed_limit_applies_at_once(limiter).await;
    without_windows_there_is_no_limit(limiter).await;
    what_is_reset_owes_nothing(limiter).await;
    what_was_decided_is_counted(limiter).await;
}

async fn what_is_reset_owes_nothing(limiter: &dyn Limiter) {
    let windows = [requests(1, HOUR, 0)];
    for key in ["reset", "not reset"] {
        assert!(limiter.take(key, CALL, &windows).await.is_allowed());
    }
    limiter.reset("reset").await;
    assert!(limiter.take("reset", CALL, &windows).await.is_allowed());
    assert!(!limiter.take("not reset", CALL, &windows).await.is_allowed());
}

async fn a_burst_and_then_a_wait(limiter: &dyn Limiter) {
    let windows = [requests(60, HOUR, 4)];
    for left in (0..5).rev() {
        assert_eq!(remaining(limiter.take("burst", CALL, &windows).await).requests, left);
    }
    let wait = waits(limiter.take("burst", CALL, &windows).await);
    assert!(wait > Duration::from_secs(50) && wait <= Duration::from_mins(1), "{wait:?}");
}

async fn who_waits_as_told_is_allowed(limiter: &dyn Limiter) {
    let windows = [requests(10, Duration::from_secs(1), 0)];
    let before = Instant::now();
    assert!(limiter.take("told", CALL, &windows).await.is_allowed());
    let told = waits(limiter.take("told", CALL, &windows).await);
    assert!(told <= Duration::from_millis(100), "{told:?}");
    wait_for(SOON, async || limiter.take("told", CALL, &windows).await.is_allowed()).await;
    assert!(before.elapsed() >= Duration::from_millis(100));
}

async fn the_narrowest_window_decides(limiter: &dyn Limiter) {
    let windows = [requests(3600, HOUR, 9), requests(48, 24 * HOUR, 2)];
    for left in (0..3).rev() {
        assert_eq!(remaining(limiter.take("narrow", CALL, &windows).await).requests, left);
    }
    let wait = waits(limiter.take("narrow", CALL, &windows).await);
    assert!(wait > Duration::from_mins(29) && wait <= Duration::from_mins(30), "{wait:?}");
}

async fn a_refused_call_is_not_charged(limiter: &dyn Limiter) {
    let (wide, narrow) = (requests(60, HOUR, 9), tokens(60, HOUR, 0));
    let both = [wide, narrow];
    assert!(limiter.take("refused", Amount::request(1), &both).await.is_allowed());
    for _ in 0..5 {
        waits(limiter.take("refused", Amount::request(1), &both).await);
    }
    assert_eq!(remaining(limiter.take("refused", CALL, &[wide]).await).requests, 8);
}

async fn keys_are_independent(limiter: &dyn Limiter) {
    let windows = [requests(1, HOUR, 0)];
    for key in ["org/a", "org/b", "org/", "org:a", "ключ {x} \n"] {
        assert!(limiter.take(key, CALL, &windows).await.is_allowed(), "{key}");
        waits(limiter.take(key, CALL, &windows).await);
    }
}

async fn units_are_independent(limiter: &dyn Limiter) {
    let windows = [requests(60, HOUR, 9), tokens(36_000, HOUR, 999)];
    let left = remaining(limiter.take("units", Amount::request(400), &windows).await);
    assert_eq!(left.requests, 9);
    assert!((600..=610).contains(&left.tokens), "{left:?}");
    let left = remaining(limiter.take("units", CALL, &windows[..1]).await);
    assert_eq!((left.requests, left.tokens), (8, u64::MAX));
}

async fn estimates_are_corrected(limiter: &dyn Limiter) {
    let windows = [requests(60, HOUR, 9), tokens(3600, HOUR, 999)];
    let take = async |amount| limiter.take("estimate", Amount { requests: 0, tokens: amount }, &windows).await;
    let correct = async |by| limiter.correct("estimate", by, &windows).await;
    let left = |decision| remaining(decision).tokens;

    assert!((600..=602).contains(&left(take(400).await)));
    correct(Correction::tokens(100, 400)).await;
    assert!((900..=905).contains(&left(take(0).await)));
    correct(Correction::tokens(2_100, 400)).await;
    // 1,800 are owed now, 1,000 may be: 800 seconds at one a second, and one for the token that is asked for.
    let wait = waits(take(1).await);
    assert!(wait > Duration::from_secs(780) && wait <= Duration::from_secs(801), "{wait:?}");
    correct(Correction::tokens(0, 1_000_000)).await;
    assert!((999..=1_000).contains(&left(take(0).await)), "never more than was there at first");
    correct(Correction { requests: -1, tokens: 0 }).await;
    assert_eq!(remaining(take(0).await).requests, 10);
}

async fn a_large_call_is_paid_for_by_the_next(limiter: &dyn Limiter) {
    let windows = [tokens(3600, HOUR, 99)];
    assert_eq!(remaining(limiter.take("large", Amount::request(600), &windows).await).tokens, 0);
    let wait = waits(limiter.take("large", Amount::request(1), &windows).await);
    assert!(wait > Duration::from_secs(490) && wait <= Duration::from_secs(501), "{wait:?}");
}

async fn a_changed_limit_applies_at_once(limiter: &dyn Limiter) {
    assert!(limiter.take("changed", CALL, &[requests(1, HOUR, 0)]).await.is_allowed());
    waits(limiter.take("changed", CALL, &[requests(1, HOUR, 0)]).await);
    assert!(limiter.take("changed", CALL, &[requests(1, HOUR, 1)]).await.is_allowed());
    waits(limiter.take("changed", CALL, &[requests(1, HOUR, 1)]).await);
}

async fn without_windows_there_is_no_limit(limiter: &dyn Limiter) {
    let left = remaining(limiter.take("free", Amount::request(u64::MAX), &[]).await);
    assert_eq!(left, Amount { requests: u64::MAX, tokens: u64::MAX });
    limiter.correct("free", Correction::tokens(5, 3), &[]).await;
}

async fn what_was_decided_is_counted(limiter: &dyn Limiter) {
    let before = limiter.counts();
    let windows = [requests(1, HOUR, 1)];
    for _ in 0..5 {
        limiter.take("counted", CALL, &windows).await;
    }
    let after = limiter.counts();
    assert_eq!((after.allowed - before.allowed, after.waits - before.waits, after.replicas), (2, 3, 1));
}
