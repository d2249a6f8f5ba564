//! `SessionService` through the real gRPC stack, in process.

#![cfg(test)]

use std::time::Duration;

use context_memory::{App, Config};
use tonic::{Code, Request, Status};
use tutti_client::Channel;
use tutti_config::{Env, Loader};
use tutti_error::{Reason, reason_of};
use tutti_proto::{
    llm::v1::{Message, Role, ToolCall},
    memory::v1::{
        AppendMessagesRequest, BuildContextRequest, DeleteSessionRequest, GetHistoryRequest, ListSessionsRequest,
        ResetContextRequest, TurnState, session_service_client::SessionServiceClient,
    },
};
use tutti_server::Readiness;

struct Memory {
    client: SessionServiceClient<Channel>,
    _app: App,
    _dir: tempfile::TempDir,
}

async fn memory() -> Memory {
    let dir = tempfile::tempdir().unwrap();
    let config = Loader::new().start_dir(dir.path()).env(Env::from_map([("TUTTI_CONTEXT__SESSION_MAX_MESSAGES", "6")]));
    let config = config.load().unwrap();
    let reader = config.reader();
    let config = Config::read(&reader);
    reader.finish().unwrap();
    let app = App::start(config, dir.path(), &Readiness::default()).await.unwrap();
    let channel = Channel::in_process(app.services().stack(Duration::from_secs(5)));
    Memory { client: SessionServiceClient::new(channel), _app: app, _dir: dir }
}

fn message(role: Role, text: &str) -> Message {
    Message { role: role.into(), text: text.into(), ..Default::default() }
}

fn append(turn: &str, index: u32, messages: Vec<Message>, state: TurnState) -> AppendMessagesRequest {
    AppendMessagesRequest {
        session_id: "s".into(),
        turn_id: turn.into(),
        index,
        backend: "claude".into(),
        model: "m".into(),
        messages,
        state: state.into(),
    }
}

fn context(session: &str) -> BuildContextRequest {
    BuildContextRequest { session_id: session.into(), backend: "claude".into(), ..Default::default() }
}

#[track_caller]
fn refused(status: &Status, code: Code, reason: Reason, says: &str) {
    assert_eq!((status.code(), reason_of(status)), (code, Some(reason)), "{status:?}");
    assert!(status.message().contains(says), "{status:?}");
}

#[tokio::test]
async fn a_conversation_is_remembered_shaped_reset_and_deleted() {
    let mut memory = memory().await;
    for n in 0..5 {
        let turn = format!("t{n}");
        let question = vec![message(Role::User, &format!("q{n}"))];
        let answer = vec![message(Role::Assistant, &format!("a{n}"))];
        memory.client.append_messages(append(&turn, 0, question, TurnState::Open)).await.unwrap();
        memory.client.append_messages(append(&turn, 1, answer, TurnState::Complete)).await.unwrap();
    }
    let shown = memory.client.build_context(context("s")).await.unwrap().into_inner();
    let texts: Vec<_> = shown.messages.iter().map(|m| m.text.as_str()).collect();
    assert_eq!(texts, ["q2", "a2", "q3", "a3", "q4", "a4"]);
    assert_eq!(shown.dropped_messages, 4);
    assert!(shown.tokens > 0);

    let page = GetHistoryRequest { session_id: "s".into(), page_size: 7, page_token: String::new() };
    let first = memory.client.get_history(page.clone()).await.unwrap().into_inner();
    let rest = GetHistoryRequest { page_token: first.next_page_token, ..page };
    let rest = memory.client.get_history(rest).await.unwrap().into_inner();
    assert_eq!((first.entries.len(), rest.entries.len(), rest.next_page_token.as_str()), (7, 3, ""));

    let reset = ResetContextRequest { session_id: "s".into(), backend: String::new() };
    memory.client.reset_context(reset).await.unwrap();
    assert!(memory.client.build_context(context("s")).await.unwrap().into_inner().messages.is_empty());
    let listed = memory.client.list_sessions(ListSessionsRequest::default()).await.unwrap().into_inner();
    assert_eq!((listed.sessions[0].messages, listed.sessions[0].turns), (10, 5));
    let deleted = memory.client.delete_session(DeleteSessionRequest { session_id: "s".into() }).await.unwrap();
    assert_eq!(deleted.into_inner().messages, 10);
}

