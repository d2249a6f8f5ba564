//! What every store must do, whatever it is made of. [`suite!`] runs it all against one.

use std::{collections::BTreeMap, time::Duration};

use tutti_proto::llm::v1::{AttemptOutcome, Attribution, ErrorReason, FinishReason};
use tutti_types::{AttemptId, NanoUsd, Scope, TokenCounts, UnitPrices};

use super::{Commit, Store, Transaction};
use crate::{
    changes::{Change, expire_holds},
    domain::{Cursor, Dimension, Filter, Micros, Record, Release, Reservation, Settlement, State, Totals},
};

/// Makes one test of each behaviour. `$open` is an async function that gives a new empty store and what keeps it.
macro_rules! suite {
    ($open:path) => {
        crate::store::contract::suite!($open:
            a_record_reads_as_it_was_written,
            an_attempt_is_inserted_once,
            what_is_not_committed_is_gone,
            a_transaction_sees_its_own_writes,
            orgs_are_apart,
            holds_fall_due_oldest_first,
            an_expired_hold_is_an_assumption_until_it_is_settled,
            every_filter_selects,
            sums_are_of_what_was_sent,
            groups_come_dearest_first,
            windows_are_hours_and_days_in_utc,
            pages_are_stable_while_records_come,
        );
    };
    ($open:path: $($behaviour:ident,)*) => {
        $(#[tokio::test]
        async fn $behaviour() {
            let (store, _keep) = $open().await;
            crate::store::contract::$behaviour(&store).await;
            crate::store::Store::close(&store).await;
        })*
    };
}
pub(crate) use suite;

/// 2026-11-20T13:00:00Z.
const START: Micros = 1_795_179_600_000_000;
const SECOND: Micros = 1_000_000;

/// A hold of $0.02: 1000 tokens in at $10 and 500 out at $20 a million.
fn reservation() -> Reservation {
    Reservation {
        attempt_id: AttemptId::generate(),
        request_id: "request".into(),
        backend: "claude".into(),
        provider: "anthropic".into(),
        model: "sonnet".into(),
        credential: "sk-…1234".into(),
        attribution: Attribution::default(),
        worst_case: TokenCounts { fresh_input: 1000, visible_output: 500, ..TokenCounts::default() },
        prices: UnitPrices { input: 10_000_000_000, output: 20_000_000_000, ..UnitPrices::default() },
        expires_at: START + 60 * SECOND,
    }
}

/// A settlement that used that many fresh tokens, at 10 000 nano dollars each.
fn settlement(attempt_id: AttemptId, fresh_input: u64) -> Settlement {
    Settlement {
        attempt_id,
        used: TokenCounts { fresh_input, ..TokenCounts::default() },
        prices: None,
        outcome: AttemptOutcome::Ok,
        reason: ErrorReason::Unspecified,
        finish_reason: FinishReason::Stop,
        tokens_estimated: false,
        latency: Some(Duration::from_millis(10)),
        time_to_first_token: None,
        provider_request_id: String::new(),
    }
}

fn org(name: &str) -> Scope {
    Scope { org: name.into(), principal: "alice".into() }
}

async fn commit<C: Change>(store: &dyn Store, scope: &Scope, change: C, now: Micros) -> C::Answer {
    let mut transaction = store.begin().await.unwrap();
    let answer = change.make(transaction.as_mut(), scope, now).await.unwrap().unwrap();
    assert_eq!(transaction.commit().await.unwrap(), Commit::Durable);
    answer
}

/// Reserves at `now` and settles a second later.
async fn spend(store: &dyn Store, scope: &Scope, reservation: Reservation, fresh_input: u64, now: Micros) {
    let attempt = reservation.attempt_id;
    commit(store, scope, reservation, now).await;
    commit(store, scope, settlement(attempt, fresh_input), now + SECOND).await;
}

async fn all(store: &dyn Store, scope: &Scope) -> Vec<Record> {
    store.list(scope, &Filter::default(), 1000, None).await.unwrap().records
}

async fn totals(store: &dyn Store, scope: &Scope) -> Totals {
    store.usage(scope, &Filter::default(), &[], 1).await.unwrap()[0].totals
}

