//! `Chat` and `Cancel`.

use std::time::Duration;

use tonic::{Code, Request};
use tutti_error::{Reason, attempts_of};
use tutti_proto::{
    llm::v1::FinishReason,
    memory::v1::TurnState,
    router::v1::{CancelRequest, ChatRequest},
};
use tutti_types::RequestId;

use crate::mesh::{Mesh, chat, refusal};

#[tokio::test]
async fn a_turn_is_answered_and_all_fields_are_filled() {
    let mesh = Mesh::start().await;
    let response = mesh.router().chat(chat("hi")).await.unwrap().into_inner();
    assert_eq!(response.message.as_ref().unwrap().text, "echo: hi");
    assert_eq!((response.finish_reason(), response.backend.as_str()), (FinishReason::Stop, "claude"));
    assert!(RequestId::parse(&response.request_id).is_ok());
    assert_eq!((response.attempts.len(), response.usage.unwrap().cost_nano_usd), (1, 7));
    assert!(response.latency.is_some() && response.time_to_first_token.is_some());
}

#[tokio::test]
async fn tools_of_the_mesh_run_within_the_turn() {
    let mesh = Mesh::start().await;
    let request = ChatRequest { mesh_tools: vec!["*".into()], session_id: "s".into(), ..chat("tool") };
    let response = mesh.router().chat(request).await.unwrap().into_inner();
    assert_eq!(response.message.unwrap().text, "tool said: x");
    assert_eq!((response.tool_results.len(), response.round_messages.len()), (1, 2));
    let states: Vec<_> = mesh.seen.appended.lock().unwrap().iter().map(|a| (a.index, a.state())).collect();
    assert_eq!(states, [(0, TurnState::Open), (1, TurnState::Open), (2, TurnState::Complete)]);
}

#[tokio::test]
async fn another_backend_takes_over() {
    let mesh = Mesh::start().await;
    let response = mesh.router().chat(chat("fail first")).await.unwrap().into_inner();
    assert_eq!((response.backend.as_str(), response.attempts.len()), ("openai", 2));
}

#[tokio::test]
async fn when_all_fail_the_attempts_travel_with_the_status() {
    let mesh = Mesh::start().await;
    let status = mesh.router().chat(chat("fail")).await.unwrap_err();
    assert_eq!((status.code(), refusal(&status).0), (Code::Unavailable, Reason::AllBackendsFailed));
    let backends: Vec<_> = attempts_of(&status).into_iter().map(|a| a.backend).collect();
    assert_eq!(backends, ["claude", "openai"]);
    assert!(status.message().contains("openai: PROVIDER_ERROR"), "{}", status.message());
}

#[tokio::test]
async fn a_deadline_ends_the_call_and_what_it_waits_for() {
    let mesh = Mesh::start().await;
    let mut request = Request::new(chat("stall"));
    request.set_timeout(Duration::from_millis(200));
    let status = mesh.router().chat(request).await.unwrap_err();
    assert_eq!(refusal(&status).0, Reason::DeadlineExceeded);
    mesh.seen.dropped.cancelled().await;
}

#[tokio::test]
async fn a_running_request_can_be_cancelled_and_its_id_is_taken() {
    let mesh = Mesh::start().await;
    let id = RequestId::generate().to_string();
    let request = ChatRequest { request_id: id.clone(), session_id: "s".into(), ..chat("stall") };
    let running = async {
        let mut router = mesh.router();
        router.chat(request.clone()).await.unwrap_err()
    };
    let cancelling = async {
        let mut router = mesh.router();
        // The request is running once its messages are in the log.
        while mesh.seen.appended.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        let taken = router.chat(request.clone()).await.unwrap_err();
        assert_eq!(refusal(&taken).1, "request_id");
        router.cancel(CancelRequest { request_id: id.clone() }).await.unwrap();
    };
    let (status, ()) = tokio::join!(running, cancelling);
    assert_eq!((status.code(), refusal(&status).0), (Code::Cancelled, Reason::Cancelled));
    let status = mesh.router().cancel(CancelRequest { request_id: id }).await.unwrap_err();
    assert_eq!((status.code(), refusal(&status).0), (Code::NotFound, Reason::UnknownRequest));
    let status = mesh.router().cancel(CancelRequest::default()).await.unwrap_err();
    assert_eq!(refusal(&status).1, "request_id");
    mesh.app.stop(Duration::from_secs(5)).await;
    assert_eq!(mesh.seen.appended.lock().unwrap().last().unwrap().state(), TurnState::Incomplete);
}

#[tokio::test]
async fn a_memory_that_is_away_refuses_before_anything_is_paid() {
    let mesh = Mesh::start().await;
    let status = mesh.router().chat(ChatRequest { session_id: "away".into(), ..chat("hi") }).await.unwrap_err();
    assert_eq!((status.code(), refusal(&status).0), (Code::Unavailable, Reason::StoreUnavailable));
}
