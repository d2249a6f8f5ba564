//! After a thousand mixed calls the ledger and the providers agree on every single attempt.

use std::collections::{BTreeMap, HashMap};

use futures::{StreamExt as _, stream};
use tutti_proto::{
    gateway::v1::EmbedRequest,
    ledger::v1::{GetUsageRequest, UsageDimension, UsageFilter, UsageRecord, UsageState},
    llm::v1::AttemptOutcome,
};
use tutti_simulator::{Endpoint, RequestRecord, RequestState};
use tutti_testkit::wait_for;

use crate::support::{BACKENDS, Mesh, PATIENCE, ask, patient};

const CALLS: usize = 1_000;

/// One call of the mix; failures are part of it.
async fn call(mesh: &Mesh, number: usize) {
    let backend = BACKENDS[number % BACKENDS.len()];
    match (number / BACKENDS.len()) % 10 {
        0..=2 => drop(mesh.chat(ask(backend, &format!("call {number}"))).await),
        3..=4 => read_all(mesh, backend, "[[words 30]]").await,
        5 => {
            let mut chat = ask(backend, r#"[[tool read {"path":"note.txt"}]]"#);
            chat.mesh_tools = vec!["read".into()];
            drop(mesh.chat(chat).await);
        }
        6 => read_all(mesh, backend, "[[fault error_after=2]] [[words 30]]").await,
        7 => drop(mesh.chat(ask("", "[[fault status=429 times=1]] again")).await),
        8 => {
            let mut stream = mesh.stream(ask(backend, "[[fault chunk_ms=5]] [[words 500]]")).await;
            for _ in 0..number % 7 {
                drop(stream.message().await);
            }
        }
        _ if backend == "openai" || backend == "ollama" => {
            let asked =
                EmbedRequest { backend: backend.into(), inputs: vec!["a".into(), "b".into()], ..Default::default() };
            drop(mesh.gateway().embed(patient(asked)).await);
        }
        _ => drop(mesh.chat(ask(backend, "[[fault close]] gone")).await),
    }
}

async fn read_all(mesh: &Mesh, backend: &str, text: &str) {
    let mut stream = mesh.stream(ask(backend, text)).await;
    while let Ok(Some(_)) = stream.message().await {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ledger_equals_the_providers_counts_one_to_one() {
    let mesh = Mesh::start().await;
    let workspace = mesh.process.scratch().data_dir().join("workspaces/default");
    std::fs::write(workspace.join("note.txt"), "noted").unwrap();
    stream::iter(0..CALLS).for_each_concurrent(16, |number| call(&mesh, number)).await;

    let records = wait_for(PATIENCE, || async {
        let held = UsageFilter { states: vec![UsageState::Reserved.into()], ..Default::default() };
        let held = mesh.usage(held).await;
        if held.is_empty() { Ok(mesh.usage(UsageFilter::default()).await) } else { Err(held.len()) }
    })
    .await;
    wait_for(PATIENCE, || std::future::ready(mesh.sim.stats().in_progress == 0)).await;
    let booked: HashMap<&str, &UsageRecord> = records.iter().map(|r| (r.attempt_id.as_str(), r)).collect();
    assert_eq!(booked.len(), records.len(), "an attempt is booked twice");
    let seen = mesh.sim.requests();
    // Of a request that was cut in its body, only the head was seen, and so not what it asked for.
    let paid = |r: &&RequestRecord| matches!(r.endpoint, None | Some(Endpoint::Chat | Endpoint::Embed));
    let seen: Vec<&RequestRecord> = seen.iter().filter(paid).collect();
    assert!(seen.len() >= CALLS, "{} requests", seen.len());
    let mut kinds = BTreeMap::new();
    for upstream in &seen {
        let attempt = upstream.attempt.as_deref().expect("every request has the attempt's id");
        let record = booked.get(attempt).unwrap_or_else(|| panic!("{upstream:?} is not booked"));
        assert_eq!(record.state(), UsageState::Settled, "{record:?} of {upstream:?}");
        agree(record, upstream);
        *kinds.entry(record.outcome().as_str_name()).or_insert(0u32) += 1;
    }
    // What is booked and was never seen upstream was never sent.
    let unsent = records.iter().filter(|r| !seen.iter().any(|s| s.attempt.as_deref() == Some(&r.attempt_id)));
    for record in unsent {
        assert_eq!(record.state(), UsageState::Released, "{record:?} was never seen upstream");
    }
    assert!(kinds.len() == 3 && kinds.values().all(|count| *count >= 50), "the mix is not mixed: {kinds:?}");
    sums_agree(&mesh, &records).await;
}

/// What was answered whole is booked to the token; what broke is booked as broken.
fn agree(record: &UsageRecord, upstream: &RequestRecord) {
    let tokens = record.tokens.unwrap_or_default();
    let output = u64::try_from(tokens.visible_output + tokens.reasoning).unwrap();
    let input = tokens.fresh_input + tokens.cache_read + tokens.cache_write_5m + tokens.cache_write_1h;
    match (upstream.state, record.outcome()) {
        (RequestState::Finished, AttemptOutcome::Ok) if !record.tokens_estimated => {
            assert_eq!(
                (u64::try_from(input).unwrap(), output),
                (upstream.input_tokens, upstream.output_tokens),
                "{record:?}"
            );
        }
        (RequestState::Finished, AttemptOutcome::Ok) => {
            panic!("the provider told its usage: {record:?} of {upstream:?}")
        }
        (RequestState::Disconnected | RequestState::Finished, AttemptOutcome::Cancelled) => {
            assert!(output <= upstream.output_tokens, "{record:?} of {upstream:?}");
        }
        (RequestState::Finished | RequestState::Faulted, AttemptOutcome::Failed) => {}
        // A stream that we left because of its error may look like a disconnect to its sender.
        (RequestState::Disconnected, AttemptOutcome::Failed) => {}
        other => panic!("{other:?}: {record:?} of {upstream:?}"),
    }
}

/// The sums that `GetUsage` gives are the sums of the records.
async fn sums_agree(mesh: &Mesh, records: &[UsageRecord]) {
    let group_by = vec![UsageDimension::Backend.into()];
    let asked = GetUsageRequest { filter: Some(UsageFilter::default()), group_by };
    let groups = mesh.ledger().get_usage(patient(asked)).await.unwrap().into_inner().groups;
    for group in groups {
        let of_backend = records.iter().filter(|r| r.backend == group.key[0] && r.state() == UsageState::Settled);
        let cost: i64 = of_backend.clone().map(|r| r.cost_nano_usd).sum();
        let totals = group.totals.unwrap();
        assert_eq!(
            (totals.attempts, totals.cost_nano_usd),
            (i64::try_from(of_backend.count()).unwrap(), cost),
            "{:?}",
            group.key
        );
        assert_eq!(totals.held_nano_usd, 0);
    }
}
