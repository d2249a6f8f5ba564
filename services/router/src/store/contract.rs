//! What every store of calls does: run for SQLite here, and for Postgres in the cluster profile.

use std::time::{Duration, Instant};

use tutti_config::PostgresConfig;
use tutti_proto::router::v1::{ChatStreamResponse, chat_stream_response::Event};
use tutti_server::Readiness;
use tutti_testkit::{TestPostgres, wait_for};
use tutti_types::{RequestId, Scope, TurnId};

use super::{CallStore, Claimed, PostgresStore, SqliteStore, schema};
use crate::domain::keyed::{Batch, Call, Ending, Held, NewCall, Progress, State};

const PATIENCE: Duration = Duration::from_secs(20);

fn scope(org: &str) -> Scope {
    Scope { org: org.into(), principal: "alice".into() }
}

fn new(key: &str, created_at: i64) -> NewCall {
    NewCall {
        id: TurnId::generate(),
        key: key.into(),
        request_id: RequestId::generate(),
        body_hash: vec![1, 2, 3],
        created_at,
    }
}

fn deltas(seqs: std::ops::RangeInclusive<u64>) -> Vec<ChatStreamResponse> {
    let event =
        |seq| ChatStreamResponse { request_id: "r".into(), seq, event: Some(Event::Delta(format!("piece {seq}"))) };
    seqs.map(event).collect()
}

fn progress(seqs: std::ops::RangeInclusive<u64>) -> Progress {
    Progress { batch: Batch::of(&deltas(seqs)), output: true, attempts: 2, sent: vec![7] }
}

async fn claim(store: &dyn CallStore, scope: &Scope, call: &NewCall) -> Held {
    match store.claim(scope, call, 0).await.unwrap() {
        Claimed::New(held) => held,
        Claimed::Taken(by) => panic!("taken by {by:?}"),
    }
}

async fn taken(store: &dyn CallStore, scope: &Scope, call: &NewCall) -> Call {
    match store.claim(scope, call, 0).await.unwrap() {
        Claimed::New(_) => panic!("claimed twice"),
        Claimed::Taken(by) => by,
    }
}

async fn look(store: &dyn CallStore, held: &Held) -> Call {
    store.look(&held.scope, held.id, false).await.unwrap().unwrap()
}

async fn events(store: &dyn CallStore, held: &Held, after: u64) -> Vec<ChatStreamResponse> {
    let batches = store.events(&held.scope, held.id, after).await.unwrap();
    batches.iter().flat_map(|batch| batch.after(after).unwrap()).collect()
}

/// A key stands for the first call that claims it, of its org.
async fn keys_are_claimed_once(one: &dyn CallStore, other: &dyn CallStore) {
    let ours = scope("claims");
    let first = new("k", 5);
    let held = claim(one, &ours, &first).await;
    assert_eq!((held.id, held.fencing), (first.id, 1));
    let found = taken(other, &ours, &NewCall { body_hash: vec![9], ..new("k", 6) }).await;
    let expected = (first.id, first.request_id, vec![1, 2, 3], 5, 0, 1);
    let is = (found.id, found.request_id, found.body_hash, found.created_at, found.recorded, found.attempts);
    assert_eq!(is, expected);
    claim(other, &scope("claims of others"), &new("k", 6)).await;
    claim(other, &ours, &new("another", 6)).await;
}

/// What was written is read again by anybody, from any place.
async fn events_are_read_from_any_place(one: &dyn CallStore, other: &dyn CallStore) {
    let held = claim(one, &scope("events"), &new("k", 1)).await;
    assert!(one.write(&held, &progress(1..=3), None).await.unwrap());
    assert!(one.write(&held, &progress(4..=4), None).await.unwrap());
    assert_eq!(events(other, &held, 0).await, deltas(1..=4));
    assert_eq!(events(other, &held, 2).await, deltas(3..=4));
    assert_eq!(events(other, &held, 4).await, []);
    assert_eq!(other.last(&held.scope, held.id).await.unwrap().unwrap().after(0).unwrap(), deltas(4..=4));
    let call = look(other, &held).await;
    assert_eq!((call.recorded, call.output, call.attempts, call.sent), (4, true, 2, vec![7]));
    // Notes without events change nothing of them.
    assert!(one.write(&held, &Progress { attempts: 1, sent: vec![8], ..Progress::default() }, None).await.unwrap());
    let call = look(other, &held).await;
    assert_eq!((call.recorded, call.output, call.attempts, call.sent), (4, true, 2, vec![8]));
    let elsewhere = Held { scope: scope("other"), ..held };
    assert_eq!(events(other, &elsewhere, 0).await, []);
    assert_eq!(other.look(&elsewhere.scope, elsewhere.id, true).await.unwrap(), None);
}

