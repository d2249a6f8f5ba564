//! What a caller sees when providers fail: fallback before the first token, never after it, and never a silent end.

use tonic::Code;
use tutti_error::{Reason, attempts_of, reason_of};
use tutti_proto::{
    llm::v1::{AttemptOutcome, FinishReason, RunLimits},
    router::v1::{ChatRequest, LeftBecause, RouteRequest, chat_stream_response::Event},
};
use tutti_testkit::wait_for;

use crate::{
    disconnect::until_status,
    support::{BACKENDS, Mesh, PATIENCE, ask, patient},
};

/// Only the first request with this text fails, whichever backend it goes to.
fn first_fails(fault: &str) -> ChatRequest {
    ask("", &format!("[[fault {fault} times=1]] hello after {fault}"))
}

#[tokio::test]
async fn another_backend_answers_when_one_fails_before_the_first_token() {
    let mesh =
        Mesh::start_with("[orchestrator]\ndefault_backend = \"claude\"\nfallback_chain = [\"claude\", \"openai\"]\n")
            .await;
    let faults = [
        ("status=500", Reason::ProviderError),
        ("status=529", Reason::ProviderError),
        ("status=429", Reason::ProviderRateLimited),
        ("status=401", Reason::ProviderAuth),
        ("status=402", Reason::ProviderBilling),
        ("close", Reason::ConnectionFailed),
        ("reset", Reason::ConnectionFailed),
        ("truncate_after=0", Reason::Truncated),
        ("error_after=0", Reason::ProviderError),
        ("empty", Reason::EmptyOutput),
    ];
    for (fault, reason) in faults {
        let mut stream = mesh.stream(first_fails(fault)).await;
        let mut done = None;
        while let Some(event) = stream.message().await.unwrap_or_else(|e| panic!("{fault}: {e:?}")) {
            if let Some(Event::Done(answer)) = event.event {
                done = Some(answer);
            }
        }
        let done = done.unwrap();
        assert_eq!(done.backend, "openai", "{fault}");
        assert!(done.message.unwrap().text.contains("hello after"), "{fault}");
        let outcomes: Vec<_> = done.attempts.iter().map(|a| (a.backend.as_str(), a.outcome(), a.reason())).collect();
        let expected =
            [("claude", AttemptOutcome::Failed, reason), ("openai", AttemptOutcome::Ok, Reason::Unspecified)];
        assert_eq!(outcomes, expected, "{fault}");
        assert_eq!(mesh.settled(&done.request_id).await.len(), 2, "{fault}");
    }
}

#[tokio::test]
async fn a_stream_that_breaks_after_a_token_ends_with_done_and_data_loss() {
    let mesh = Mesh::start().await;
    let faults = ["truncate_after=3", "cut_at=600", "error_after=3", "malformed_after=3"];
    for backend in BACKENDS {
        for fault in faults {
            let mut stream = mesh.stream(ask(backend, &format!("[[fault {fault}]] [[words 400]]"))).await;
            let (last, status) = until_status(&mut stream).await;
            let Some(Event::Done(done)) = last else { panic!("{backend} {fault}: no done before {status:?}") };
            assert_eq!(done.finish_reason(), FinishReason::Error, "{backend} {fault}");
            assert_eq!(done.attempts.len(), 1, "{backend} {fault}");
            let partial = done.message.unwrap();
            // A cut in the first bytes may come before the first token; reasoning is output too.
            let nothing = partial.text.is_empty() && partial.parts.is_empty();
            let expected = if nothing { Code::Unavailable } else { Code::DataLoss };
            assert_eq!(status.code(), expected, "{backend} {fault}: {status:?}");
            let record = &mesh.settled(&done.request_id).await[0];
            assert_eq!(record.outcome(), AttemptOutcome::Failed, "{backend} {fault}");
        }
    }
}

#[tokio::test]
async fn when_every_backend_fails_all_attempts_are_listed() {
    let mesh = Mesh::start().await;
    let status = mesh.chat(ask("", "[[fault status=503]] hello")).await.unwrap_err();
    assert_eq!((status.code(), reason_of(&status)), (Code::Unavailable, Some(Reason::AllBackendsFailed)));
    let tried: Vec<_> = attempts_of(&status).into_iter().map(|a| a.backend).collect();
    for backend in ["claude", "openai", "gemini", "ollama"] {
        assert!(tried.contains(&backend.to_owned()), "{tried:?}");
        assert!(status.message().contains(backend), "{}", status.message());
    }
    let refused = mesh.chat(ask("", "[[fault status=401]] hello")).await.unwrap_err();
    assert_eq!(reason_of(&refused), Some(Reason::AllBackendsFailed));
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
}

