//! Calls with a key on one replica, and on two that live.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use prost::Message as _;
use tutti_config::PostgresConfig;
use tutti_error::{Error, Reason, Result};
use tutti_proto::{
    llm::v1::FinishReason,
    memory::v1::TurnState,
    router::v1::{ChatRequest, ChatResponse, ChatStreamResponse, chat_stream_response::Event},
};
use tutti_server::Readiness;
use tutti_testkit::{TestPostgres, wait_for};
use tutti_types::RequestId;

use super::Reader;
use crate::{
    Idempotency,
    app::Desk,
    clients::GatewayEvent,
    domain::{
        ask::Ask,
        fakes::{Fake, Play, answer, chat, context, done as generation, failing},
    },
    store::{PostgresStore, SqliteStore, schema},
};

pub(super) const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn settings(grace: Duration) -> Idempotency {
    Idempotency {
        ttl: Duration::from_secs(3600),
        resume_grace: grace,
        lease: Duration::from_millis(800),
        max_run: Duration::from_secs(60),
    }
}

const LONG: Duration = Duration::from_secs(60);

/// A replica over SQLite, and its folder.
async fn embedded(plays: Vec<Play>, grace: Duration) -> (Arc<Desk>, Arc<Fake>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(SqliteStore::open(folder.path()).await.unwrap());
    let fake = Arc::new(Fake::playing(plays));
    let desk = fake.desk_with(store, settings(grace));
    desk.look_after_calls();
    (desk, fake, folder)
}

/// A database with the tables.
pub(super) async fn database() -> PostgresConfig {
    let config = PostgresConfig::new(TestPostgres::shared().database());
    schema().migrate(&config).await.unwrap();
    config
}

/// A replica over Postgres, in the runtime that asks for it.
pub(super) async fn replica(config: &PostgresConfig, fake: &Arc<Fake>, grace: Duration) -> Arc<Desk> {
    let settings = settings(grace);
    let store = PostgresStore::open(config, settings.lease, &Readiness::default()).await.unwrap();
    let desk = fake.desk_with(Arc::new(store), settings);
    desk.look_after_calls();
    desk
}

pub(super) fn keyed(key: &str) -> ChatRequest {
    ChatRequest { idempotency_key: key.into(), ..chat("hi") }
}

pub(super) async fn begin(desk: &Arc<Desk>, chat: ChatRequest) -> Result<Reader> {
    desk.begin(&context(30), Instant::now(), Ask::read(chat, "chat.", true).unwrap()).await
}

pub(super) async fn collected(desk: &Arc<Desk>, chat: ChatRequest) -> Result<ChatResponse> {
    let ask = Ask::read(chat, "", false).unwrap();
    Ok(desk.answer(&context(30), Instant::now(), ask).await?.response)
}

/// All that a reader is told.
pub(super) async fn read(mut reader: Reader) -> (Vec<ChatStreamResponse>, Option<Error>) {
    let mut events = Vec::new();
    while let Some(next) = reader.next().await {
        match next {
            Ok(event) => events.push(event),
            Err(error) => return (events, Some(error)),
        }
    }
    (events, None)
}

pub(super) fn bytes(events: &[ChatStreamResponse]) -> Vec<Vec<u8>> {
    events.iter().map(ChatStreamResponse::encode_to_vec).collect()
}

pub(super) fn delta(text: &str) -> Result<GatewayEvent> {
    Ok(GatewayEvent::Delta(text.into()))
}

pub(super) fn done(events: &[ChatStreamResponse]) -> &ChatResponse {
    match events.last().and_then(|event| event.event.as_ref()) {
        Some(Event::Done(done)) => done,
        other => panic!("the last event is {other:?}"),
    }
}

/// Reads until the first text.
pub(super) async fn first_text(reader: &mut Reader) -> u64 {
    loop {
        let event = reader.next().await.unwrap().unwrap();
        if let Some(Event::Delta(_)) = event.event {
            return event.seq;
        }
    }
}

fn generated(fake: &Fake) -> usize {
    fake.generated.lock().unwrap().len()
}

#[tokio::test]
async fn the_same_key_and_request_is_the_same_turn_to_the_byte() {
    let (desk, fake, _folder) = embedded(vec![answer(&["Hel", "lo"])], LONG).await;
    let request = || ChatRequest { session_id: "s".into(), ..keyed("k") };
    let (first, error) = read(begin(&desk, request()).await.unwrap()).await;
    assert!(error.is_none());
    assert_eq!(done(&first).message.as_ref().unwrap().text, "Hello");
    assert!((1..).zip(&first).all(|(seq, event)| event.seq == seq));
    // Another id of the request is no other request.
    let again = ChatRequest { request_id: RequestId::generate().to_string(), ..request() };
    let (second, _) = read(begin(&desk, again).await.unwrap()).await;
    assert_eq!(bytes(&first), bytes(&second));
    let whole = collected(&desk, request()).await.unwrap();
    assert_eq!(whole.encode_to_vec(), done(&first).encode_to_vec());
    assert_eq!(generated(&fake), 1);
    assert_eq!(fake.states(), [(0, TurnState::Open, 1), (1, TurnState::Complete, 1)]);
}

