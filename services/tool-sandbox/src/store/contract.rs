//! What every store of the books does: run for SQLite here, and for Postgres in the cluster profile.

use std::time::Duration;

use tutti_error::Reason;
use tutti_proto::llm::v1::Attribution;
use tutti_types::Scope;

use tutti_config::PostgresConfig;
use tutti_server::Readiness;
use tutti_testkit::TestPostgres;

use super::{AuditStore, Begun, PostgresStore, SqliteStore, schema};
use crate::domain::{CallResult, Claim, Decision, Ending, Filter, Integrity, NewRecord, Verdict};

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
        retries: 2,
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

/// Keys are forgotten by age, the calls are not.
async fn keys_are_purged(store: &dyn AuditStore) {
    let scope = scope("purged");
    // Older than what the other behaviours leave.
    begin(store, &scope, &record("bash", -200), Some(&claim("old"))).await;
    begin(store, &scope, &record("bash", -100), Some(&claim("new"))).await;
    assert_eq!(store.purge_claims(-100).await.unwrap(), 1);
    assert_eq!(store.previous(&scope, "old").await.unwrap(), None);
    assert!(store.previous(&scope, "new").await.unwrap().is_some());
    begin(store, &scope, &record("bash", -50), Some(&claim("old"))).await;
    assert_eq!(store.query(&scope, &all()).await.unwrap().len(), 3);
}

/// Begins three calls and ends two: five rows.
async fn five_rows(store: &dyn AuditStore, scope: &Scope) {
    let tags = [("a", "1"), ("b", "2"), ("c", "3")].map(|(label, value)| (label.to_owned(), value.to_owned()));
    let attribution = Attribution { tags: tags.into(), ..record("bash", 1).attribution };
    let first = begin(store, scope, &NewRecord { attribution, ..record("bash", 1) }, None).await;
    let second = begin(store, scope, &record("write", 2), None).await;
    store.finish(scope, second, &ending(), None).await.unwrap();
    store.finish(scope, first, &Ending { success: true, ..Ending::default() }, None).await.unwrap();
    begin(store, scope, &record("read", 3), None).await;
}

/// An untouched chain is intact, however its rows came and whoever else writes.
async fn chains_are_intact(store: &dyn AuditStore) {
    let (one, two, none) = (scope("chained"), scope("chained too"), scope("chained never"));
    assert_eq!(store.verify(&none).await.unwrap(), Integrity::Intact { rows: 0 });
    five_rows(store, &one).await;
    five_rows(store, &two).await;
    store.begin(&one, &record("bash", 4), None, Some(&ending())).await.unwrap();
    // What is not recorded leaves nothing in the chain.
    begin(store, &two, &record("bash", 5), Some(&claim("k"))).await;
    let taken = store.begin(&two, &record("bash", 5), Some(&claim("k")), None).await.unwrap();
    assert!(matches!(taken, Begun::Taken(_)));
    assert_eq!(store.verify(&one).await.unwrap(), Integrity::Intact { rows: 7 });
    assert_eq!(store.verify(&two).await.unwrap(), Integrity::Intact { rows: 6 });
}

/// What somebody did to the books behind the store's back, as SQL on the rows of org `ORG`, is found at its place.
/// `tamper` runs a statement, with what guards the tables switched off.
async fn tampering_is_found(store: &dyn AuditStore, tamper: impl AsyncFn(String)) {
    let calls = |link: i64| format!("org = 'ORG' AND link = {link}");
    let cases = [
        (format!("UPDATE tool_calls SET arguments_json = '[]' WHERE {}", calls(2)), 2),
        (format!("UPDATE tool_calls SET principal = 'mallory' WHERE {}", calls(1)), 1),
        (format!("UPDATE tool_calls SET session_id = 'other' WHERE {}", calls(5)), 5),
        (format!("UPDATE tool_calls SET decision = 'unheard of' WHERE {}", calls(1)), 1),
        (format!("UPDATE tool_call_endings SET exit_code = NULL WHERE {}", calls(3)), 3),
        (format!("DELETE FROM tool_call_endings WHERE {}", calls(4)), 4),
        (format!("DELETE FROM tool_calls WHERE {}", calls(5)), 5),
        ("UPDATE chain_heads SET link = 4 WHERE org = 'ORG'".to_owned(), 4),
        ("UPDATE chain_heads SET link = 6 WHERE org = 'ORG'".to_owned(), 6),
    ];
    for (index, (sql, link)) in cases.into_iter().enumerate() {
        let scope = scope(&format!("tampered {index}"));
        five_rows(store, &scope).await;
        tamper(sql.replace("ORG", &scope.org)).await;
        assert_eq!(store.verify(&scope).await.unwrap(), Integrity::Broken { link }, "{sql}");
    }
}

async fn all_behaviours(store: &dyn AuditStore) {
    records_are_begun_and_completed(store).await;
    refusals_are_complete_at_once(store).await;
    keys_are_claimed_once(store).await;
    orgs_are_apart(store).await;
    filters_and_pages(store).await;
    keys_are_purged(store).await;
    chains_are_intact(store).await;
}

#[tokio::test]
async fn sqlite_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path()).await.unwrap();
    all_behaviours(&store).await;
    store.close().await;
}

