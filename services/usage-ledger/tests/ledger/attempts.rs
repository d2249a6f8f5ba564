//! `Reserve`, `Settle`, `Release`.

use std::time::{Duration, SystemTime};

use tonic::Code;
use tutti_proto::{
    ledger::v1::{SettleManyRequest, SettleRequest, TokenCounts, UnitPrices, UsageState, settle_result},
    llm::v1::{AttemptOutcome, Attribution, ErrorReason},
};
use tutti_types::{AttemptId, time};
use usage_ledger::changes::expire_holds;

use crate::support::{assert_invalid, assert_reason, call, ledger, release, reserve, settle};

/// After every hold of these tests has expired.
fn later() -> i64 {
    time::unix_micros(SystemTime::now() + Duration::from_secs(3600))
}

#[tokio::test]
async fn a_hold_becomes_a_settled_record() {
    let mut ledger = ledger().await;
    let mut asked = reserve();
    asked.attribution = Some(Attribution { session_id: "s".into(), ..Attribution::default() });
    let attempt = asked.attempt_id.clone();
    let held = ledger.client.reserve(call(asked, "acme", Duration::from_secs(5))).await.unwrap().into_inner();
    assert_eq!((held.held_nano_usd, held.existing), (20_000_000, false));

    let told = call(settle(&attempt, 7), "acme", Duration::from_secs(5));
    let settled = ledger.client.settle(told).await.unwrap().into_inner();
    assert_eq!((settled.cost_nano_usd, settled.over_hold, settled.existing), (70_000, false, false));

    let list = call(Default::default(), "acme", Duration::from_secs(5));
    let records = ledger.client.list_usage(list).await.unwrap().into_inner().records;
    let [record] = records.as_slice() else { panic!("{records:?}") };
    assert_eq!((record.attempt_id.as_str(), record.org.as_str()), (attempt.as_str(), "acme"));
    assert_eq!(record.state(), UsageState::Settled);
    assert_eq!(record.attribution.as_ref().unwrap().session_id, "s");
    assert!(record.created_at.unwrap().seconds <= record.settled_at.unwrap().seconds);
    assert_eq!(ledger.records().await, [], "another org sees nothing");
}

#[tokio::test]
async fn reserving_again_gives_the_same_hold() {
    let mut ledger = ledger().await;
    let asked = reserve();
    ledger.client.reserve(asked.clone()).await.unwrap();
    let dearer = tutti_proto::ledger::v1::ReserveRequest {
        worst_case: Some(TokenCounts { fresh_input: 1_000_000, ..TokenCounts::default() }),
        ..asked.clone()
    };
    let again = ledger.client.reserve(dearer).await.unwrap().into_inner();
    assert_eq!((again.held_nano_usd, again.existing), (20_000_000, true));
    assert_eq!(ledger.records().await.len(), 1);
    // The same id in another spelling.
    let shouted = tutti_proto::ledger::v1::ReserveRequest { attempt_id: asked.attempt_id.to_uppercase(), ..asked };
    assert!(ledger.client.reserve(shouted).await.unwrap().into_inner().existing);
}

#[tokio::test]
async fn the_first_settlement_counts_also_above_the_hold() {
    let mut ledger = ledger().await;
    let asked = reserve();
    ledger.client.reserve(asked.clone()).await.unwrap();
    for (used, existing) in [(3000, false), (1, true)] {
        let settled = ledger.client.settle(settle(&asked.attempt_id, used)).await.unwrap().into_inner();
        assert_eq!((settled.cost_nano_usd, settled.over_hold, settled.existing), (30_000_000, true, existing));
    }
    let record = ledger.record(&asked.attempt_id).await;
    assert!(record.over_hold);
    assert_eq!(record.tokens.unwrap().fresh_input, 3000);
}

#[tokio::test]
async fn a_settlement_may_bring_its_own_prices() {
    let mut ledger = ledger().await;
    let asked = reserve();
    ledger.client.reserve(asked.clone()).await.unwrap();
    let mut told = settle(&asked.attempt_id, 1);
    // Half a nano dollar is rounded up, once.
    told.prices = Some(UnitPrices { input_nano_usd: 500_000, ..UnitPrices::default() });
    assert_eq!(ledger.client.settle(told).await.unwrap().into_inner().cost_nano_usd, 1);
    assert_eq!(ledger.record(&asked.attempt_id).await.prices.unwrap().input_nano_usd, 500_000);
}

