//! Whatever the order in which reservations, settlements, releases and expiries come, and however they fall into
//! transactions, the books are right.

use std::collections::{BTreeMap, HashMap};

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use tokio::runtime::Runtime;
use tutti_proto::llm::v1::{AttemptOutcome, Attribution, ErrorReason, FinishReason};
use tutti_types::{AttemptId, Scope, TokenCounts, UnitPrices};
use usage_ledger::{
    changes::{Change, expire_holds},
    domain::{Filter, Record, Release, Reservation, Settlement, State},
    store::{SqliteStore, Store},
};

/// A step of a history; the first number names an attempt.
#[derive(Debug, Clone)]
enum Step {
    Reserve {
        attempt: usize,
        worst: u64,
        lasts: i64,
    },
    Settle {
        attempt: usize,
        used: u64,
    },
    Release {
        attempt: usize,
    },
    /// Ends the transaction and lets time pass.
    Wait {
        micros: i64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let attempt = 0..6usize;
    prop_oneof![
        3 => (attempt.clone(), 1..100u64, 1..20i64)
            .prop_map(|(attempt, worst, lasts)| Step::Reserve { attempt, worst, lasts }),
        3 => (attempt.clone(), 0..150u64).prop_map(|(attempt, used)| Step::Settle { attempt, used }),
        1 => attempt.prop_map(|attempt| Step::Release { attempt }),
        2 => (1..10i64).prop_map(|micros| Step::Wait { micros }),
    ]
}

fn reservation(attempt_id: AttemptId, worst: u64, expires_at: i64) -> Reservation {
    Reservation {
        attempt_id,
        request_id: "request".into(),
        backend: "claude".into(),
        provider: "anthropic".into(),
        model: "sonnet".into(),
        credential: String::new(),
        attribution: Attribution::default(),
        worst_case: TokenCounts { fresh_input: worst, ..TokenCounts::default() },
        // One nano dollar a token.
        prices: UnitPrices { input: 1_000_000, ..UnitPrices::default() },
        expires_at,
    }
}

fn settlement(attempt_id: AttemptId, used: u64) -> Settlement {
    Settlement {
        attempt_id,
        used: TokenCounts { fresh_input: used, ..TokenCounts::default() },
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

/// What must be true of an attempt, told in the words of the proto and not of the code.
#[derive(Debug, Default)]
struct Expected {
    hold: u64,
    first_settlement: Option<u64>,
    released: bool,
}

/// Plays a history in an org of its own and compares the books with what is expected.
async fn play(store: &dyn Store, org: String, steps: Vec<Step>) {
    let scope = Scope { org, ..Scope::default() };
    let ids: Vec<AttemptId> = (0..6).map(|_| AttemptId::generate()).collect();
    let mut expected: BTreeMap<usize, Expected> = BTreeMap::new();
    let mut now = 0;
    let mut transaction = store.begin().await.unwrap();
    for step in steps {
        let tx = transaction.as_mut();
        match step {
            Step::Reserve { attempt, worst, lasts } => {
                let answer =
                    reservation(ids[attempt], worst, now + lasts).make(tx, &scope, now).await.unwrap().unwrap();
                assert_eq!(answer.existing, expected.contains_key(&attempt));
                let known = expected.entry(attempt).or_insert(Expected { hold: worst, ..Expected::default() });
                assert_eq!(answer.held.0, i64::try_from(known.hold).unwrap());
            }
            Step::Settle { attempt, used } => {
                let answer = settlement(ids[attempt], used).make(tx, &scope, now).await.unwrap();
                let Some(known) = expected.get_mut(&attempt) else {
                    assert!(answer.is_err(), "settled without a record");
                    continue;
                };
                let answer = answer.unwrap();
                assert_eq!(answer.existing, known.first_settlement.is_some());
                let first = *known.first_settlement.get_or_insert(used);
                assert_eq!(answer.cost.0, i64::try_from(first).unwrap());
                assert_eq!(answer.over_hold, first > known.hold);
            }
            Step::Release { attempt } => {
                let release = Release { attempt_id: ids[attempt], reason: ErrorReason::Cancelled };
                let answer = release.make(tx, &scope, now).await.unwrap();
                match expected.get_mut(&attempt) {
                    Some(known) if known.first_settlement.is_none() => {
                        assert_eq!(answer.unwrap(), known.released);
                        known.released = true;
                    }
                    _ => assert!(answer.is_err(), "released what was settled or never reserved"),
                }
            }
            Step::Wait { micros } => {
                transaction.commit().await.unwrap();
                now += micros;
                expire_holds(store, now).await.unwrap();
                transaction = store.begin().await.unwrap();
            }
        }
    }
    transaction.commit().await.unwrap();
    expire_holds(store, i64::MAX).await.unwrap();
    check(store, &scope, &ids, &expected).await;
}

async fn check(store: &dyn Store, scope: &Scope, ids: &[AttemptId], expected: &BTreeMap<usize, Expected>) {
    let records = store.list(scope, &Filter::default(), 1000, None).await.unwrap().records;
    let by_id: HashMap<AttemptId, &Record> = records.iter().map(|record| (record.attempt_id(), record)).collect();
    assert_eq!(by_id.len(), records.len(), "one record an attempt");
    assert_eq!(records.len(), expected.len());
    for (attempt, known) in expected {
        let record = by_id[&ids[*attempt]];
        let (state, cost) = match known.first_settlement {
            Some(used) => (State::Settled, used),
            None if known.released => (State::Released, 0),
            None => (State::Assumed, known.hold),
        };
        assert_eq!((record.state, record.cost.0), (state, i64::try_from(cost).unwrap()), "{known:?}");
        assert_eq!(record.tokens.fresh_input, cost);
        assert!(record.settled_at.is_some());
    }
    let totals = store.usage(scope, &Filter::default(), &[], 1).await.unwrap()[0].totals;
    assert_eq!(totals.cost.0, records.iter().map(|record| record.cost.0).sum::<i64>());
    assert_eq!(totals.tokens.fresh_input, records.iter().map(|record| record.tokens.fresh_input).sum::<u64>());
    let sent = records.iter().filter(|record| record.state != State::Released).count();
    assert_eq!(totals.attempts, i64::try_from(sent).unwrap());
    assert_eq!(totals.held.0, 0, "no hold is left");
}

#[test]
fn any_order_of_changes_leaves_the_books_right() {
    let runtime = Runtime::new().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let store = runtime.block_on(SqliteStore::open(dir.path())).unwrap();
    let org = std::cell::Cell::new(0);
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(48) });
    let histories = proptest::collection::vec(step(), 0..60);
    let outcome = runner.run(&histories, |steps| {
        org.set(org.get() + 1);
        runtime.block_on(play(&store, format!("org-{}", org.get()), steps));
        Ok(())
    });
    outcome.unwrap();
    runtime.block_on(store.close());
}
