//! `Route` and `ListBackends`.

use std::{sync::atomic::Ordering, time::Duration};

use tonic::{Code, Request};
use tutti_error::Reason;
use tutti_proto::router::v1::{ChatRequest, LeftBecause, ListBackendsRequest, RouteRequest};

use crate::mesh::{Mesh, chat, refusal};

fn route(chat: ChatRequest) -> RouteRequest {
    RouteRequest { chat: Some(chat) }
}

#[tokio::test]
async fn a_dry_run_explains_every_backend_and_does_nothing() {
    let mesh = Mesh::start().await;
    let request = ChatRequest { exclude_backends: vec!["claude".into()], ..chat("summarize this") };
    let decision = mesh.router().route(route(request)).await.unwrap().into_inner();
    assert_eq!((decision.task_type.as_str(), decision.task_type_from.as_str()), ("parsing", "keywords"));
    let candidates: Vec<_> =
        decision.candidates.iter().map(|c| (c.backend.as_str(), c.place, c.left_because())).collect();
    let expected = [
        ("openai", 1, LeftBecause::Unspecified),
        ("gemini", 0, LeftBecause::NotUsable),
        ("claude", 0, LeftBecause::Excluded),
    ];
    assert_eq!(candidates, expected);
    assert!(decision.candidates.iter().all(|c| !c.explanation.is_empty() && !c.model.is_empty()));
    assert_eq!((decision.persona.as_str(), decision.max_output_tokens), ("default", 4000));
    assert!(decision.prompt_tokens > 0);
    assert!(mesh.seen.appended.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_request_that_nobody_can_take_is_explained_too() {
    let mesh = Mesh::start().await;
    let request = ChatRequest { backend: "gemini".into(), ..chat("hi") };
    let decision = mesh.router().route(route(request)).await.unwrap().into_inner();
    assert!(decision.candidates.iter().all(|c| c.place == 0));
    assert_eq!(decision.candidates[2].explanation, "no credential");
}

#[tokio::test]
async fn what_is_wrong_is_named_under_chat() {
    let mesh = Mesh::start().await;
    assert_eq!(refusal(&mesh.router().route(RouteRequest::default()).await.unwrap_err()).1, "chat");
    let status = mesh.router().route(route(ChatRequest::default())).await.unwrap_err();
    assert_eq!(refusal(&status).1, "chat.messages");
    let status = mesh.router().route(route(ChatRequest { backend: "opena".into(), ..chat("hi") })).await.unwrap_err();
    assert_eq!((status.code(), refusal(&status).0), (Code::NotFound, Reason::UnknownBackend));
}

#[tokio::test]
async fn backends_come_in_their_order_and_are_remembered_for_a_moment() {
    let mesh = Mesh::start().await;
    let list = async |probe| {
        let mut request = Request::new(ListBackendsRequest { probe });
        request.set_timeout(Duration::from_secs(5));
        mesh.router().list_backends(request).await.unwrap().into_inner()
    };
    let (one, two) = tokio::join!(list(false), list(false));
    assert_eq!(one, two);
    let names: Vec<_> = one.backends.iter().map(|b| b.name.as_str()).collect();
    assert_eq!((names, one.default_backend.as_str()), (vec!["claude", "openai", "gemini"], "claude"));
    assert_eq!(*mesh.seen.checks.lock().unwrap(), 1);
    list(true).await;
    assert_eq!(*mesh.seen.checks.lock().unwrap(), 2);
}

#[tokio::test]
async fn backends_that_nobody_can_list_are_no_empty_list() {
    let mesh = Mesh::start().await;
    mesh.seen.unknowing.store(true, Ordering::Relaxed);
    for probe in [false, true] {
        let status = mesh.router().list_backends(ListBackendsRequest { probe }).await.unwrap_err();
        assert_eq!((status.code(), refusal(&status).0), (Code::Unavailable, Reason::StoreUnavailable));
    }
    // A failure is not remembered.
    mesh.seen.unknowing.store(false, Ordering::Relaxed);
    let listed = mesh.router().list_backends(ListBackendsRequest { probe: false }).await.unwrap().into_inner();
    assert_eq!(listed.backends.len(), 3);
}