#[tokio::test]
async fn a_late_settlement_corrects_the_assumption() {
    let mut ledger = ledger().await;
    let asked = reserve();
    ledger.client.reserve(asked.clone()).await.unwrap();
    assert_eq!(expire_holds(ledger.store.as_ref(), later()).await.unwrap(), 1);
    let assumed = ledger.record(&asked.attempt_id).await;
    assert_eq!((assumed.state(), assumed.cost_nano_usd), (UsageState::Assumed, 20_000_000));
    assert_eq!(assumed.tokens, asked.worst_case);

    let settled = ledger.client.settle(settle(&asked.attempt_id, 2)).await.unwrap().into_inner();
    assert_eq!((settled.cost_nano_usd, settled.existing), (20_000, false));
    let corrected = ledger.record(&asked.attempt_id).await;
    assert_eq!((corrected.state(), corrected.tokens_estimated), (UsageState::Settled, false));
}

#[tokio::test]
async fn a_released_attempt_costs_nothing_unless_it_was_sent_after_all() {
    let mut ledger = ledger().await;
    let asked = reserve();
    let attempt = asked.attempt_id.as_str();
    ledger.client.reserve(asked.clone()).await.unwrap();
    for existing in [false, true] {
        assert_eq!(ledger.client.release(release(attempt)).await.unwrap().into_inner().existing, existing);
    }
    let released = ledger.record(attempt).await;
    assert_eq!((released.state(), released.cost_nano_usd), (UsageState::Released, 0));
    assert_eq!(released.reason(), ErrorReason::BackendNotUsable);
    assert_eq!(expire_holds(ledger.store.as_ref(), later()).await.unwrap(), 0, "there is no hold left");

    // Money is never lost: what was used wins.
    let settled = ledger.client.settle(settle(attempt, 2)).await.unwrap().into_inner();
    assert_eq!((settled.cost_nano_usd, settled.existing), (20_000, false));
    assert_invalid(&ledger.client.release(release(attempt)).await.unwrap_err(), "attempt_id");
    assert_eq!(ledger.record(attempt).await.cost_nano_usd, 20_000);
}

#[tokio::test]
async fn a_release_corrects_an_assumption() {
    let mut ledger = ledger().await;
    let asked = reserve();
    ledger.client.reserve(asked.clone()).await.unwrap();
    expire_holds(ledger.store.as_ref(), later()).await.unwrap();
    assert!(!ledger.client.release(release(&asked.attempt_id)).await.unwrap().into_inner().existing);
    let record = ledger.record(&asked.attempt_id).await;
    assert_eq!((record.state(), record.cost_nano_usd), (UsageState::Released, 0));
    assert_eq!(record.tokens, Some(TokenCounts::default()));
}

#[tokio::test]
async fn an_attempt_that_was_never_reserved_is_unknown() {
    let mut ledger = ledger().await;
    let id = AttemptId::generate().to_string();
    let refused = ledger.client.settle(settle(&id, 1)).await.unwrap_err();
    assert_reason(&refused, Code::NotFound, ErrorReason::UnknownAttempt);
    let refused = ledger.client.release(release(&id)).await.unwrap_err();
    assert_reason(&refused, Code::NotFound, ErrorReason::UnknownAttempt);
}

#[tokio::test]
async fn a_wrong_reservation_names_its_field() {
    type Break = fn(&mut tutti_proto::ledger::v1::ReserveRequest);
    let breaks: [(&str, Break); 14] = [
        ("attempt_id", |r| r.attempt_id.clear()),
        ("attempt_id", |r| r.attempt_id = "first".into()),
        ("request_id", |r| r.request_id.clear()),
        ("request_id", |r| r.request_id = "x".repeat(129)),
        ("backend", |r| r.backend.clear()),
        ("provider", |r| r.provider.clear()),
        ("model", |r| r.model = "a\0b".into()),
        ("expires_at", |r| r.expires_at = None),
        ("expires_at", |r| r.expires_at.as_mut().unwrap().nanos = -1),
        ("worst_case.reasoning", |r| r.worst_case.as_mut().unwrap().reasoning = -1),
        ("worst_case.fresh_input", |r| r.worst_case.as_mut().unwrap().fresh_input = i64::MAX),
        ("prices.output_nano_usd", |r| r.prices.as_mut().unwrap().output_nano_usd = -1),
        ("attribution.tags", |r| {
            let tags = (0..17).map(|n| (n.to_string(), String::new())).collect();
            r.attribution = Some(Attribution { tags, ..Attribution::default() });
        }),
        ("attribution.team", |r| {
            r.attribution = Some(Attribution { team: "x".repeat(257), ..Attribution::default() });
        }),
    ];
    let mut ledger = ledger().await;
    for (field, spoil) in breaks {
        let mut asked = reserve();
        spoil(&mut asked);
        assert_invalid(&ledger.client.reserve(asked).await.unwrap_err(), field);
    }
    assert_eq!(ledger.records().await, []);
}

