//! What every store of the books does: run for SQLite here, and for Postgres in the cluster profile.

use std::time::Duration;

use tutti_error::Reason;
use tutti_proto::llm::v1::Attribution;
use tutti_types::Scope;

use super::{AuditStore, Begun, SqliteStore};
use crate::domain::{CallResult, Claim, Decision, Ending, Filter, NewRecord, Verdict};

fn scope(org: &str) -> Scope {
    Scope { org: org.into(), principal: "alice".into() }
}

fn record(tool: &str, started_at: i64) -> NewRecord {
    NewRecord {
        request_id: "r".into(),
        tool_call_id: "c".into(),
        tool: tool.into(),
        workspace: "default".into(),
        arguments_json: "{}".into(),
        attribution: Attribution { session_id: "s".into(), team: "t".into(), ..Default::default() },
        verdict: Verdict::new(Decision::Allowed, "no reason against it"),
        isolation: "workspace".into(),
        started_at,
    }
}

fn ending() -> Ending {
    Ending {
        success: false,
        reason: Some(Reason::ToolTimeout),
        error: "too slow".into(),
        exit_code: Some(-1),
        output_bytes: 7,
        duration: Duration::from_micros(1_234_567),
    }
}

fn claim(key: &str) -> Claim {
    Claim { key: key.into(), body_hash: vec![1, 2, 3] }
}

fn result() -> CallResult {
    CallResult {
        tool: "bash".into(),
        success: true,
        output: "out".into(),
        error: String::new(),
        reason: 0,
        duration: Duration::from_millis(5),
        approved: true,
        truncated: false,
        exit_code: Some(0),
        isolation: "none".into(),
    }
}

fn all() -> Filter {
    Filter { limit: 100, ..Filter::default() }
}

async fn begin(store: &dyn AuditStore, scope: &Scope, record: &NewRecord, claim: Option<&Claim>) -> i64 {
    match store.begin(scope, record, claim, None).await.unwrap() {
        Begun::New(seq) => seq,
        Begun::Taken(previous) => panic!("taken by {previous:?}"),
    }
}

/// A record is there before the call has ended, unfinished, and complete after it.
async fn records_are_begun_and_completed(store: &dyn AuditStore) {
    let scope = scope("completed");
    let seq = begin(store, &scope, &record("bash", 5), None).await;
    let found = store.query(&scope, &all()).await.unwrap().remove(0);
    assert_eq!((found.seq, found.principal.as_str(), &found.ending), (seq, "alice", &None));
    assert_eq!(found.call, record("bash", 5));
    store.finish(&scope, seq, &ending(), None).await.unwrap();
    let found = store.query(&scope, &all()).await.unwrap().remove(0);
    assert_eq!(found.ending, Some(ending()));
    // What is in the books stays.
    store.finish(&scope, seq, &Ending::default(), None).await.unwrap();
    assert_eq!(store.query(&scope, &all()).await.unwrap()[0].ending, Some(ending()));
}

/// A call that never runs is recorded in one piece.
async fn refusals_are_complete_at_once(store: &dyn AuditStore) {
    let scope = scope("refused");
    let refused = NewRecord { verdict: Verdict::new(Decision::NeedsApproval, "ask"), ..record("write", 1) };
    store.begin(&scope, &refused, None, Some(&ending())).await.unwrap();
    let found = store.query(&scope, &all()).await.unwrap().remove(0);
    assert_eq!((found.call, found.ending), (refused, Some(ending())));
}