/// An answer stands, a failure too; a released one leaves the key to the next.
async fn endings_stand_unless_they_are_released(one: &dyn CallStore, other: &dyn CallStore) {
    let scope = scope("endings");
    let answered = claim(one, &scope, &new("answered", 1)).await;
    assert!(one.write(&answered, &progress(1..=1), Some(&Ending::Answered)).await.unwrap());
    assert_eq!(taken(other, &scope, &new("answered", 2)).await.state, State::Answered);
    assert!(!one.write(&answered, &progress(2..=2), None).await.unwrap(), "nothing follows the end");
    assert_eq!(events(other, &answered, 0).await, deltas(1..=1));

    let failed = claim(one, &scope, &new("failed", 1)).await;
    assert!(one.write(&failed, &Progress::default(), Some(&Ending::Failed(vec![4]))).await.unwrap());
    assert_eq!(taken(other, &scope, &new("failed", 2)).await.state, State::Failed(vec![4]));

    // Also under the same request id.
    let first = new("released", 1);
    let released = claim(one, &scope, &first).await;
    assert!(one.write(&released, &progress(1..=1), Some(&Ending::Released(vec![5]))).await.unwrap());
    let again = claim(other, &scope, &NewCall { id: TurnId::generate(), created_at: 2, ..first.clone() }).await;
    assert_eq!(look(one, &released).await.state, State::Failed(vec![5]));
    let found = other.find(&scope, first.request_id).await.unwrap().unwrap();
    assert_eq!((found.id, found.state), (again.id, State::Running { alive: true }));
    assert_eq!(other.find(&scope, RequestId::generate()).await.unwrap(), None);
}

/// A key that is too old is as good as new.
async fn old_keys_are_free(one: &dyn CallStore, other: &dyn CallStore) {
    let scope = scope("old");
    let old = claim(one, &scope, &new("k", 10)).await;
    let Claimed::Taken(_) = other.claim(&scope, &new("k", 99), 10).await.unwrap() else { panic!("it is new enough") };
    let Claimed::New(held) = other.claim(&scope, &new("k", 99), 11).await.unwrap() else { panic!("it is too old") };
    assert!(held.id != old.id);
    assert!(one.purge(50).await.unwrap() >= 1);
    assert_eq!(one.look(&scope, old.id, false).await.unwrap(), None);
    assert_eq!(events(one, &old, 0).await, []);
    assert!(one.look(&scope, held.id, false).await.unwrap().is_some());
}

/// An owner sees what others want of its calls; those of others are not its own.
async fn owners_look_after_their_own(one: &dyn CallStore, other: &dyn CallStore) {
    let scope = scope("owned");
    let call = new("k", 1);
    let held = claim(one, &scope, &call).await;
    let mine = async || one.owned().await.unwrap().into_iter().find(|owned| owned.id == held.id).unwrap();
    assert_eq!((mine().await.fencing, mine().await.cancelled), (1, false));
    assert!(other.owned().await.unwrap().iter().all(|owned| owned.id != held.id));
    assert!(!other.cancel(&super::contract::scope("elsewhere"), call.request_id).await.unwrap());
    assert!(other.cancel(&scope, call.request_id).await.unwrap());
    assert!(mine().await.cancelled);
    let old = Duration::from_millis(25);
    wait_for(PATIENCE, async || (mine().await.unread >= old).then_some(())).await;
    let before = Instant::now();
    other.look(&scope, held.id, true).await.unwrap();
    let unread = mine().await.unread;
    assert!(unread <= before.elapsed(), "{unread:?}");
    assert!(one.write(&held, &Progress::default(), Some(&Ending::Failed(vec![1]))).await.unwrap());
    assert!(!other.cancel(&scope, call.request_id).await.unwrap(), "it has ended");
    assert!(one.owned().await.unwrap().iter().all(|owned| owned.id != held.id));
}

