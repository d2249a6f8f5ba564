//! Postgres and Redis go away and come back under load.

use std::time::{Duration, Instant};

use tokio::task::block_in_place;
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;
use tutti_error::Reason;
use tutti_simulator::Scenario;
use tutti_testkit::wait_for;

use crate::{
    load::{Call, Load, failures},
    support::{Cluster, PATIENCE, POSTGRES, Replica, Service, get, metric},
};

/// A call that fails because Postgres is away doesn't wait for it longer, also on a busy machine.
const SOON: Duration = Duration::from_secs(10);
/// As fast as they can.
const PACE: Duration = Duration::from_millis(1);
/// Conversations at a time.
const CONVERSATIONS: usize = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_postgres_calls_fail_typed_and_soon_and_with_it_all_is_well_again() {
    let cluster = Cluster::start_with(POSTGRES).await;
    let load = Load::start(&cluster, CONVERSATIONS, PACE, false);
    load.goes_on(CONVERSATIONS).await;
    block_in_place(|| cluster.postgres.stop());
    for replica in cluster.replicas.iter().filter(|replica| replica.service.needs_store()) {
        until_not_ready(replica).await;
        assert_eq!(get(replica, "/livez").await.0, 200, "{:?}", replica.service);
    }
    load.goes_on(2 * CONVERSATIONS).await;
    block_in_place(|| cluster.postgres.start_again());
    for replica in &cluster.replicas {
        replica.until_ready().await;
    }
    let back = Instant::now();
    load.goes_on(2 * CONVERSATIONS).await;
    let calls = load.end().await;

    let failed = failures(&calls);
    assert!(failed.len() >= CONVERSATIONS, "only {} calls failed", failed.len());
    for call in &failed {
        let failure = call.failure.as_ref().unwrap();
        // Not DEADLINE_EXCEEDED: nobody waits for what isn't there.
        assert_eq!((failure.code, failure.reason), (Code::Unavailable, Reason::StoreUnavailable), "{call:#?}");
        assert!(call.took < SOON, "{call:#?}");
    }
    let later: Vec<&Call> = failed.into_iter().filter(|call| call.began > back).collect();
    assert!(later.is_empty(), "Postgres is back, and yet: {later:#?}");
    cluster.assert_books_agree().await;
}

async fn until_not_ready(replica: &Replica) {
    wait_for(PATIENCE, async || {
        let health = replica.health().await;
        let (status, body) = get(replica, "/readyz").await;
        let is_lost = (health, status) == (Some(ServingStatus::NotServing), 503);
        is_lost.then_some(()).ok_or((replica.service, health, status, body))
    })
    .await;
}

/// What a call may wait longer for a Redis that is not well, at the 95th percentile.
const LONGER: Duration = Duration::from_millis(50);
/// Few conversations at a time, so that calls don't wait for each other.
const FEW: usize = 4;
/// Rounds of a measurement.
const ROUNDS: usize = 3;
/// Turns of a round, whose calls are measured.
const MEASURED: usize = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_no_call_fails_and_none_waits() {
    let mut cluster = Cluster::start().await;
    // Providers that answer at once: what is measured is ours.
    cluster.sim.set_scenario(Scenario::new());
    measured(&cluster, "warming up").await;
    let before = measured_with_redis(&cluster, "before").await;
    cluster.redis.freeze();
    let frozen = measured_without_redis(&cluster, "frozen").await;
    cluster.redis.thaw();
    let thawed = measured_with_redis(&cluster, "thawed").await;
    cluster.redis.stop();
    let stopped = measured_without_redis(&cluster, "stopped").await;
    cluster.redis.restart().await;
    let back = measured_with_redis(&cluster, "back").await;
    let well = before.max(thawed).max(back);
    assert!(frozen.max(stopped) <= well + LONGER, "{frozen:?} frozen, {stopped:?} stopped, {well:?} well");
    cluster.assert_books_agree().await;
}

/// What the limits of the gateways have decided: all, and without Redis.
async fn decided(cluster: &Cluster) -> (f64, f64) {
    let (mut all, mut alone) = (0.0, 0.0);
    for gateway in cluster.replicas.iter().filter(|replica| replica.service == Service::Gateway) {
        all += metric(gateway, "tutti_limit_decisions_total").await;
        alone += metric(gateway, "tutti_limits_by_share_total").await;
    }
    (all, alone)
}

/// Measures once the gateways ask Redis for every attempt: they find out by themselves that it is back.
async fn measured_with_redis(cluster: &Cluster, when: &str) -> Duration {
    wait_for(PATIENCE, async || {
        let (before, alone) = decided(cluster).await;
        let took = measured(cluster, when).await;
        let (all, still_alone) = decided(cluster).await;
        assert!(all > before, "{when}: no attempt was charged");
        if still_alone > alone { Err(still_alone - alone) } else { Ok(took) }
    })
    .await
}

/// Measures while Redis is away; the gateways decide alone.
async fn measured_without_redis(cluster: &Cluster, when: &str) -> Duration {
    let (_, before) = decided(cluster).await;
    let took = measured(cluster, when).await;
    let (_, alone) = decided(cluster).await;
    assert!(alone > before, "{when}: nothing was decided without Redis");
    took
}

/// The 95th percentile of the time that calls took, none of which may fail: that of the best of several rounds, since
/// a busy machine makes single rounds slower and none faster.
async fn measured(cluster: &Cluster, when: &str) -> Duration {
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        best = best.min(round(cluster, when).await);
    }
    best
}

async fn round(cluster: &Cluster, when: &str) -> Duration {
    let load = Load::start(cluster, FEW, PACE, false);
    load.goes_on(MEASURED).await;
    let calls = load.end().await;
    let failed = failures(&calls);
    assert!(failed.is_empty(), "{when}: {failed:#?}");
    let mut took: Vec<Duration> = calls.iter().map(|call| call.took).collect();
    took.sort_unstable();
    took[took.len() * 95 / 100]
}
