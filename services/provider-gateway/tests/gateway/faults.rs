//! Every way in which a provider fails: its reason, its code, and exactly one settlement.

use tonic::Code;
use tutti_error::Reason;
use tutti_proto::llm::v1::{AttemptOutcome, FinishReason};

use crate::support::{World, ask, done, reason};

/// What a fault of the simulator must become: reason, and whether tokens are settled.
type Case = (&'static str, Reason, bool);

const UNARY: [Case; 9] = [
    ("status=429 retry_after=2", Reason::ProviderRateLimited, false),
    ("status=500", Reason::ProviderError, false),
    ("status=401", Reason::ProviderAuth, false),
    ("kind=context", Reason::ContextTooLong, false),
    ("close", Reason::ConnectionFailed, true),
    ("reset", Reason::ConnectionFailed, true),
    ("cut_at=40", Reason::Truncated, true),
    ("malformed_after=0", Reason::MalformedOutput, true),
    ("empty", Reason::EmptyOutput, true),
];

const STREAMED: [Case; 7] = [
    ("status=429 retry_after=2", Reason::ProviderRateLimited, false),
    ("status=503", Reason::ProviderError, false),
    ("close", Reason::ConnectionFailed, true),
    ("truncate_after=3", Reason::Truncated, true),
    ("cut_at=1500", Reason::Truncated, true),
    ("malformed_after=3", Reason::MalformedOutput, true),
    ("error_after=3", Reason::ProviderError, true),
];

#[tokio::test]
async fn a_failed_call_names_its_reason_and_settles_once() {
    for (fault, expected, paid) in UNARY {
        let world = World::start().await;
        // OpenAI has a second credential, with which it would be tried again.
        let backend = if expected == Reason::ProviderAuth { "anthropic" } else { "openai" };
        let status = world.generate(ask(backend, &format!("[[fault {fault}]] hi"))).await.unwrap_err();
        assert_eq!(reason(&status), expected, "{fault}: {status:?}");
        let attempts = tutti_error::attempts_of(&status);
        assert_eq!((attempts.len(), attempts[0].reason()), (1, expected), "{fault}");
        let settled = world.ledger.only_settlement().await;
        assert_eq!((settled.outcome(), settled.reason()), (AttemptOutcome::Failed, expected), "{fault}");
        assert_eq!(settled.used.unwrap().fresh_input > 0, paid, "{fault}: {settled:?}");
    }
}

#[tokio::test]
async fn a_rate_limit_says_when_to_come_back() {
    let world = World::start().await;
    let status = world.generate(ask("openai", "[[fault status=429 retry_after=2]] hi")).await.unwrap_err();
    let error = tutti_error::from_status(&status, "gateway");
    assert_eq!(error.retry_delay(), Some(std::time::Duration::from_secs(2)));
    assert_eq!(tutti_error::attempts_of(&status)[0].http_status, 429);
}

#[tokio::test]
async fn a_failed_stream_ends_with_done_and_then_the_status() {
    for backend in ["openai", "anthropic"] {
        for (fault, expected, paid) in STREAMED {
            let world = World::start().await;
            let (events, ended) = world.stream(ask(backend, &format!("[[fault {fault}]] [[words 100]]"))).await;
            let status = ended.unwrap_err();
            assert_eq!(reason(&status), expected, "{backend} {fault}: {status:?}");
            let done = done(&events);
            assert_eq!(done.finish_reason(), FinishReason::Error, "{backend} {fault}");
            assert_eq!((done.attempts.len(), done.attempts[0].reason()), (1, expected), "{backend} {fault}");
            assert_eq!(done.message.unwrap().text, crate::support::text(&events), "{backend} {fault}");
            let had_output = !crate::support::text(&events).is_empty();
            let code = if had_output { Code::DataLoss } else { Code::Unavailable };
            assert_eq!(status.code(), code, "{backend} {fault}");
            let settled = world.ledger.only_settlement().await;
            assert_eq!((settled.outcome(), settled.reason()), (AttemptOutcome::Failed, expected), "{backend} {fault}");
            assert_eq!(settled.used.unwrap().fresh_input > 0, paid, "{backend} {fault}: {settled:?}");
        }
    }
}

#[tokio::test]
async fn no_connection_is_released_and_not_settled() {
    let world = World::with(|backend| {
        if backend.name == "openai" {
            // A port that was free a moment ago, with nobody on it.
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            backend.base_url = Some(format!("http://{}/v1", listener.local_addr().unwrap()));
        }
    })
    .await;
    let status = world.generate(ask("openai", "hi")).await.unwrap_err();
    assert_eq!((reason(&status), status.code()), (Reason::ConnectionFailed, Code::Unavailable));
    let (events, ended) = world.stream(ask("openai", "hi")).await;
    assert_eq!(reason(&ended.unwrap_err()), Reason::ConnectionFailed);
    assert_eq!(done(&events).finish_reason(), FinishReason::Error);
    world.ledger.balanced().await;
    let books = world.ledger.books();
    assert_eq!((books.released.len(), books.settled.len()), (2, 0));
}

#[tokio::test]
async fn a_key_that_was_refused_rests_while_another_is_left() {
    let credentials = async |world: &World| {
        let mut used = Vec::new();
        for _ in 0..4 {
            let answer = world.generate(ask("openai", "hi")).await.unwrap();
            let attempt = &answer.attempts[0].attempt_id;
            used.push(world.ledger.books().reserved[attempt].0.credential.clone());
        }
        used.dedup();
        used
    };
    for (fault, rests) in [("status=401", true), ("status=403", true), ("status=500", false)] {
        let world = World::start().await;
        let answer = world.generate(ask("openai", &format!("[[fault {fault} times=1]] hi"))).await;
        assert_eq!(answer.map_or(1, |answer| answer.attempts.len()), if rests { 2 } else { 1 }, "{fault}");
        let used = credentials(&world).await;
        assert_eq!(used.len(), if rests { 1 } else { 4 }, "{fault}: {used:?}");
    }
}