/// Of an owner that died, one takes the call over, and the dead one's writes are refused.
async fn the_dead_are_fenced(dead: &dyn CallStore, held: &Held, heir: &dyn CallStore) {
    assert_eq!(look(heir, held).await.state, State::Running { alive: false });
    assert_eq!(heir.take_over(&held.scope, held.id, held.fencing + 1).await.unwrap(), None);
    let (taken, before) = heir.take_over(&held.scope, held.id, held.fencing).await.unwrap().unwrap();
    assert_eq!((taken.fencing, before.recorded, before.output, before.attempts), (2, 2, true, 3));
    assert_eq!(heir.take_over(&held.scope, held.id, held.fencing).await.unwrap(), None, "it is alive");
    assert_eq!(heir.take_over(&held.scope, held.id, taken.fencing).await.unwrap(), None, "it is alive");
    assert!(!dead.write(held, &progress(3..=3), None).await.unwrap());
    assert!(!dead.write(held, &progress(3..=3), Some(&Ending::Answered)).await.unwrap());
    assert!(heir.write(&taken, &progress(3..=4), Some(&Ending::Answered)).await.unwrap());
    assert_eq!(events(heir, held, 0).await, deltas(1..=4));
}

async fn all_behaviours(one: &dyn CallStore, other: &dyn CallStore) {
    keys_are_claimed_once(one, other).await;
    events_are_read_from_any_place(one, other).await;
    endings_stand_unless_they_are_released(one, other).await;
    owners_look_after_their_own(one, other).await;
    old_keys_are_free(one, other).await;
}

/// A database with the tables: its name and how to reach it.
async fn database() -> (String, PostgresConfig) {
    let url = TestPostgres::shared().database();
    let name = url.rsplit('/').next().unwrap().to_owned();
    let config = PostgresConfig::new(url);
    schema().migrate(&config).await.unwrap();
    (name, config)
}

async fn postgres(config: &PostgresConfig) -> PostgresStore {
    PostgresStore::open(config, Duration::from_secs(60), &Readiness::default()).await.unwrap()
}

#[tokio::test]
async fn sqlite_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path()).await.unwrap();
    // There is one process at a time: the other one stands for a visitor, whose owner is dead to the first.
    keys_are_claimed_once(&store, &store).await;
    events_are_read_from_any_place(&store, &store).await;
    endings_stand_unless_they_are_released(&store, &store).await;
    owners_look_after_their_own(&store, &store.successor()).await;
    old_keys_are_free(&store, &store).await;
    let held = claim(&store, &scope("dead"), &new("k", 1)).await;
    assert!(store.write(&held, &progress(1..=2), None).await.unwrap());
    assert_eq!(store.take_over(&held.scope, held.id, held.fencing).await.unwrap(), None, "it is alive");
    the_dead_are_fenced(&store, &held, &store.successor()).await;
    store.close().await;
}

#[tokio::test]
async fn postgres_keeps_the_contract() {
    let (_, config) = database().await;
    all_behaviours(&postgres(&config).await, &postgres(&config).await).await;
    // And behind a pgbouncer.
    let config = PostgresConfig { pgbouncer: true, ..database().await.1 };
    all_behaviours(&postgres(&config).await, &postgres(&config).await).await;
}

#[tokio::test]
async fn replicas_whose_lease_ran_out_are_dead() {
    let (name, config) = database().await;
    let (one, other) = (postgres(&config).await, postgres(&config).await);
    let held = claim(&one, &scope("dead"), &new("k", 1)).await;
    assert!(one.write(&held, &progress(1..=2), None).await.unwrap());
    assert_eq!(other.take_over(&held.scope, held.id, held.fencing).await.unwrap(), None, "it is alive");
    let sql = "UPDATE router.leases SET expires_at = now() WHERE owner IN (SELECT owner FROM router.calls)";
    TestPostgres::shared().sql(&name, sql);
    the_dead_are_fenced(&one, &held, &other).await;
}

#[tokio::test]
async fn of_many_replicas_one_gets_a_key() {
    let (_, config) = database().await;
    let stores = [postgres(&config).await, postgres(&config).await];
    let scope = scope("race");
    let claims = (0..40).map(|n| {
        let (store, scope) = (&stores[n % 2], &scope);
        async move { store.claim(scope, &new(&format!("k{}", n / 4), 1), 0).await.unwrap() }
    });
    let claimed = futures::future::join_all(claims).await;
    assert_eq!(claimed.iter().filter(|claimed| matches!(claimed, Claimed::New(_))).count(), 10);
}