#[tokio::test]
async fn append_messages_refuses_what_is_malformed_and_closed_turns() {
    let mut memory = memory().await;
    let nobody = append("t", 0, vec![message(Role::Unspecified, "q")], TurnState::Open);
    let status = memory.client.append_messages(nobody).await.unwrap_err();
    refused(&status, Code::InvalidArgument, Reason::InvalidRequest, "messages[0].role");
    let nameless = AppendMessagesRequest { session_id: String::new(), ..append("t", 0, vec![], TurnState::Open) };
    let status = memory.client.append_messages(nameless).await.unwrap_err();
    refused(&status, Code::InvalidArgument, Reason::InvalidRequest, "session_id");
    let closing = append("t", 0, vec![message(Role::User, "q")], TurnState::Incomplete);
    memory.client.append_messages(closing).await.unwrap();
    let status = memory.client.append_messages(append("t", 1, vec![], TurnState::Open)).await.unwrap_err();
    refused(&status, Code::InvalidArgument, Reason::InvalidRequest, "closed");
}

#[tokio::test]
async fn build_context_refuses_no_backend_and_knows_answers_to_come() {
    let mut memory = memory().await;
    let status =
        memory.client.build_context(BuildContextRequest { backend: String::new(), ..context("s") }).await.unwrap_err();
    refused(&status, Code::InvalidArgument, Reason::InvalidRequest, "backend");
    assert!(memory.client.build_context(context("unknown")).await.unwrap().into_inner().messages.is_empty());

    let mut asks = message(Role::Assistant, "");
    asks.tool_calls.push(ToolCall {
        id: "c1".into(),
        name: "add".into(),
        arguments_json: "{}".into(),
        ..Default::default()
    });
    let turn = append("t", 0, vec![message(Role::User, "q"), asks], TurnState::Complete);
    memory.client.append_messages(turn).await.unwrap();
    let unanswered = memory.client.build_context(context("s")).await.unwrap().into_inner();
    assert_eq!(unanswered.messages.len(), 1);
    let result = Message { tool_call_id: "c1".into(), ..message(Role::Tool, "4") };
    let answered = BuildContextRequest { new_messages: vec![result], ..context("s") };
    let answered = memory.client.build_context(answered).await.unwrap().into_inner();
    assert_eq!(answered.messages[1].tool_calls[0].id, "c1");
}

#[tokio::test]
async fn unknown_sessions_are_not_found() {
    let mut memory = memory().await;
    let session_id = String::from("nope");
    let history = GetHistoryRequest { session_id: session_id.clone(), ..Default::default() };
    let status = memory.client.get_history(history).await.unwrap_err();
    refused(&status, Code::NotFound, Reason::UnknownSession, "nope");
    let reset = ResetContextRequest { session_id: session_id.clone(), ..Default::default() };
    let status = memory.client.reset_context(reset).await.unwrap_err();
    refused(&status, Code::NotFound, Reason::UnknownSession, "nope");
    let status = memory.client.delete_session(DeleteSessionRequest { session_id }).await.unwrap_err();
    refused(&status, Code::NotFound, Reason::UnknownSession, "nope");
}

#[tokio::test]
async fn list_sessions_refuses_foreign_tokens_and_sizes() {
    let mut memory = memory().await;
    let foreign = ListSessionsRequest { page_token: "zzz".into(), ..Default::default() };
    let status = memory.client.list_sessions(foreign).await.unwrap_err();
    refused(&status, Code::InvalidArgument, Reason::InvalidRequest, "page_token");
    let status =
        memory.client.list_sessions(ListSessionsRequest { page_size: 1001, ..Default::default() }).await.unwrap_err();
    refused(&status, Code::InvalidArgument, Reason::InvalidRequest, "page_size");
}

/// Every call of the service ends at its deadline: a nanosecond is over before the store can answer.
#[tokio::test]
async fn calls_end_at_their_deadline() {
    let mut memory = memory().await;
    fn hurried<T>(message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(Duration::from_nanos(1));
        request
    }
    let session_id = String::from("s");
    let reset = ResetContextRequest { session_id: session_id.clone(), ..Default::default() };
    let history = GetHistoryRequest { session_id: session_id.clone(), ..Default::default() };
    let codes = [
        memory.client.append_messages(hurried(append("t", 0, vec![], TurnState::Open))).await.map(drop),
        memory.client.build_context(hurried(context("s"))).await.map(drop),
        memory.client.get_history(hurried(history)).await.map(drop),
        memory.client.reset_context(hurried(reset)).await.map(drop),
        memory.client.list_sessions(hurried(ListSessionsRequest::default())).await.map(drop),
        memory.client.delete_session(hurried(DeleteSessionRequest { session_id })).await.map(drop),
    ];
    for result in codes {
        assert_eq!(result.unwrap_err().code(), Code::DeadlineExceeded);
    }
}
