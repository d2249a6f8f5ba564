//! Requests with an idempotency key, and `Attach`.

use std::time::Duration;

use prost::Message as _;
use serde_json::json;
use tonic::{Code, Request, Status};
use tutti_error::Reason;
use tutti_proto::router::v1::{
    AttachRequest, CancelRequest, ChatRequest, ChatStreamRequest, ChatStreamResponse, chat_stream_response::Event,
};

use crate::{
    http::Door,
    mesh::{Mesh, chat, refusal},
};

fn keyed(text: &str) -> ChatRequest {
    ChatRequest { idempotency_key: "k".into(), ..chat(text) }
}

async fn stream(mesh: &Mesh, request: ChatRequest) -> Vec<ChatStreamResponse> {
    let request = ChatStreamRequest { chat: Some(request) };
    let mut stream = mesh.router().chat_stream(request).await.unwrap().into_inner();
    let mut events = Vec::new();
    while let Some(event) = stream.message().await.unwrap() {
        events.push(event);
    }
    events
}

/// What is attached to after an event, and the status when it isn't OK.
async fn attach(mesh: &Mesh, request: Request<AttachRequest>) -> (Vec<ChatStreamResponse>, Option<Status>) {
    let mut stream = mesh.router().attach(request).await.unwrap().into_inner();
    let mut events = Vec::new();
    loop {
        match stream.message().await {
            Ok(Some(attached)) => events.push(attached.event.unwrap()),
            Ok(None) => return (events, None),
            Err(status) => return (events, Some(status)),
        }
    }
}

#[tokio::test]
async fn a_repeated_request_is_answered_from_the_record() {
    let mesh = Mesh::start().await;
    let first = stream(&mesh, keyed("one two")).await;
    let again = stream(&mesh, keyed("one two")).await;
    assert_eq!(first, again);
    let Some(Event::Done(done)) = &first[first.len() - 1].event else { panic!("{first:?}") };
    let whole = mesh.router().chat(keyed("one two")).await.unwrap().into_inner();
    assert_eq!(whole.encode_to_vec(), done.encode_to_vec());
    let after = AttachRequest { request_id: done.request_id.clone(), after_seq: 1 };
    assert_eq!(attach(&mesh, Request::new(after)).await.0, first[1..]);
    assert_eq!(mesh.seen.generated.lock().unwrap().len(), 1);
    let status = mesh.router().chat(keyed("another")).await.unwrap_err();
    assert_eq!((status.code(), refusal(&status).0), (Code::AlreadyExists, Reason::IdempotencyConflict));
}

#[tokio::test]
async fn nobody_attaches_to_what_is_not_kept() {
    let mesh = Mesh::start().await;
    let unkeyed = mesh.router().chat(chat("hi")).await.unwrap().into_inner();
    let request = AttachRequest { request_id: unkeyed.request_id, after_seq: 0 };
    let status = mesh.router().attach(request).await.unwrap_err();
    assert_eq!((status.code(), refusal(&status).0), (Code::NotFound, Reason::UnknownRequest));
    let status = mesh.router().attach(AttachRequest::default()).await.unwrap_err();
    assert_eq!((status.code(), refusal(&status).1.as_str()), (Code::InvalidArgument, "request_id"));
}

#[tokio::test]
async fn those_who_are_attached_have_deadlines_of_their_own() {
    let mesh = Mesh::start().await;
    let request = ChatStreamRequest { chat: Some(keyed("stall")) };
    let mut first = mesh.router().chat_stream(request).await.unwrap().into_inner();
    let request_id = first.message().await.unwrap().unwrap().request_id;
    let mut request = Request::new(AttachRequest { request_id: request_id.clone(), after_seq: 1 });
    request.set_timeout(Duration::from_millis(400));
    let (events, status) = attach(&mesh, request).await;
    assert_eq!(events[0].event, Some(Event::Delta("so far".into())));
    assert_eq!(refusal(&status.unwrap()).0, Reason::DeadlineExceeded);
    assert!(!mesh.seen.dropped.is_cancelled(), "the call has another reader");
    mesh.router().cancel(CancelRequest { request_id }).await.unwrap();
    mesh.seen.dropped.cancelled().await;
}

#[tokio::test]
async fn the_door_replays_to_the_byte() {
    let mesh = Mesh::start().await;
    let door = Door::open(&mesh).await;
    let key = |more: serde_json::Value| {
        let mut body = json!({"metadata": {"x-tutti-idempotency-key": "k"}});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let streamed = || key(json!({"stream": true}));
    let first = door.chat("one two", streamed()).await;
    let again = door.chat("one two", streamed()).await;
    assert_eq!((first.status, &first.body), (200, &again.body));
    assert_eq!(first.header("x-request-id"), again.header("x-request-id"));
    let whole = door.chat("one two", key(json!({}))).await;
    let repeated = door.chat("one two", key(json!({}))).await;
    assert_eq!((whole.status, &whole.body), (200, &repeated.body));
    assert_eq!(whole.json()["choices"][0]["message"]["content"], "echo: one two");
    assert_eq!(mesh.seen.generated.lock().unwrap().len(), 1);
    let other = door.chat("another", key(json!({}))).await;
    assert_eq!((other.status, other.json()["error"]["code"].as_str()), (409, Some("idempotency_conflict")));
}