#[tokio::test]
async fn sqlite_finds_tampering_and_refuses_changes() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path()).await.unwrap();
    five_rows(&store, &scope("refused")).await;
    for table in ["tool_calls", "tool_call_endings"] {
        for change in [format!("UPDATE {table} SET link = link"), format!("DELETE FROM {table}")] {
            let error = store.change(&change).await.unwrap_err();
            assert!(error.to_string().contains("append-only"), "{error}");
        }
    }
    for trigger in ["calls_stay", "calls_are_kept", "call_endings_stay", "call_endings_are_kept"] {
        store.change(&format!("DROP TRIGGER tool_{trigger}")).await.unwrap();
    }
    tampering_is_found(&store, async |sql: String| store.change(&sql).await.unwrap()).await;
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

/// A database with the tables: its name and how to reach it.
async fn database() -> (String, PostgresConfig) {
    let url = TestPostgres::shared().database();
    let name = url.rsplit('/').next().unwrap().to_owned();
    let config = PostgresConfig::new(url);
    schema().migrate(&config).await.unwrap();
    (name, config)
}

#[tokio::test]
async fn postgres_keeps_the_contract() {
    let (_, config) = database().await;
    let store = PostgresStore::open(&config, &Readiness::default()).await.unwrap();
    all_behaviours(&store).await;
    store.close().await;
    // And behind a pgbouncer.
    let config = PostgresConfig { pgbouncer: true, ..database().await.1 };
    all_behaviours(&PostgresStore::open(&config, &Readiness::default()).await.unwrap()).await;
}

#[tokio::test]
async fn postgres_finds_tampering_and_refuses_changes() {
    let (name, config) = database().await;
    let store = PostgresStore::open(&config, &Readiness::default()).await.unwrap();
    let change = |sql: &str| TestPostgres::shared().sql(&name, &format!("SET search_path = sandbox; {sql}"));
    for table in ["tool_calls", "tool_call_endings"] {
        for refused in [
            format!("UPDATE {table} SET link = link"),
            format!("DELETE FROM {table}"),
            format!("TRUNCATE {table} CASCADE"),
        ] {
            change(&format!(
                "DO $$ BEGIN {refused}; ASSERT false, 'it was not refused'; EXCEPTION WHEN raise_exception THEN NULL; END $$"
            ));
        }
        change(&format!("DROP TRIGGER {table}_stay ON {table}"));
    }
    tampering_is_found(&store, async |sql: String| drop(change(&sql))).await;
}

#[tokio::test]
async fn a_replica_waits_for_what_another_one_runs() {
    let (name, config) = database().await;
    let (one, other) = (
        PostgresStore::open(&config, &Readiness::default()).await.unwrap(),
        PostgresStore::open(&config, &Readiness::default()).await.unwrap(),
    );
    let scope = scope("replicas");
    let seq = begin(&one, &scope, &record("bash", 1), Some(&claim("k"))).await;
    let Begun::Taken(taken) = other.begin(&scope, &record("bash", 1), Some(&claim("k")), None).await.unwrap() else {
        panic!("claimed twice");
    };
    assert!(taken.runs_elsewhere && taken.result.is_none());
    assert!(!one.previous(&scope, "k").await.unwrap().unwrap().runs_elsewhere, "its own calls hold their keys");
    // The first replica is gone for longer than its lease.
    let past = "UPDATE sandbox.leases SET expires_at = now()";
    TestPostgres::shared().sql(&name, past);
    assert!(!other.previous(&scope, "k").await.unwrap().unwrap().runs_elsewhere);
    one.finish(&scope, seq, &ending(), Some(&result())).await.unwrap();
    let done = other.previous(&scope, "k").await.unwrap().unwrap();
    assert_eq!((done.result, done.runs_elsewhere), (Some(result()), false));
}

#[tokio::test]
async fn replicas_share_one_chain_and_claim_a_key_once() {
    let (_, config) = database().await;
    let (one, other) = (
        PostgresStore::open(&config, &Readiness::default()).await.unwrap(),
        PostgresStore::open(&config, &Readiness::default()).await.unwrap(),
    );
    let scope = scope("replicas");
    let calls = (0..40).map(|n| {
        let store = if n % 2 == 0 { &one } else { &other };
        let (scope, claim) = (&scope, claim(&format!("k{}", n / 2)));
        async move { store.begin(scope, &record("bash", n), Some(&claim), None).await.unwrap() }
    });
    let begun = futures::future::join_all(calls).await;
    assert_eq!(begun.iter().filter(|begun| matches!(begun, Begun::New(_))).count(), 20);
    assert_eq!(one.verify(&scope).await.unwrap(), Integrity::Intact { rows: 20 });
}

#[tokio::test]
async fn texts_that_postgres_cannot_keep_are_kept_readable() {
    let (_, config) = database().await;
    let store = PostgresStore::open(&config, &Readiness::default()).await.unwrap();
    let scope = scope("nul");
    let seq = begin(&store, &scope, &NewRecord { tool_call_id: "a\0b".into(), ..record("bash", 1) }, None).await;
    store.finish(&scope, seq, &Ending { error: "no file \0".into(), ..ending() }, None).await.unwrap();
    let found = store.query(&scope, &all()).await.unwrap().remove(0);
    assert_eq!(
        (found.call.tool_call_id.as_str(), found.ending.unwrap().error.as_str()),
        ("a\u{fffd}b", "no file \u{fffd}")
    );
    assert_eq!(store.verify(&scope).await.unwrap(), Integrity::Intact { rows: 2 });
}