pub(crate) async fn a_record_reads_as_it_was_written(store: &dyn Store) {
    let scope = org("acme");
    let mut asked = reservation();
    asked.worst_case.cache_write_1h = 7;
    asked.prices.catalogue_version = "2026-11-01".into();
    asked.prices.estimated = true;
    let [team, project, job, node, run_id, agent, session_id, task_id, phase] =
        ["team", "project", "job", "node", "run", "agent", "session", "task", "phase"].map(str::to_owned);
    let tags = BTreeMap::from([("größe".to_owned(), "\"L\"".to_owned())]);
    asked.attribution = Attribution { team, project, job, node, run_id, agent, session_id, task_id, phase, tags };
    let mut expected = Record::reserve(asked.clone(), "alice", START);
    commit(store, &scope, asked, START).await;
    assert_eq!(all(store, &scope).await, [expected.clone()]);

    let told = Settlement {
        used: TokenCounts {
            fresh_input: 1,
            cache_read: 2,
            cache_write_5m: 3,
            cache_write_1h: 4,
            visible_output: 5,
            reasoning: 6,
        },
        prices: Some(UnitPrices {
            input: 1,
            cache_read: 2,
            cache_write_5m: 3,
            cache_write_1h: 4,
            ..UnitPrices::default()
        }),
        outcome: AttemptOutcome::Failed,
        reason: ErrorReason::Truncated,
        finish_reason: FinishReason::Error,
        tokens_estimated: true,
        latency: Some(Duration::from_micros(1_234_567)),
        time_to_first_token: Some(Duration::from_micros(89)),
        provider_request_id: "req_1".into(),
        ..settlement(expected.attempt_id(), 0)
    };
    expected.settle(told.clone(), START + SECOND);
    commit(store, &scope, told, START + SECOND).await;
    assert_eq!(all(store, &scope).await, [expected]);
}

pub(crate) async fn an_attempt_is_inserted_once(store: &dyn Store) {
    let scope = org("acme");
    let record = Record::reserve(reservation(), "alice", START);
    let mut transaction = store.begin().await.unwrap();
    assert!(transaction.insert(&scope, &record).await.unwrap());
    assert!(!transaction.insert(&scope, &record).await.unwrap());
    assert_eq!(transaction.commit().await.unwrap(), Commit::Durable);

    let mut other = record.clone();
    other.held = NanoUsd(1);
    let mut transaction = store.begin().await.unwrap();
    assert!(!transaction.insert(&scope, &other).await.unwrap());
    assert_eq!(transaction.commit().await.unwrap(), Commit::Durable);
    assert_eq!(all(store, &scope).await, [record]);
}

pub(crate) async fn what_is_not_committed_is_gone(store: &dyn Store) {
    let scope = org("acme");
    let mut transaction = store.begin().await.unwrap();
    assert!(transaction.insert(&scope, &Record::reserve(reservation(), "alice", START)).await.unwrap());
    drop(transaction);
    // The next writer is not held up.
    commit(store, &scope, reservation(), START).await;
    assert_eq!(all(store, &scope).await.len(), 1);
}

pub(crate) async fn a_transaction_sees_its_own_writes(store: &dyn Store) {
    let scope = org("acme");
    let asked = reservation();
    let attempt = asked.attempt_id;
    let mut transaction = store.begin().await.unwrap();
    let tx: &mut dyn Transaction = transaction.as_mut();
    asked.make(tx, &scope, START).await.unwrap().unwrap();
    let settled = settlement(attempt, 3).make(tx, &scope, START).await.unwrap().unwrap();
    let again = settlement(attempt, 4).make(tx, &scope, START).await.unwrap().unwrap();
    assert_eq!((settled.cost, settled.existing), (NanoUsd(30_000), false));
    assert_eq!((again.cost, again.existing), (NanoUsd(30_000), true));
    assert_eq!(transaction.commit().await.unwrap(), Commit::Durable);
    assert_eq!(totals(store, &scope).await.cost, NanoUsd(30_000));
}

pub(crate) async fn orgs_are_apart(store: &dyn Store) {
    let (acme, other) = (org("acme"), org("other"));
    let asked = reservation();
    let attempt = asked.attempt_id;
    commit(store, &acme, asked.clone(), START).await;
    let mut transaction = store.begin().await.unwrap();
    assert_eq!(transaction.find(&other, attempt).await.unwrap(), None);
    assert_eq!(transaction.due_holds(&other, Micros::MAX, 10).await.unwrap(), []);
    drop(transaction);
    assert_eq!(all(store, &other).await, []);
    assert_eq!(totals(store, &other).await, Totals::default());

    assert!(!commit(store, &other, asked, START).await.existing, "an attempt is unique within its org");
    commit(store, &other, settlement(attempt, 1), START).await;
    assert_eq!(all(store, &acme).await[0].state, State::Reserved);
}

