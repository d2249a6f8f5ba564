//! The contract on Postgres, and what replicas do to each other. (SQLite has one process: it is refused a second.)

use std::{sync::Arc, time::Duration};

use tutti_layers::CallContext;
use tutti_proto::llm::v1::{AttemptOutcome, Attribution, ErrorReason, FinishReason};
use tutti_server::Tasks;
use tutti_testkit::TestPostgres;
use tutti_types::{Deadline, NanoUsd, TokenCounts, UnitPrices};

use super::*;
use crate::{
    changes::expire_holds,
    domain::{Reservation, Settlement, State},
    group_commit::{GroupCommit, Limits},
};

/// A database with the tables.
async fn database() -> PostgresConfig {
    let config = PostgresConfig::new(TestPostgres::shared().database());
    schema().migrate(&config).await.unwrap();
    config
}

async fn open() -> (PostgresStore, ()) {
    (PostgresStore::open(&database().await, &Readiness::default()).await.unwrap(), ())
}

crate::store::contract::suite!(open);

fn scope() -> Scope {
    Scope { org: "acme".into(), principal: "alice".into() }
}

/// A hold of 1000 nano dollars that expires at 1.
fn reservation() -> Reservation {
    Reservation {
        attempt_id: AttemptId::generate(),
        request_id: "request".into(),
        backend: "claude".into(),
        provider: "anthropic".into(),
        model: "sonnet".into(),
        credential: String::new(),
        attribution: Attribution::default(),
        worst_case: TokenCounts { fresh_input: 1000, ..TokenCounts::default() },
        prices: UnitPrices { input: 1_000_000, ..UnitPrices::default() },
        expires_at: 1,
    }
}

fn settlement(attempt_id: AttemptId, fresh_input: u64) -> Settlement {
    Settlement {
        attempt_id,
        used: TokenCounts { fresh_input, ..TokenCounts::default() },
        prices: None,
        outcome: AttemptOutcome::Ok,
        reason: ErrorReason::Unspecified,
        finish_reason: FinishReason::Stop,
        tokens_estimated: false,
        latency: None,
        time_to_first_token: None,
        provider_request_id: String::new(),
    }
}

/// Two replicas with a group commit each, on one database.
async fn replicas(tasks: &Tasks) -> (Arc<PostgresStore>, [GroupCommit; 2]) {
    let config = database().await;
    let (one, other) = (
        PostgresStore::open(&config, &Readiness::default()).await.unwrap(),
        PostgresStore::open(&config, &Readiness::default()).await.unwrap(),
    );
    let (one, other) = (Arc::new(one), Arc::new(other));
    let limits = Limits { queue: 4096, batch: 16 };
    let commit = |store: &Arc<PostgresStore>| GroupCommit::start(Arc::clone(store) as Arc<dyn Store>, limits, tasks);
    let writers = [commit(&one), commit(&other)];
    (one, writers)
}

fn call() -> CallContext {
    CallContext::new(scope(), Deadline::after(Duration::from_secs(60)))
}

#[tokio::test]
async fn of_two_replicas_one_reserves_and_one_settles() {
    let tasks = Tasks::default();
    let (store, [one, other]) = replicas(&tasks).await;
    let asked: Vec<Reservation> = (0..200).map(|_| reservation()).collect();
    // The same attempts from both ends, so that the groups cross.
    let reserve = async |writer: &GroupCommit, all: Vec<Reservation>| {
        let made = all.into_iter().map(|reservation| {
            let writer = writer.clone();
            async move { writer.make(&call(), reservation).await.unwrap().existing }
        });
        futures::future::join_all(made).await.into_iter().filter(|existing| !existing).count()
    };
    let backwards: Vec<_> = asked.iter().rev().cloned().collect();
    let (a, b) = tokio::join!(reserve(&one, asked.clone()), reserve(&other, backwards));
    assert_eq!(a + b, asked.len());

    let settle = async |writer: &GroupCommit, attempts: Vec<AttemptId>, used| {
        let made = attempts.into_iter().map(|attempt| {
            let writer = writer.clone();
            async move { writer.make(&call(), settlement(attempt, used)).await.unwrap() }
        });
        futures::future::join_all(made).await
    };
    let attempts: Vec<AttemptId> = asked.iter().map(|reservation| reservation.attempt_id).collect();
    let backwards = attempts.iter().rev().copied().collect();
    let (a, mut b) = tokio::join!(settle(&one, attempts, 1), settle(&other, backwards, 2));
    b.reverse();
    for (a, b) in a.iter().zip(&b) {
        assert_ne!(a.existing, b.existing, "one of them settled it");
        assert_eq!(a.cost, b.cost, "and both say what");
    }
    let books = store.usage(&scope(), &Filter::default(), &[], 1).await.unwrap()[0].totals;
    assert_eq!(books.attempts, 200);
    assert_eq!(books.cost, NanoUsd(a.iter().map(|settled| settled.cost.0).sum()));
    assert!(tasks.end(Duration::from_secs(10)).await);
}