#[tokio::test]
async fn another_request_with_the_key_is_a_conflict() {
    let (desk, fake, _folder) = embedded(vec![answer(&["one"]), answer(&["two"])], LONG).await;
    collected(&desk, keyed("k")).await.unwrap();
    let other = ChatRequest { idempotency_key: "k".into(), ..chat("another") };
    assert_eq!(collected(&desk, other.clone()).await.unwrap_err().reason(), Reason::IdempotencyConflict);
    assert_eq!(begin(&desk, other).await.err().unwrap().reason(), Reason::IdempotencyConflict);
    // Another tenant's key is another key.
    let mut theirs = context(30);
    theirs.scope.org = "other".into();
    let ask = Ask::read(keyed("k"), "", false).unwrap();
    let response = desk.answer(&theirs, Instant::now(), ask).await.unwrap().response;
    assert_eq!((response.message.unwrap().text.as_str(), generated(&fake)), ("two", 2));
}

#[tokio::test]
async fn what_was_asked_in_one_piece_is_read_as_a_stream_too() {
    let play = Play::Events(vec![Ok(GatewayEvent::Done(generation("whole", &[])))]);
    let (desk, _, _folder) = embedded(vec![play], LONG).await;
    let response = collected(&desk, keyed("k")).await.unwrap();
    let (events, _) = read(begin(&desk, keyed("k")).await.unwrap()).await;
    assert!(matches!(events[0].event, Some(Event::Route(_))), "{events:?}");
    assert_eq!(events[1].event, Some(Event::Delta("whole".into())));
    assert_eq!((events.len(), done(&events)), (3, &response));
}

#[tokio::test]
async fn what_is_collected_falls_back_after_its_first_token_too() {
    let broken = Play::Events(vec![delta("half"), Err(failing("claude", Reason::Truncated))]);
    let (desk, _, _folder) = embedded(vec![broken, answer(&["whole"])], LONG).await;
    let response = collected(&desk, keyed("k")).await.unwrap();
    assert_eq!((response.message.as_ref().unwrap().text.as_str(), response.attempts.len()), ("whole", 2));
    let (events, _) = read(begin(&desk, keyed("k")).await.unwrap()).await;
    assert!(events.iter().any(|event| matches!(event.event, Some(Event::Rewind(_)))), "{events:?}");
    assert_eq!(*done(&events), response);
}

#[tokio::test]
async fn fifty_at_once_are_one_call() {
    let fake = Arc::new(Fake::playing(vec![answer(&["one ", "answer"])]));
    let config = database().await;
    let replicas = [replica(&config, &fake, LONG).await, replica(&config, &fake, LONG).await];
    let readers = (0..50).map(|n| {
        let desk = &replicas[n % 2];
        async move { bytes(&read(begin(desk, keyed("k")).await.unwrap()).await.0) }
    });
    let all = join_all(readers).await;
    assert_eq!(generated(&fake), 1);
    assert!(all.iter().all(|events| *events == all[0]), "all read the same");
}

#[tokio::test]
async fn a_reader_who_left_attaches_where_it_was_on_any_replica() {
    let fake = Arc::new(Fake::playing(vec![Play::Stalls(vec![delta("so far")]), answer(&["never"])]));
    let config = database().await;
    let (one, other) = (replica(&config, &fake, LONG).await, replica(&config, &fake, LONG).await);
    let mut reader = begin(&one, keyed("k")).await.unwrap();
    let (id, seen) = (reader.request_id(), first_text(&mut reader).await);
    drop(reader);
    let attached = other.attach(&context(30), id, seen - 1).await.unwrap();
    let (rest, ()) = tokio::join!(read(attached), async {
        assert!(!fake.dropped.is_cancelled(), "it goes on");
        other.cancel(&context(30).scope, id).await.unwrap();
    });
    let (events, error) = rest;
    assert_eq!(events[0].seq, seen);
    assert_eq!(events[0].event, Some(Event::Delta("so far".into())));
    assert_eq!((done(&events).finish_reason(), error.unwrap().reason()), (FinishReason::Cancelled, Reason::Cancelled));
    assert!(fake.dropped.is_cancelled());
    // What somebody wanted to end has ended, for its key too.
    assert_eq!(collected(&other, keyed("k")).await.unwrap_err().reason(), Reason::Cancelled);
    let (events, error) = read(one.attach(&context(30), id, 0).await.unwrap()).await;
    assert_eq!((events[0].seq, error.unwrap().reason()), (1, Reason::Cancelled));
    let unknown = one.attach(&context(30), RequestId::generate(), 0).await.err().unwrap();
    assert_eq!(unknown.reason(), Reason::UnknownRequest);
    assert_eq!(one.cancel(&context(30).scope, id).await.unwrap_err().reason(), Reason::UnknownRequest);
}