pub(crate) async fn holds_fall_due_oldest_first(store: &dyn Store) {
    let scope = org("acme");
    let mut ids = Vec::new();
    for expires_at in [30, 10, 20, 40] {
        let asked = Reservation { expires_at, ..reservation() };
        ids.push(asked.attempt_id);
        commit(store, &scope, asked, START).await;
    }
    commit(store, &scope, Release { attempt_id: ids[1], reason: ErrorReason::Cancelled }, START).await;
    assert_eq!(store.orgs_with_due_holds(19).await.unwrap(), [""; 0]);
    assert_eq!(store.orgs_with_due_holds(20).await.unwrap(), ["acme"]);
    let mut transaction = store.begin().await.unwrap();
    let mut due = async |limit| {
        let due = transaction.due_holds(&scope, 30, limit).await.unwrap();
        due.iter().map(Record::attempt_id).collect::<Vec<_>>()
    };
    assert_eq!(due(10).await, [ids[2], ids[0]]);
    assert_eq!(due(1).await, [ids[2]]);
}

pub(crate) async fn an_expired_hold_is_an_assumption_until_it_is_settled(store: &dyn Store) {
    let (acme, other) = (org("acme"), org("other"));
    let asked = reservation();
    let (attempt, due) = (asked.attempt_id, asked.expires_at);
    // More than one transaction of the expiry.
    for _ in 0..300 {
        commit(store, &other, reservation(), START).await;
    }
    commit(store, &acme, asked, START).await;
    assert_eq!(expire_holds(store, due - 1).await.unwrap(), 0);
    assert_eq!(expire_holds(store, due).await.unwrap(), 301);
    assert_eq!(expire_holds(store, due).await.unwrap(), 0);
    let assumed = totals(store, &acme).await;
    assert_eq!((assumed.cost, assumed.held), (NanoUsd(20_000_000), NanoUsd(0)));
    assert_eq!((assumed.attempts, assumed.assumed, assumed.tokens.fresh_input), (1, 1, 1000));

    let settled = commit(store, &acme, settlement(attempt, 1), due).await;
    assert!(!settled.existing);
    let settled = totals(store, &acme).await;
    assert_eq!((settled.cost, settled.attempts, settled.assumed), (NanoUsd(10_000), 1, 0));
    assert_eq!(settled.tokens, TokenCounts { fresh_input: 1, ..TokenCounts::default() });
}

pub(crate) async fn every_filter_selects(store: &dyn Store) {
    let scope = org("acme");
    commit(store, &scope, reservation(), START).await;
    let text = || Some("it".to_owned());
    let mut it = Reservation {
        request_id: "it".into(),
        backend: "it".into(),
        provider: "it".into(),
        model: "it".into(),
        ..reservation()
    };
    let of = &mut it.attribution;
    for field in [&mut of.session_id, &mut of.project, &mut of.task_id, &mut of.team, &mut of.run_id] {
        *field = "it".into();
    }
    let attempt = it.attempt_id;
    spend(store, &scope, it, 1, START + SECOND).await;
    commit(store, &scope, reservation(), START + 2 * SECOND).await;
    let filters = [
        Filter { attempt_id: Some(attempt), ..Filter::default() },
        Filter { request_id: text(), ..Filter::default() },
        Filter { backend: text(), ..Filter::default() },
        Filter { provider: text(), ..Filter::default() },
        Filter { model: text(), ..Filter::default() },
        Filter { session_id: text(), ..Filter::default() },
        Filter { project: text(), ..Filter::default() },
        Filter { task_id: text(), ..Filter::default() },
        Filter { team: text(), ..Filter::default() },
        Filter { run_id: text(), ..Filter::default() },
        Filter { states: vec![State::Settled, State::Assumed], ..Filter::default() },
        Filter { from: Some(START + SECOND), to: Some(START + 2 * SECOND), ..Filter::default() },
    ];
    for filter in filters {
        let page = store.list(&scope, &filter, 10, None).await.unwrap();
        let found: Vec<_> = page.records.iter().map(Record::attempt_id).collect();
        assert_eq!(found, [attempt], "{filter:?}");
        let sums = store.usage(&scope, &filter, &[], 10).await.unwrap()[0].totals;
        assert_eq!((sums.cost, sums.held), (NanoUsd(10_000), NanoUsd(0)), "{filter:?}");
    }
}