#[tokio::test]
async fn a_wrong_settlement_names_its_field() {
    type Break = fn(&mut tutti_proto::ledger::v1::SettleRequest);
    let breaks: [(&str, Break); 8] = [
        ("attempt_id", |s| s.attempt_id.clear()),
        ("used.cache_read", |s| s.used.as_mut().unwrap().cache_read = -5),
        ("prices.input_nano_usd", |s| s.prices = Some(UnitPrices { input_nano_usd: -1, ..UnitPrices::default() })),
        ("outcome", |s| s.outcome = 0),
        ("outcome", |s| s.outcome = AttemptOutcome::Skipped.into()),
        ("reason", |s| s.reason = 9999),
        ("finish_reason", |s| s.finish_reason = -1),
        ("latency", |s| s.latency = Some(prost_types::Duration { seconds: -1, nanos: 0 })),
    ];
    let mut ledger = ledger().await;
    let asked = reserve();
    ledger.client.reserve(asked.clone()).await.unwrap();
    for (field, spoil) in breaks {
        let mut told = settle(&asked.attempt_id, 1);
        spoil(&mut told);
        assert_invalid(&ledger.client.settle(told).await.unwrap_err(), field);
    }
    let mut unclear = release("nothing");
    assert_invalid(&ledger.client.release(unclear.clone()).await.unwrap_err(), "attempt_id");
    unclear.attempt_id = asked.attempt_id.clone();
    unclear.reason = 9999;
    assert_invalid(&ledger.client.release(unclear).await.unwrap_err(), "reason");
    assert_eq!(ledger.record(&asked.attempt_id).await.state(), UsageState::Reserved);
}

#[tokio::test]
async fn a_strange_provider_id_is_no_reason_to_lose_a_settlement() {
    let mut ledger = ledger().await;
    let asked = reserve();
    ledger.client.reserve(asked.clone()).await.unwrap();
    let mut told = settle(&asked.attempt_id, 1);
    told.provider_request_id = format!("req\n{}", "ü".repeat(1000));
    ledger.client.settle(told).await.unwrap();
    assert_eq!(ledger.record(&asked.attempt_id).await.provider_request_id, format!("req{}", "ü".repeat(253)));
}

#[tokio::test]
async fn of_many_settlements_each_is_taken_or_refused_by_itself() {
    let mut ledger = ledger().await;
    let (one, other, unknown) = (reserve(), reserve(), reserve().attempt_id);
    for asked in [&one, &other] {
        ledger.client.reserve(asked.clone()).await.unwrap();
    }
    let wrong = SettleRequest { outcome: 0, ..settle(&other.attempt_id, 1) };
    let settlements = vec![settle(&one.attempt_id, 7), settle(&unknown, 1), wrong, settle(&other.attempt_id, 2)];
    let answer = ledger.client.settle_many(SettleManyRequest { settlements }).await.unwrap().into_inner();
    let told: Vec<_> = answer
        .results
        .into_iter()
        .map(|result| match result.result.unwrap() {
            settle_result::Result::Settled(settled) => Ok(settled.cost_nano_usd),
            settle_result::Result::Refused(refusal) => Err(refusal.reason()),
        })
        .collect();
    let expected = [Ok(70_000), Err(ErrorReason::UnknownAttempt), Err(ErrorReason::InvalidRequest), Ok(20_000)];
    assert_eq!(told, expected);
    for asked in [&one, &other] {
        assert_eq!(ledger.record(&asked.attempt_id).await.state(), UsageState::Settled);
    }
}

#[tokio::test]
async fn no_settlements_and_too_many_are_refused() {
    let mut ledger = ledger().await;
    let many = vec![settle(&reserve().attempt_id, 1); 257];
    for settlements in [Vec::new(), many] {
        let refused = ledger.client.settle_many(SettleManyRequest { settlements }).await.unwrap_err();
        assert_invalid(&refused, "settlements");
    }
}