#[tokio::test]
async fn a_hold_expires_once_and_a_settlement_under_way_goes_first() {
    let config = database().await;
    let (one, other) = (
        PostgresStore::open(&config, &Readiness::default()).await.unwrap(),
        PostgresStore::open(&config, &Readiness::default()).await.unwrap(),
    );
    let mut transaction = one.begin().await.unwrap();
    let late = reservation();
    for record in (0..600).map(|_| reservation()).chain([late.clone()]) {
        transaction.insert(&scope(), &Record::reserve(record, "alice", 0)).await.unwrap();
    }
    assert_eq!(transaction.commit().await.unwrap(), Commit::Durable);

    let mut settling = other.begin().await.unwrap();
    let mut record = settling.find(&scope(), late.attempt_id).await.unwrap().unwrap();
    record.settle(settlement(late.attempt_id, 1), 5);
    settling.update(&scope(), &record).await.unwrap();
    let (a, b) = tokio::join!(expire_holds(&one, 5), expire_holds(&other, 5));
    let first = a.unwrap() + b.unwrap();
    assert_eq!(settling.commit().await.unwrap(), Commit::Durable);
    // A round ends early when the other one holds what is left.
    let rest = expire_holds(&one, 5).await.unwrap();
    assert_eq!(first + rest, 600);
    let states = one.list(&scope(), &Filter::default(), 1000, None).await.unwrap().records;
    assert_eq!(states.iter().filter(|record| record.state == State::Assumed).count(), 600);
    assert_eq!(states.iter().filter(|record| record.state == State::Settled).count(), 1);
}

#[tokio::test]
async fn an_insert_that_comes_second_is_made_anew() {
    let config = database().await;
    let store = PostgresStore::open(&config, &Readiness::default()).await.unwrap();
    let record = Record::reserve(reservation(), "alice", 0);
    let (mut first, mut second) = (store.begin().await.unwrap(), store.begin().await.unwrap());
    assert!(second.insert(&scope(), &record).await.unwrap());
    assert!(first.insert(&scope(), &record).await.unwrap());
    assert_eq!(first.commit().await.unwrap(), Commit::Durable);
    assert_eq!(second.commit().await.unwrap(), Commit::Again);
    let mut again = store.begin().await.unwrap();
    assert!(!again.insert(&scope(), &record).await.unwrap());
}

#[tokio::test]
async fn it_works_behind_a_pgbouncer() {
    // Without one: no statement is prepared under a name that could meet another session.
    let config = PostgresConfig { pgbouncer: true, ..PostgresConfig::new(TestPostgres::shared().database()) };
    let refused = schema().migrate(&config).await.unwrap_err();
    assert!(refused.message().contains("TUTTI_STORAGE__PGBOUNCER=false"), "{refused}");
    schema().migrate(&PostgresConfig { pgbouncer: false, ..config.clone() }).await.unwrap();
    let store =
        PostgresStore::open(&PostgresConfig { max_connections: 2, ..config }, &Readiness::default()).await.unwrap();
    let mut transaction = store.begin().await.unwrap();
    transaction.insert(&scope(), &Record::reserve(reservation(), "alice", 0)).await.unwrap();
    assert_eq!(transaction.commit().await.unwrap(), Commit::Durable);
    expire_holds(&store, 5).await.unwrap();
    store.usage(&scope(), &Filter::default(), &[Dimension::Day], 1).await.unwrap();
    store.list(&scope(), &Filter::default(), 1, None).await.unwrap();
    let mut connection = store.database.begin().await.unwrap();
    let names = sqlx::query_scalar::<_, String>("SELECT name FROM pg_prepared_statements");
    assert_eq!(names.persistent(false).fetch_all(&mut *connection).await.unwrap(), [""; 0]);
}

#[tokio::test]
async fn attempts_are_found_and_changed_by_their_key_however_many_there_are() {
    let store = PostgresStore::open(&database().await, &Readiness::default()).await.unwrap();
    let mut transaction = store.begin().await.unwrap();
    for record in (0..3000).map(|_| reservation()) {
        transaction.insert(&scope(), &Record::reserve(record, "alice", 0)).await.unwrap();
    }
    assert_eq!(transaction.commit().await.unwrap(), Commit::Durable);
    let mut connection = store.database.begin().await.unwrap();
    let find = format!("EXPLAIN {FIND}");
    let find = sqlx::query_scalar::<_, String>(sqlx::AssertSqlSafe(find)).bind(vec!["acme"]).bind(vec!["an id"]);
    let found = find.fetch_all(&mut *connection).await.unwrap().join("\n");
    let change = sqlx::query_scalar::<_, String>(sqlx::AssertSqlSafe(format!("EXPLAIN {}", update())));
    let changed = change.bind(Json(Vec::<OrgRow>::new())).fetch_all(&mut *connection).await.unwrap().join("\n");
    for plan in [found, changed] {
        assert!(plan.contains("Index Scan using records_pkey") && !plan.contains("Seq Scan"), "{plan}");
    }
}