/// A key stands for the first call that claims it, and keeps its result.
async fn keys_are_claimed_once(store: &dyn AuditStore) {
    let scope = scope("claimed");
    assert_eq!(store.previous(&scope, "k").await.unwrap(), None);
    let seq = begin(store, &scope, &record("bash", 1), Some(&claim("k"))).await;
    let other = Claim { body_hash: vec![9], ..claim("k") };
    let Begun::Taken(previous) = store.begin(&scope, &record("bash", 2), Some(&other), None).await.unwrap() else {
        panic!("claimed twice");
    };
    assert_eq!((previous.seq, previous.body_hash, previous.result), (seq, vec![1, 2, 3], None));
    assert_eq!(store.query(&scope, &all()).await.unwrap().len(), 1, "a refused claim leaves no record");
    store.finish(&scope, seq, &ending(), Some(&result())).await.unwrap();
    assert_eq!(store.previous(&scope, "k").await.unwrap().unwrap().result, Some(result()));
}

/// Orgs see neither each other's records nor keys, and can't complete them.
async fn orgs_are_apart(store: &dyn AuditStore) {
    let (ours, theirs) = (scope("ours"), scope("theirs"));
    let seq = begin(store, &ours, &record("bash", 1), Some(&claim("shared"))).await;
    assert!(store.query(&theirs, &all()).await.unwrap().is_empty());
    assert_eq!(store.previous(&theirs, "shared").await.unwrap(), None);
    store.finish(&theirs, seq, &ending(), Some(&result())).await.unwrap();
    assert_eq!(store.query(&ours, &all()).await.unwrap()[0].ending, None);
    assert_eq!(store.previous(&ours, "shared").await.unwrap().unwrap().result, None);
    begin(store, &theirs, &record("bash", 1), Some(&claim("shared"))).await;
}

/// Every filter takes away what it should, and pages follow each other.
async fn filters_and_pages(store: &dyn AuditStore) {
    let scope = scope("filtered");
    let mut seqs = Vec::new();
    for (index, tool) in ["read", "write", "bash", "read"].into_iter().enumerate() {
        let at = i64::try_from(index).unwrap();
        let record = NewRecord {
            request_id: format!("r{index}"),
            workspace: format!("w{}", index % 2),
            attribution: Attribution { session_id: format!("s{}", index / 2), ..Default::default() },
            ..record(tool, 100 + at)
        };
        seqs.push(begin(store, &scope, &record, None).await);
    }
    assert!(seqs.is_sorted(), "{seqs:?}");
    let cases = [
        (Filter { tool: "read".into(), ..all() }, vec![3, 0]),
        (Filter { request_id: "r2".into(), ..all() }, vec![2]),
        (Filter { session_id: "s1".into(), ..all() }, vec![3, 2]),
        (Filter { workspace: "w1".into(), ..all() }, vec![3, 1]),
        (Filter { from: Some(101), to: Some(103), ..all() }, vec![2, 1]),
        (Filter { tool: "read".into(), workspace: "w0".into(), ..all() }, vec![0]),
        (Filter { limit: 3, ..all() }, vec![3, 2, 1]),
        (Filter { below: Some(seqs[1]), ..all() }, vec![0]),
    ];
    for (filter, expected) in cases {
        let found: Vec<i64> = store.query(&scope, &filter).await.unwrap().iter().map(|record| record.seq).collect();
        let expected: Vec<i64> = expected.into_iter().map(|index: usize| seqs[index]).collect();
        assert_eq!(found, expected, "{filter:?}");
    }
}

async fn all_behaviours(store: &dyn AuditStore) {
    records_are_begun_and_completed(store).await;
    refusals_are_complete_at_once(store).await;
    keys_are_claimed_once(store).await;
    orgs_are_apart(store).await;
    filters_and_pages(store).await;
}

#[tokio::test]
async fn sqlite_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path()).await.unwrap();
    all_behaviours(&store).await;
    store.close().await;
}

#[tokio::test]
async fn sqlite_keeps_records_across_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path()).await.unwrap();
    let scope = scope("restarted");
    begin(&store, &scope, &record("bash", 1), Some(&claim("k"))).await;
    store.close().await;
    drop(store);
    let store = SqliteStore::open(dir.path()).await.unwrap();
    assert_eq!(store.query(&scope, &all()).await.unwrap()[0].ending, None);
    assert_eq!(store.previous(&scope, "k").await.unwrap().unwrap().result, None);
}
