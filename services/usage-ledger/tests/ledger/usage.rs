//! `GetUsage` and `ListUsage`.

use std::time::Duration;

use tutti_proto::ledger::v1::{GetUsageRequest, ListUsageRequest, UsageDimension, UsageFilter, UsageState};

use crate::support::{Ledger, assert_invalid, call, ledger, reserve, settle};

/// Spends on two models of one org: 30 000 on a, 20 000 on b; and holds one attempt on c.
async fn spent() -> Ledger {
    let mut ledger = ledger().await;
    for (model, used) in [("a", 1), ("b", 2), ("a", 2)] {
        let mut asked = reserve();
        asked.model = model.into();
        let mut told = settle(&asked.attempt_id, used);
        told.latency = Some(prost_types::Duration { seconds: used, nanos: 0 });
        ledger.client.reserve(asked).await.unwrap();
        ledger.client.settle(told).await.unwrap();
    }
    let mut running = reserve();
    running.model = "c".into();
    ledger.client.reserve(running).await.unwrap();
    ledger
}

#[tokio::test]
async fn usage_is_summed_by_group() {
    let mut ledger = spent().await;
    let by = vec![UsageDimension::Model.into(), UsageDimension::Provider.into()];
    let asked = GetUsageRequest { filter: None, group_by: by };
    let groups = ledger.client.get_usage(asked).await.unwrap().into_inner().groups;
    let sums: Vec<_> = groups
        .iter()
        .map(|g| (g.key.join("/"), g.totals.as_ref().unwrap()))
        .map(|(key, t)| (key, t.attempts, t.cost_nano_usd, t.held_nano_usd, t.mean_latency.map(|l| l.nanos)))
        .collect();
    let expected = [
        ("a/anthropic".to_owned(), 2, 30_000, 0, Some(500_000_000)),
        ("b/anthropic".to_owned(), 1, 20_000, 0, Some(0)),
        ("c/anthropic".to_owned(), 0, 0, 20_000_000, None),
    ];
    assert_eq!(sums, expected);
}

#[tokio::test]
async fn without_a_dimension_there_is_one_group_of_everything() {
    let mut ledger = spent().await;
    let groups = ledger.client.get_usage(GetUsageRequest::default()).await.unwrap().into_inner().groups;
    let [everything] = groups.as_slice() else { panic!("{groups:?}") };
    let totals = everything.totals.as_ref().unwrap();
    assert!(everything.key.is_empty());
    assert_eq!((totals.attempts, totals.requests, totals.cost_nano_usd), (3, 1, 50_000));

    let other = call(GetUsageRequest::default(), "other", Duration::from_secs(5));
    let groups = ledger.client.get_usage(other).await.unwrap().into_inner().groups;
    assert_eq!(groups[0].totals.as_ref().unwrap().requests, 0);
}

#[tokio::test]
async fn a_list_is_read_page_by_page() {
    let mut ledger = spent().await;
    let states = vec![UsageState::Settled.into()];
    let filter = Some(UsageFilter { states, ..UsageFilter::default() });
    let mut asked = ListUsageRequest { filter, page_size: 2, page_token: String::new() };
    let mut models = Vec::new();
    loop {
        let page = ledger.client.list_usage(asked.clone()).await.unwrap().into_inner();
        models.push(page.records.into_iter().map(|record| record.model).collect::<Vec<_>>());
        if page.next_page_token.is_empty() {
            break;
        }
        asked.page_token = page.next_page_token;
    }
    assert_eq!(models, [vec!["a", "b"], vec!["a"]]);
}

#[tokio::test]
async fn a_wrong_question_names_its_field() {
    let mut ledger = ledger().await;
    let model = i32::from(UsageDimension::Model);
    let too_many = (1..=4).collect();
    for (group_by, field) in [
        (too_many, "group_by"),
        (vec![model, model], "group_by[1]"),
        (vec![0], "group_by[0]"),
        (vec![99], "group_by[0]"),
    ] {
        let asked = GetUsageRequest { filter: None, group_by };
        assert_invalid(&ledger.client.get_usage(asked).await.unwrap_err(), field);
    }
    let moment = Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 });
    let filters = [
        (UsageFilter { states: vec![0], ..UsageFilter::default() }, "filter.states[0]"),
        (UsageFilter { attempt_id: "x".into(), ..UsageFilter::default() }, "filter.attempt_id"),
        (UsageFilter { from: moment, ..UsageFilter::default() }, "filter.from"),
        (UsageFilter { to: moment, ..UsageFilter::default() }, "filter.to"),
    ];
    for (filter, field) in filters {
        let list = ListUsageRequest { filter: Some(filter.clone()), ..ListUsageRequest::default() };
        assert_invalid(&ledger.client.list_usage(list).await.unwrap_err(), field);
        let sums = GetUsageRequest { filter: Some(filter), group_by: vec![] };
        assert_invalid(&ledger.client.get_usage(sums).await.unwrap_err(), field);
    }
    for token in ["no base64!", "bm90aGluZw", "MTo"] {
        let list = ListUsageRequest { page_token: token.into(), ..ListUsageRequest::default() };
        assert_invalid(&ledger.client.list_usage(list).await.unwrap_err(), "page_token");
    }
    let list = ListUsageRequest { page_size: -1, ..ListUsageRequest::default() };
    assert_invalid(&ledger.client.list_usage(list).await.unwrap_err(), "page_size");
}
