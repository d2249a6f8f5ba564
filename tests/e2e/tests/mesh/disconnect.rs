//! A client that goes away in the middle of a stream: the provider's connection closes at once, and what was used is in
//! the books.

use std::time::{Duration, Instant};

use tutti_proto::{
    ledger::v1::UsageState,
    llm::v1::AttemptOutcome,
    router::v1::{CancelRequest, chat_stream_response::Event},
};
use tutti_simulator::RequestState;
use tutti_testkit::wait_for;

use crate::support::{BACKENDS, Mesh, PATIENCE, ask, patient};

const SLOW: &str = "[[fault chunk_ms=20]] [[words 2000]]";

#[tokio::test]
async fn a_dropped_stream_reaches_the_provider_at_once() {
    let mesh = Mesh::start().await;
    let mut took = Vec::new();
    for round in 0..40 {
        let backend = BACKENDS[round % BACKENDS.len()];
        let mut stream = mesh.stream(ask(backend, SLOW)).await;
        let request_id = until_delta(&mut stream).await;
        let dropped = Instant::now();
        drop(stream);
        wait_for(PATIENCE, || std::future::ready(mesh.sim.stats().disconnected > round as u64)).await;
        took.push(dropped.elapsed());

        let records = mesh.settled(&request_id).await;
        let record = &records[0];
        assert_eq!(
            (records.len(), record.state(), record.outcome()),
            (1, UsageState::Settled, AttemptOutcome::Cancelled)
        );
        let output = record.tokens.unwrap().visible_output;
        assert!((1..200).contains(&output), "{backend}: {output} tokens of output");
        let upstream = mesh.sim.request(&record.attempt_id).unwrap();
        assert_eq!(upstream.state, RequestState::Disconnected, "{backend}");
    }
    took.sort();
    let p95 = took[took.len() * 95 / 100];
    assert!(p95 <= Duration::from_millis(100), "p95 {p95:?} of {took:?}");
    assert!(took[took.len() - 1] <= Duration::from_secs(1), "{took:?}");
}

#[tokio::test]
async fn cancel_ends_the_turn_with_its_partial_answer() {
    let mesh = Mesh::start().await;
    let mut stream = mesh.stream(ask("openai", SLOW)).await;
    let request_id = until_delta(&mut stream).await;
    mesh.router().cancel(patient(CancelRequest { request_id: request_id.clone() })).await.unwrap();
    let (last, status) = until_status(&mut stream).await;
    assert_eq!(status.code(), tonic::Code::Cancelled);
    let Some(Event::Done(done)) = last else { panic!("no done event") };
    assert!(!done.message.unwrap().text.is_empty());
    // OpenAI's format tells usage only at its end, which never came: what is told is our estimate.
    let (attempt, usage) = (&done.attempts[0], done.usage.unwrap());
    let record = &mesh.settled(&request_id).await[0];
    assert_eq!((attempt.attempt_id.as_str(), attempt.usage), (record.attempt_id.as_str(), done.usage));
    assert!(usage.estimated && usage.input_tokens == record.tokens.unwrap().fresh_input, "{usage:?} {record:?}");
    let gone = mesh.router().cancel(patient(CancelRequest { request_id: request_id.clone() })).await.unwrap_err();
    assert_eq!(gone.code(), tonic::Code::NotFound);
    assert_eq!(mesh.settled(&request_id).await[0].outcome(), AttemptOutcome::Cancelled);
    wait_for(PATIENCE, || std::future::ready(mesh.sim.stats().disconnected == 1)).await;
}

#[tokio::test]
async fn a_deadline_in_the_middle_of_a_stream_is_settled_too() {
    let mesh = Mesh::start().await;
    let chat = tutti_proto::router::v1::ChatStreamRequest { chat: Some(ask("claude", SLOW)) };
    let mut request = tonic::Request::new(chat);
    request.set_timeout(Duration::from_millis(700));
    let mut stream = mesh.router().chat_stream(request).await.unwrap().into_inner();
    let request_id = until_delta(&mut stream).await;
    let (_, status) = until_status(&mut stream).await;
    assert_eq!(status.code(), tonic::Code::DeadlineExceeded, "{status:?}");
    let record = &mesh.settled(&request_id).await[0];
    assert_eq!(record.state(), UsageState::Settled);
    assert!(record.tokens.unwrap().visible_output > 0);
    wait_for(PATIENCE, || std::future::ready(mesh.sim.stats().disconnected == 1)).await;
}

pub(crate) type Stream = tonic::Streaming<tutti_proto::router::v1::ChatStreamResponse>;

/// Reads up to the first piece of text; gives the request's id.
async fn until_delta(stream: &mut Stream) -> String {
    loop {
        let event = stream.message().await.unwrap().unwrap();
        if matches!(event.event, Some(Event::Delta(_))) {
            return event.request_id;
        }
    }
}

/// Reads to the status that ends a broken stream; gives the last event too.
pub(crate) async fn until_status(stream: &mut Stream) -> (Option<Event>, tonic::Status) {
    let mut last = None;
    loop {
        match stream.message().await {
            Ok(Some(event)) => last = event.event.or(last),
            Ok(None) => panic!("the stream ended as if it were whole"),
            Err(status) => return (last, status),
        }
    }
}