pub(crate) async fn sums_are_of_what_was_sent(store: &dyn Store) {
    let scope = org("acme");
    assert_eq!(store.usage(&scope, &Filter::default(), &[Dimension::Model], 10).await.unwrap(), []);
    assert_eq!(totals(store, &scope).await, Totals::default());

    spend(store, &scope, reservation(), 100, START).await;
    let failed = Reservation { request_id: "other".into(), ..reservation() };
    let attempt = failed.attempt_id;
    commit(store, &scope, failed, START).await;
    let latency = Some(Duration::from_millis(30));
    let told = Settlement { outcome: AttemptOutcome::Failed, latency, ..settlement(attempt, 5) };
    commit(store, &scope, told, START).await;
    let released = reservation();
    let release = Release { attempt_id: released.attempt_id, reason: ErrorReason::Cancelled };
    commit(store, &scope, released, START).await;
    commit(store, &scope, release, START).await;
    commit(store, &scope, reservation(), START).await;

    let expected = Totals {
        attempts: 2,
        requests: 2,
        errors: 1,
        tokens: TokenCounts { fresh_input: 105, ..TokenCounts::default() },
        cost: NanoUsd(1_050_000),
        held: NanoUsd(20_000_000),
        mean_latency: Some(20_000),
        assumed: 0,
    };
    assert_eq!(totals(store, &scope).await, expected);
}

pub(crate) async fn groups_come_dearest_first(store: &dyn Store) {
    let scope = org("acme");
    for (model, session, used) in [("a", "x", 1), ("b", "x", 5), ("a", "y", 3), ("c", "", 5), ("a", "x", 1)] {
        let mut asked = Reservation { model: model.into(), ..reservation() };
        asked.attribution.session_id = session.into();
        spend(store, &scope, asked, used, START).await;
    }
    let sums = async |by: &[Dimension], limit| {
        let groups = store.usage(&scope, &Filter::default(), by, limit).await.unwrap();
        groups.iter().map(|group| (group.key.join("/"), group.totals.cost.0 / 10_000)).collect::<Vec<_>>()
    };
    let named = |groups: &[(&str, i64)]| groups.iter().map(|(k, n)| ((*k).to_owned(), *n)).collect::<Vec<_>>();
    assert_eq!(sums(&[Dimension::Model], 10).await, named(&[("a", 5), ("b", 5), ("c", 5)]));
    assert_eq!(sums(&[Dimension::Session], 2).await, named(&[("x", 7), ("", 5)]));
    let three = [Dimension::Provider, Dimension::Session, Dimension::Model];
    let expected = [("anthropic//c", 5), ("anthropic/x/b", 5), ("anthropic/y/a", 3), ("anthropic/x/a", 2)];
    assert_eq!(sums(&three, 10).await, named(&expected));
    let one = [
        (Dimension::Backend, "claude"),
        (Dimension::Credential, "sk-…1234"),
        (Dimension::Team, ""),
        (Dimension::Project, ""),
        (Dimension::Task, ""),
    ];
    for (dimension, value) in one {
        assert_eq!(sums(&[dimension], 10).await, named(&[(value, 15)]));
    }
}

pub(crate) async fn windows_are_hours_and_days_in_utc(store: &dyn Store) {
    let scope = org("acme");
    for (seconds, used) in [(0, 1), (3599, 2), (3600, 4), (11 * 3600, 8)] {
        spend(store, &scope, reservation(), used, START + seconds * SECOND).await;
    }
    let keys = async |by| {
        let groups = store.usage(&scope, &Filter::default(), &[by], 10).await.unwrap();
        groups.into_iter().map(|group| group.key.concat()).collect::<Vec<_>>()
    };
    let hours = ["2026-11-21T00:00:00Z", "2026-11-20T14:00:00Z", "2026-11-20T13:00:00Z"];
    assert_eq!(keys(Dimension::Hour).await, hours);
    assert_eq!(keys(Dimension::Day).await, ["2026-11-21", "2026-11-20"]);
}

pub(crate) async fn pages_are_stable_while_records_come(store: &dyn Store) {
    let scope = org("acme");
    // Three pairs of the same moment.
    for n in 0..6 {
        commit(store, &scope, reservation(), START + n / 2).await;
    }
    let mut expected = all(store, &scope).await;
    assert!(expected.is_sorted_by_key(|r| std::cmp::Reverse((r.created_at, r.attempt_id()))));
    let mut seen = Vec::new();
    let mut after: Option<Cursor> = None;
    loop {
        let page = store.list(&scope, &Filter::default(), 2, after).await.unwrap();
        assert!(page.records.len() <= 2);
        seen.extend(page.records);
        after = page.next;
        if after.is_none() {
            break;
        }
        // A newer record and a settlement change nothing about the pages to come.
        commit(store, &scope, reservation(), START + 10).await;
    }
    assert_eq!(seen.len(), 6);
    assert_eq!(seen, std::mem::take(&mut expected));
}
