//! Many calls at once, a stuck disk, a broken one, and the end of the process.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use tonic::Code;
use tutti_proto::{
    ledger::v1::{GetUsageRequest, ListUsageRequest, SettleManyRequest, UsageState},
    llm::v1::ErrorReason,
};
use usage_ledger::store::SqliteStore;

use crate::{
    gate::Gate,
    support::{Ledger, assert_reason, call, config, ledger, release, reserve, settle, with_store},
};

const SOON: Duration = Duration::from_millis(50);

/// A ledger of this queue whose disk is stuck.
async fn stuck(queue: usize) -> (Ledger, Arc<Gate>) {
    let dir = tempfile::tempdir().unwrap();
    let gate = Gate::shut(Arc::new(SqliteStore::open(dir.path()).await.unwrap()));
    let store: Arc<Gate> = Arc::clone(&gate);
    (with_store(&config(queue), store, dir), gate)
}

#[tokio::test]
async fn concurrent_calls_share_transactions() {
    let ledger = ledger().await;
    let spend = |n: i64| {
        let mut client = ledger.client.clone();
        async move {
            let asked = reserve();
            let told = settle(&asked.attempt_id, n);
            client.reserve(asked).await.unwrap();
            client.settle(told).await.unwrap();
        }
    };
    join_all((0..200).map(spend)).await;
    let records = ledger.records().await;
    assert_eq!(records.len(), 200);
    assert!(records.iter().all(|record| record.state() == UsageState::Settled));
    let cost: i64 = records.iter().map(|record| record.cost_nano_usd).sum();
    assert_eq!(cost, (0..200).sum::<i64>() * 10_000);
    let written = ledger.app.statistics();
    assert_eq!(written.changes, 400);
    assert!(written.commits < 200, "{written:?}");
}

#[tokio::test]
async fn a_full_queue_refuses_and_says_when_to_try_again() {
    let (ledger, gate) = stuck(2).await;
    let spawn = || {
        let mut client = ledger.client.clone();
        async move { client.reserve(reserve()).await }
    };
    let first = tokio::task::JoinSet::from_iter([spawn()]);
    gate.reached().await;
    // One is being written and two wait: of three more, one is too many.
    let more = tokio::task::JoinSet::from_iter([spawn(), spawn(), spawn()]);
    let mut client = ledger.client.clone();
    let mut refused = Vec::new();
    while refused.is_empty() {
        if let Err(status) = client.reserve(call(reserve(), "default", SOON)).await
            && status.code() == Code::ResourceExhausted
        {
            refused.push(status);
        }
    }
    assert_reason(&refused[0], Code::ResourceExhausted, ErrorReason::Overloaded);
    assert!(tutti_error::from_status(&refused[0], "ledger").retry_delay().is_some());
    gate.open();
    assert!(first.join_all().await[0].is_ok());
    let written = more.join_all().await.into_iter().filter(Result::is_ok).count();
    assert_eq!(ledger.records().await.len(), 1 + written);
    assert!(written <= 2, "{written}");
}

#[tokio::test]
async fn every_call_ends_at_its_deadline() {
    let (mut ledger, gate) = stuck(16).await;
    let id = reserve().attempt_id;
    let late = [
        ledger.client.reserve(call(reserve(), "default", SOON)).await.unwrap_err(),
        ledger.client.settle(call(settle(&id, 1), "default", SOON)).await.unwrap_err(),
        ledger
            .client
            .settle_many(call(SettleManyRequest { settlements: vec![settle(&id, 1)] }, "default", SOON))
            .await
            .unwrap_err(),
        ledger.client.release(call(release(&id), "default", SOON)).await.unwrap_err(),
        ledger.client.get_usage(call(GetUsageRequest::default(), "default", SOON)).await.unwrap_err(),
        ledger.client.list_usage(call(ListUsageRequest::default(), "default", SOON)).await.unwrap_err(),
    ];
    for status in late {
        assert_reason(&status, Code::DeadlineExceeded, ErrorReason::DeadlineExceeded);
    }
    gate.open();
}

#[tokio::test]
async fn past_its_deadline_a_settlement_is_recorded_and_a_reservation_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let store: Arc<SqliteStore> = Arc::new(SqliteStore::open(dir.path()).await.unwrap());
    let asked = reserve();
    let before = with_store(&config(16), Arc::<SqliteStore>::clone(&store), dir);
    before.client.clone().reserve(asked.clone()).await.unwrap();

    let gate = Gate::shut(store);
    let same: Arc<Gate> = Arc::clone(&gate);
    let mut ledger = with_store(&config(16), same, before.dir);
    // This one is being written; the others wait behind it.
    let plug = tokio::task::JoinSet::from_iter([{
        let mut client = ledger.client.clone();
        async move { client.reserve(reserve()).await }
    }]);
    gate.reached().await;
    ledger.client.reserve(call(reserve(), "default", SOON)).await.unwrap_err();
    ledger.client.settle(call(settle(&asked.attempt_id, 5), "default", SOON)).await.unwrap_err();
    gate.open();
    plug.join_all().await.remove(0).unwrap();
    // A change behind them, so that they have been written.
    ledger.client.reserve(reserve()).await.unwrap();
    assert_eq!(ledger.records().await.len(), 3);
    assert_eq!(ledger.record(&asked.attempt_id).await.cost_nano_usd, 50_000);
}

#[tokio::test]
async fn a_broken_store_is_told_to_all_and_nothing_is_said_to_be_written() {
    let (ledger, gate) = stuck(16).await;
    gate.break_down();
    let mut client = ledger.client.clone();
    let id = reserve().attempt_id;
    let refused = [
        client.reserve(reserve()).await.unwrap_err(),
        client.settle(settle(&id, 1)).await.unwrap_err(),
        client.release(release(&id)).await.unwrap_err(),
        client.get_usage(GetUsageRequest::default()).await.unwrap_err(),
        client.list_usage(ListUsageRequest::default()).await.unwrap_err(),
    ];
    for status in refused {
        assert_reason(&status, Code::Unavailable, ErrorReason::StoreUnavailable);
    }
    assert_eq!(ledger.app.statistics().commits, 0);
}

#[tokio::test]
async fn what_is_queued_is_written_before_the_end_and_what_comes_later_is_refused() {
    let (ledger, gate) = stuck(16).await;
    let mut client = ledger.client.clone();
    let queued = tokio::task::JoinSet::from_iter([{
        let mut client = client.clone();
        async move { client.reserve(reserve()).await }
    }]);
    gate.reached().await;
    let Ledger { app, dir, .. } = ledger;
    let stopped = tokio::task::JoinSet::from_iter([app.stop(Duration::from_secs(30))]);
    gate.open();
    queued.join_all().await.remove(0).unwrap();
    stopped.join_all().await;
    let refused = client.reserve(reserve()).await.unwrap_err();
    assert_reason(&refused, Code::Unavailable, ErrorReason::ShuttingDown);
    drop(dir);
}
