//! Further tries of the same backend: each an attempt of its own, at the right time, and only where one may help.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use tonic::Code;
use tutti_config::BackendConfig;
use tutti_error::{Reason, attempts_of, from_status};
use tutti_proto::{
    gateway::v1::{EmbedRequest, GenerateRequest, GenerateStreamRequest, generate_stream_response::Event},
    llm::v1::{Attempt, AttemptOutcome, RunLimits},
};
use tutti_types::{TokenCounts, UnitPrices, time};

use crate::support::{LONG, World, ask, done, reason, text, within};

/// Three tries, as by default, that hardly wait.
fn quick(backend: &mut BackendConfig) {
    backend.resilience.retry.max_attempts = 3;
    backend.resilience.retry.base_delay = Duration::from_millis(1);
    backend.resilience.breaker.enabled = false;
}

/// Backends with one credential, for every form in which a provider says when.
const SINGLE: [&str; 3] = ["simulator", "anthropic", "gemini"];

/// The end of each attempt.
fn ends(attempts: &[Attempt]) -> Vec<(AttemptOutcome, Reason)> {
    attempts.iter().map(|attempt| (attempt.outcome(), attempt.reason())).collect()
}

fn twice(failed: Reason) -> [(AttemptOutcome, Reason); 3] {
    [(AttemptOutcome::Failed, failed), (AttemptOutcome::Failed, failed), (AttemptOutcome::Ok, Reason::Unspecified)]
}

/// What passes when it is tried again.
const PASSING: [(&str, Reason); 8] = [
    ("status=429", Reason::ProviderRateLimited),
    ("status=500", Reason::ProviderError),
    ("status=503", Reason::ProviderError),
    ("close", Reason::ConnectionFailed),
    ("reset", Reason::ConnectionFailed),
    ("cut_at=40", Reason::Truncated),
    ("malformed_after=0", Reason::MalformedOutput),
    ("empty", Reason::EmptyOutput),
];

#[tokio::test]
async fn what_may_pass_is_tried_again_each_time_as_an_attempt_of_its_own() {
    for (fault, expected) in PASSING {
        let world = World::with(quick).await;
        let answer = world.generate(ask("openai", &format!("[[fault {fault} times=2]] hi"))).await.unwrap();
        assert_eq!(ends(&answer.attempts), twice(expected), "{fault}");
        let ids: HashSet<_> = answer.attempts.iter().map(|attempt| attempt.attempt_id.clone()).collect();
        let sent: HashSet<_> = world.sim.requests().into_iter().filter_map(|request| request.attempt).collect();
        assert_eq!((ids.len(), &sent), (3, &ids), "{fault}");
        world.ledger.balanced().await;
        let books = world.ledger.books();
        assert_eq!((books.reserved.len(), books.settled.len()), (3, 3), "{fault}");
        let cost: i64 = answer.attempts.iter().map(|attempt| attempt.usage.unwrap().cost_nano_usd).sum();
        assert_eq!(answer.usage.unwrap().cost_nano_usd, cost, "{fault}");
    }
}

#[tokio::test]
async fn a_stream_is_tried_again_before_its_first_token() {
    for (fault, expected) in PASSING {
        let world = World::with(quick).await;
        let (events, ended) = world.stream(ask("openai", &format!("[[fault {fault} times=2]] hi"))).await;
        ended.unwrap_or_else(|status| panic!("{fault}: {status:?}"));
        let answer = done(&events);
        assert_eq!(ends(&answer.attempts), twice(expected), "{fault}");
        assert_eq!(answer.message.unwrap().text, text(&events), "{fault}");
        assert!(events.iter().map(|event| event.seq).eq(1..=events.len() as u64), "{fault}");
        let told: Vec<_> = events
            .iter()
            .filter_map(|event| match &event.event {
                Some(Event::Attempt(attempt)) => Some((attempt.attempt_id.as_str(), attempt.outcome())),
                _ => None,
            })
            .collect();
        let [first, second, third] = &answer.attempts[..] else { panic!("{fault}: {:?}", answer.attempts) };
        let (begins, fails) = (AttemptOutcome::Unspecified, AttemptOutcome::Failed);
        let expected = [(first, begins), (first, fails), (second, begins), (second, fails), (third, begins)];
        assert_eq!(told, expected.map(|(attempt, outcome)| (attempt.attempt_id.as_str(), outcome)), "{fault}");
        world.ledger.balanced().await;
    }
}

