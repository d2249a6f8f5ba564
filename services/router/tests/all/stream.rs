//! `ChatStream`.

use std::time::{Duration, Instant};

use tonic::{Code, Request, Status};
use tutti_error::Reason;
use tutti_proto::{
    llm::v1::FinishReason,
    memory::v1::TurnState,
    router::v1::{ChatRequest, ChatResponse, ChatStreamRequest, ChatStreamResponse, chat_stream_response::Event},
};

use crate::mesh::{Mesh, chat, refusal};

/// All events of a stream, and the status when it isn't OK.
async fn collect(mesh: &Mesh, request: Request<ChatStreamRequest>) -> (Vec<ChatStreamResponse>, Option<Status>) {
    let mut stream = mesh.router().chat_stream(request).await.unwrap().into_inner();
    let mut events = Vec::new();
    loop {
        match stream.message().await {
            Ok(Some(event)) => events.push(event),
            Ok(None) => return (events, None),
            Err(status) => return (events, Some(status)),
        }
    }
}

fn stream(chat: ChatRequest) -> Request<ChatStreamRequest> {
    Request::new(ChatStreamRequest { chat: Some(chat) })
}

fn done(events: &[ChatStreamResponse]) -> &ChatResponse {
    match events.last().and_then(|e| e.event.as_ref()) {
        Some(Event::Done(done)) => done,
        other => panic!("the last event is {other:?}"),
    }
}

#[tokio::test]
async fn events_count_from_one_and_done_is_last() {
    let mesh = Mesh::start().await;
    let request = ChatRequest { mesh_tools: vec!["read".into()], ..chat("tool") };
    let (events, status) = collect(&mesh, stream(request)).await;
    assert!(status.is_none());
    assert!((1..).zip(&events).all(|(n, event)| event.seq == n));
    assert!(matches!(events[0].event, Some(Event::Route(_))));
    let id = &done(&events).request_id;
    assert!(events.iter().all(|event| event.request_id == *id));
    let has = |test: fn(&Event) -> bool| events.iter().filter_map(|e| e.event.as_ref()).any(test);
    assert!(has(|e| matches!(e, Event::ToolCall(_))) && has(|e| matches!(e, Event::ToolOutput(_))));
    assert!(has(|e| matches!(e, Event::ToolResult(_))) && has(|e| matches!(e, Event::Delta(_))));
    assert_eq!(done(&events).message.as_ref().unwrap().text, "tool said: x");
}

#[tokio::test]
async fn a_stream_that_breaks_ends_with_done_and_a_status() {
    let mesh = Mesh::start().await;
    let (events, status) = collect(&mesh, stream(chat("break"))).await;
    let status = status.unwrap();
    assert_eq!((status.code(), refusal(&status).0), (Code::DataLoss, Reason::Truncated));
    let done = done(&events);
    assert_eq!((done.finish_reason(), done.attempts.len()), (FinishReason::Error, 1));
    assert_eq!(done.message.as_ref().unwrap().text, "half");
}

#[tokio::test]
async fn a_deadline_ends_a_stream_with_what_there_is() {
    let mesh = Mesh::start().await;
    let mut request = stream(chat("stall"));
    request.set_timeout(Duration::from_millis(400));
    let (events, status) = collect(&mesh, request).await;
    assert_eq!(refusal(&status.unwrap()).0, Reason::DeadlineExceeded);
    assert_eq!(done(&events).message.as_ref().unwrap().text, "so far");
    mesh.seen.dropped.cancelled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_goes_away_cancels_at_once_and_the_session_says_so() {
    let mesh = Mesh::start().await;
    let request = stream(ChatRequest { session_id: "s".into(), ..chat("stall") });
    let mut stream = mesh.router().chat_stream(request).await.unwrap().into_inner();
    while !matches!(stream.message().await.unwrap().unwrap().event, Some(Event::Delta(_))) {}
    let left = Instant::now();
    drop(stream);
    mesh.seen.dropped.cancelled().await;
    assert!(left.elapsed() < Duration::from_secs(1), "{:?}", left.elapsed());
    mesh.app.stop(Duration::from_secs(5)).await;
    let appended = mesh.seen.appended.lock().unwrap();
    let last = appended.last().unwrap();
    assert_eq!((last.state(), last.messages[0].text.as_str()), (TurnState::Incomplete, "so far"));
}

#[tokio::test]
async fn what_is_wrong_is_said_at_the_head_by_its_name() {
    let mesh = Mesh::start().await;
    let status = mesh.router().chat_stream(ChatStreamRequest::default()).await.unwrap_err();
    assert_eq!(refusal(&status).1, "chat");
    let status = mesh.router().chat_stream(stream(chat(""))).await.unwrap_err();
    assert_eq!(refusal(&status).1, "chat.messages[0].text");
}