#[tokio::test]
async fn a_call_that_nobody_reads_ends_after_the_grace_and_frees_its_key() {
    let plays = vec![Play::Stalls(vec![delta("so far")]), answer(&["anew"])];
    let (desk, fake, _folder) = embedded(plays, Duration::from_millis(200)).await;
    let mut reader = begin(&desk, keyed("k")).await.unwrap();
    first_text(&mut reader).await;
    let left = Instant::now();
    drop(reader);
    fake.dropped.cancelled().await;
    assert!(left.elapsed() >= Duration::from_millis(200), "{:?}", left.elapsed());
    let freed = async || collected(&desk, keyed("k")).await.ok();
    let response = wait_for(PATIENCE, freed).await;
    assert_eq!(response.message.unwrap().text, "anew");
}

#[tokio::test]
async fn a_reader_elsewhere_keeps_a_call_going() {
    let grace = Duration::from_millis(300);
    let fake = Arc::new(Fake::playing(vec![Play::Stalls(vec![delta("so far")])]));
    let config = database().await;
    let (one, other) = (replica(&config, &fake, grace).await, replica(&config, &fake, grace).await);
    let mut first = begin(&one, keyed("k")).await.unwrap();
    first_text(&mut first).await;
    let mut second = begin(&other, keyed("k")).await.unwrap();
    drop(first);
    first_text(&mut second).await;
    let gone_on = tokio::time::timeout(grace * 4, fake.dropped.cancelled()).await;
    assert!(gone_on.is_err(), "it has a reader");
    drop(second);
    tokio::time::timeout(PATIENCE, fake.dropped.cancelled()).await.unwrap();
}

#[tokio::test]
async fn what_may_pass_frees_the_key_and_what_would_fail_again_is_told_again() {
    let plays = vec![
        Play::Fails(failing("openai", Reason::ProviderError)),
        answer(&["ok"]),
        Play::Fails(failing("openai", Reason::ContentFiltered)),
    ];
    let (desk, fake, _folder) = embedded(plays, LONG).await;
    let named = |key| ChatRequest { backend: "openai".into(), ..keyed(key) };
    let first = collected(&desk, named("passes")).await.unwrap_err();
    assert_eq!((first.reason(), first.attempted().len()), (Reason::ProviderError, 1));
    assert_eq!(collected(&desk, named("passes")).await.unwrap().message.unwrap().text, "ok");
    let stands = collected(&desk, named("stands")).await.unwrap_err();
    let again = collected(&desk, named("stands")).await.unwrap_err();
    assert_eq!((stands.encode(), stands.reason()), (again.encode(), Reason::ContentFiltered));
    assert_eq!(generated(&fake), 3);
    // Nothing was done for what could not be planned.
    let unknown = ChatRequest { backend: "nobody".into(), ..keyed("unplanned") };
    assert_eq!(collected(&desk, unknown.clone()).await.unwrap_err().reason(), Reason::UnknownBackend);
    assert_eq!(collected(&desk, unknown).await.unwrap_err().reason(), Reason::UnknownBackend);
}

#[tokio::test]
async fn a_readers_deadline_is_not_the_calls() {
    let (desk, fake, _folder) = embedded(vec![Play::Stalls(vec![delta("so far")])], LONG).await;
    let short = crate::domain::fakes::context(1);
    let ask = Ask::read(keyed("k"), "", false).unwrap();
    let error = desk.answer(&short, Instant::now(), ask).await.err().unwrap();
    assert_eq!(error.reason(), Reason::DeadlineExceeded);
    assert!(error.message().contains("idempotency key"), "{error}");
    assert!(!fake.dropped.is_cancelled(), "it goes on");
}

#[tokio::test]
async fn the_end_of_the_process_ends_its_calls_and_frees_their_keys() {
    let plays = vec![Play::Stalls(vec![delta("so far")]), answer(&["anew"])];
    let (desk, fake, _folder) = embedded(plays, LONG).await;
    let mut reader = begin(&desk, keyed("k")).await.unwrap();
    first_text(&mut reader).await;
    desk.running.end().await;
    assert_eq!(read(reader).await.1.unwrap().reason(), Reason::ShuttingDown);
    assert!(fake.dropped.is_cancelled());
}