#[tokio::test]
async fn nothing_is_tried_again_after_the_first_token() {
    let world = World::with(quick).await;
    for fault in ["truncate_after=3", "malformed_after=3", "error_after=3", "stall_after=3"] {
        let generate = Some(ask("openai", &format!("[[fault {fault}]] [[words 100]]")));
        let request = within(GenerateStreamRequest { generate }, Duration::from_secs(2));
        let before = world.sim.stats().requests;
        let mut stream = world.client.clone().generate_stream(request).await.unwrap().into_inner();
        while let Ok(Some(_)) = stream.message().await {}
        assert_eq!(world.sim.stats().requests - before, 1, "{fault}");
    }
    // A call without arguments is output too.
    let called = "[[tool now {}]] [[fault truncate_after=40]]";
    let (events, ended) = world.stream(ask("openai", &format!("{called} [[words 100]]"))).await;
    assert!(ended.is_err() && done(&events).attempts.len() == 1);
}

#[tokio::test]
async fn what_cannot_pass_is_asked_once() {
    let fatal = [
        ("kind=auth", Reason::ProviderAuth),
        ("kind=permission", Reason::ProviderAuth),
        ("kind=billing", Reason::ProviderBilling),
        ("kind=quota", Reason::ProviderBilling),
        ("kind=context", Reason::ContextTooLong),
        ("kind=too_large", Reason::Unspecified),
        ("kind=invalid", Reason::ProviderRejected),
    ];
    for backend in SINGLE {
        let world = World::with(quick).await;
        for (sent, (fault, expected)) in (1..).zip(fatal) {
            let status = world.generate(ask(backend, &format!("[[fault {fault}]] hi"))).await.unwrap_err();
            if expected != Reason::Unspecified {
                assert_eq!(reason(&status), expected, "{backend} {fault}: {status:?}");
            }
            assert_eq!((world.sim.stats().requests, attempts_of(&status).len()), (sent, 1), "{backend} {fault}");
        }
    }
}

#[tokio::test]
async fn the_wait_that_a_provider_names_is_kept() {
    for backend in SINGLE {
        let world = World::with(quick).await;
        let prompt = "[[fault status=429 retry_after=0.3 times=1]] hi";
        let answer = world.generate(ask(backend, prompt)).await.unwrap();
        let began = |attempt: &Attempt| time::to_unix_micros(&attempt.started_at.unwrap());
        let gap = began(&answer.attempts[1]) - began(&answer.attempts[0]);
        assert!(gap >= 300_000, "{backend}: {gap} us");
    }
}

#[tokio::test]
async fn a_wait_that_does_not_fit_fails_at_once_and_says_when() {
    let world = World::with(quick).await;
    for backend in SINGLE {
        let began = Instant::now();
        let request = within(ask(backend, "[[fault status=429 retry_after=30]] hi"), LONG);
        let status = world.client.clone().generate(request).await.unwrap_err();
        assert!(began.elapsed() < LONG / 4);
        let error = from_status(&status, "gateway");
        assert_eq!((error.reason(), status.code()), (Reason::ProviderRateLimited, Code::Unavailable), "{backend}");
        assert_eq!((error.retry_delay(), error.attempted().len()), (Some(Duration::from_secs(30)), 1), "{backend}");
    }
    // Our own wait doesn't fit either.
    let slow = World::with(|backend| backend.resilience.retry.max_attempts = 3).await;
    let request = within(ask("openai", "[[fault status=500]] hi"), Duration::from_millis(700));
    let error = from_status(&slow.client.clone().generate(request).await.unwrap_err(), "gateway");
    assert_eq!((error.reason(), error.attempted().len()), (Reason::ProviderError, 1));
    assert!(error.retry_delay().is_some_and(|wait| wait >= Duration::from_millis(750)), "{error:?}");
}