#[tokio::test]
async fn timeouts_are_typed_and_settled() {
    let mesh =
        Mesh::start_with("[backends.openai.timeouts]\nfirst_token = \"300ms\"\nidle = \"300ms\"\ntotal = \"2s\"\n")
            .await;
    let cases = [
        ("[[fault head_ms=5000]] hello", Reason::FirstTokenTimeout, Code::Unavailable),
        ("[[fault ttft_ms=5000]] hello", Reason::FirstTokenTimeout, Code::Unavailable),
        ("[[fault stall_after=2]] [[words 50]]", Reason::IdleTimeout, Code::DataLoss),
        ("[[fault chunk_ms=100]] [[words 500]]", Reason::TotalTimeout, Code::DataLoss),
    ];
    for (text, reason, code) in cases {
        let mut stream = mesh.stream(ask("openai", text)).await;
        let (last, status) = until_status(&mut stream).await;
        assert_eq!((reason_of(&status), status.code()), (Some(reason), code), "{text}: {status:?}");
        let Some(Event::Done(done)) = last else { panic!("{text}: no done") };
        assert_eq!(mesh.settled(&done.request_id).await[0].reason(), reason, "{text}");
    }
}

#[tokio::test]
async fn the_cap_on_attempts_holds() {
    let mesh = Mesh::start().await;
    let limits = RunLimits { max_attempts: 2, ..Default::default() };
    let chat = ChatRequest { limits: Some(limits), ..ask("", "[[fault status=500]] hello") };
    let status = mesh.chat(chat).await.unwrap_err();
    assert_eq!(attempts_of(&status).len(), 2, "{status:?}");
    assert_eq!(mesh.sim.stats().requests, 2);
}

/// Both layers try several times; together they stay within the run's cap, and no backend of the chain is left out.
#[tokio::test]
async fn tries_of_several_layers_never_multiply() {
    let mesh = Mesh::start_with(
        "[orchestrator]\ndefault_backend = \"claude\"\nfallback_chain = [\"claude\", \"openai\", \"gemini\"]\n\
         [resilience.retry]\nmax_attempts = 3\nbase_delay = \"1ms\"\n[resilience.breaker]\nenabled = false\n",
    )
    .await;
    for (max_attempts, expected) in [(1, [1, 0, 0]), (4, [2, 1, 1]), (6, [3, 2, 1]), (0, [3, 3, 3])] {
        let limits = RunLimits { max_attempts, ..Default::default() };
        let chat = ChatRequest { limits: Some(limits), ..ask("", "[[fault status=500]] hello") };
        let before = mesh.sim.stats().requests;
        let status = mesh.chat(chat.clone()).await.unwrap_err();
        let attempts = attempts_of(&status);
        let tried = ["claude", "openai", "gemini"].map(|name| attempts.iter().filter(|a| a.backend == name).count());
        assert_eq!(tried, expected, "{max_attempts}: {status:?}");
        let sent = usize::try_from(mesh.sim.stats().requests - before).unwrap();
        assert_eq!(sent, attempts.len(), "{max_attempts}");
        let mut stream = mesh.stream(chat).await;
        let (last, _) = until_status(&mut stream).await;
        let Some(Event::Done(done)) = last else { panic!("{max_attempts}: no done") };
        assert_eq!(done.attempts.len(), attempts.len(), "{max_attempts}");
        assert_eq!(mesh.settled(&done.request_id).await.len(), attempts.len(), "{max_attempts}");
    }
}

#[tokio::test]
async fn a_backend_that_keeps_failing_is_skipped_before_it_is_called() {
    let mesh = Mesh::start_with(
        "[orchestrator]\ndefault_backend = \"claude\"\nfallback_chain = [\"claude\", \"openai\"]\n\
         [resilience.retry]\nmax_attempts = 1\n[resilience.breaker]\nfailures = 2\nopen_for = \"1h\"\n",
    )
    .await;
    for fault in ["status=500", "status=503"] {
        assert_eq!(mesh.chat(first_fails(fault)).await.unwrap().attempts.len(), 2);
    }
    // The router hears of it without being asked.
    let dry = RouteRequest { chat: Some(ask("", "hello")) };
    let claude = wait_for(PATIENCE, || async {
        let route = mesh.router().route(patient(dry.clone())).await.unwrap().into_inner();
        let claude = route.candidates.into_iter().find(|candidate| candidate.backend == "claude").unwrap();
        if claude.left_because() == LeftBecause::Failing { Ok(claude) } else { Err(claude) }
    })
    .await;
    assert!(claude.explanation.contains("circuit breaker is open"), "{claude:?}");
    let before = mesh.sim.stats().requests;
    let answer = mesh.chat(ask("", "hello")).await.unwrap();
    assert_eq!((answer.backend.as_str(), answer.attempts.len()), ("openai", 1));
    assert_eq!(mesh.sim.stats().requests - before, 1);
    // Named by the caller it is asked all the same, and says what is the matter.
    let status = mesh.chat(ask("claude", "hello")).await.unwrap_err();
    assert_eq!((status.code(), reason_of(&status)), (Code::Unavailable, Some(Reason::CircuitOpen)));
    assert_eq!(mesh.sim.stats().requests - before, 1);
}