#[tokio::test]
async fn the_tries_end_with_the_last_failure_and_all_attempts() {
    let world = World::with(quick).await;
    let status = world.generate(ask("openai", "[[fault status=503]] hi")).await.unwrap_err();
    assert_eq!((reason(&status), attempts_of(&status).len()), (Reason::ProviderError, 3));
    let (events, ended) = world.stream(ask("openai", "[[fault status=503]] hi")).await;
    assert_eq!((done(&events).attempts.len(), attempts_of(&ended.unwrap_err()).len()), (3, 3));
    assert_eq!(world.sim.stats().requests, 6);
    world.ledger.balanced().await;
}

#[tokio::test]
async fn the_cap_that_travels_with_the_run_holds() {
    let world = World::with(quick).await;
    for (max_attempts, sent) in [(1, 1), (2, 2), (7, 3)] {
        let limits = Some(RunLimits { max_attempts, ..Default::default() });
        let request = GenerateRequest { limits, ..ask("openai", "[[fault status=503]] hi") };
        let before = world.sim.stats().requests;
        let status = world.generate(request.clone()).await.unwrap_err();
        assert_eq!((reason(&status), attempts_of(&status).len()), (Reason::ProviderError, sent));
        world.stream(request).await.1.unwrap_err();
        assert_eq!(world.sim.stats().requests - before, 2 * sent as u64);
    }
}

#[tokio::test]
async fn the_tries_together_stay_within_the_cost_bound() {
    let world = World::with(quick).await;
    // Its answer is cut, so each try costs something.
    let prompt = "[[fault truncate_after=0]] hi";
    world.generate(ask("openai", prompt)).await.unwrap_err();
    let hold = {
        let books = world.ledger.books();
        let (reserve, _) = books.reserved.values().next().unwrap();
        let tokens = TokenCounts::from(&reserve.worst_case.unwrap());
        UnitPrices::from(reserve.prices.clone().unwrap()).cost(&tokens).0
    };
    let tried = async |max_cost_nano_usd| {
        let limits = Some(RunLimits { max_cost_nano_usd, ..Default::default() });
        let status = world.generate(GenerateRequest { limits, ..ask("openai", prompt) }).await.unwrap_err();
        attempts_of(&status).len()
    };
    assert_eq!((tried(hold).await, tried(2 * hold).await), (1, 3));
}

#[tokio::test]
async fn embeddings_are_tried_again_too() {
    let world = World::with(quick).await;
    world.sim.set_scenario(
        tutti_simulator::Scenario::new()
            .rule(tutti_simulator::Rule::new().first(2).fault(tutti_simulator::Fault::status(503))),
    );
    let request = EmbedRequest { backend: "openai".into(), inputs: vec!["a".into()], ..Default::default() };
    let answer = world.client.clone().embed(request).await.unwrap().into_inner();
    assert_eq!(ends(&answer.attempts), twice(Reason::ProviderError));
}

#[tokio::test]
async fn a_caller_who_leaves_between_two_tries_leaves_no_hold() {
    let world = World::with(|backend| {
        quick(backend);
        backend.resilience.retry.base_delay = LONG / 2;
    })
    .await;
    let request = GenerateStreamRequest { generate: Some(ask("openai", "[[fault status=503]] hi")) };
    let mut stream = world.client.clone().generate_stream(request).await.unwrap().into_inner();
    loop {
        let event = stream.message().await.unwrap().unwrap().event;
        if matches!(event, Some(Event::Attempt(attempt)) if attempt.outcome() == AttemptOutcome::Failed) {
            break;
        }
    }
    drop(stream);
    world.ledger.balanced().await;
    assert_eq!(world.sim.stats().requests, 1);
}
