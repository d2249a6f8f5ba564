//! Generations that break after their first token, or that have the wrong form.

use std::sync::atomic::Ordering;

use tutti_error::{Error, Reason};
use tutti_proto::{
    llm::v1::{FinishReason, Message, ResponseFormat, Role, RunLimits, ToolCall, response_format},
    memory::v1::TurnState,
    router::v1::{ChatRequest, ChatResponse, Rewind, StreamFailureMode, chat_stream_response::Event},
};

use super::{
    ask::Ask,
    fakes::{Fake, Play, answer, calling, chat, context, done, failing, sent, used},
    outbox::Outbox,
    run::Run,
    turn_tests::{all, delta, last_done, run},
};
use crate::clients::GatewayEvent;

/// A stream of `backend` that says this and breaks.
fn breaking(backend: &str, said: Vec<Result<GatewayEvent, Error>>) -> Play {
    let mut events = said;
    events.push(Err(failing(backend, Reason::Truncated)));
    Play::Events(events)
}

fn asking(mode: StreamFailureMode) -> ChatRequest {
    ChatRequest { on_stream_failure: mode.into(), session_id: "s".into(), ..chat("hi") }
}

fn rewinds(events: &[Event]) -> Vec<Rewind> {
    events.iter().filter_map(|event| if let Event::Rewind(rewind) = event { Some(*rewind) } else { None }).collect()
}

/// The messages of the last append.
fn logged(fake: &Fake) -> (TurnState, Vec<Message>) {
    let appended = fake.appended.lock().unwrap();
    let last = appended.last().unwrap();
    (last.state(), last.messages.clone())
}

fn text(response: &ChatResponse) -> &str {
    &response.message.as_ref().unwrap().text
}

#[tokio::test]
async fn a_restart_takes_back_what_was_said_and_asks_the_next_backend() {
    let plays = vec![breaking("claude", vec![delta("Hel"), delta("lo")]), answer(&["Good", " day"])];
    let (desk, fake) = Fake::playing(plays).desk();
    let (ended, events) = run(&desk, asking(StreamFailureMode::Restart)).await;
    let response = ended.unwrap();
    // 1 route, 2 "Hello", 3 rewind, 4 route, 5 "Good day", 6 done
    assert_eq!(rewinds(&events), [Rewind { to_seq: 1, reason: Reason::Truncated.into() }]);
    let Event::Route(second) = &events[3] else { panic!("{events:?}") };
    assert_eq!(second.failed_attempt.as_ref().unwrap().reason(), Reason::Truncated);
    assert_eq!(events[4], Event::Delta("Good day".into()));
    assert_eq!((text(&response), response.attempts.len()), ("Good day", 2));
    // Both were paid.
    assert_eq!(response.usage.unwrap().cost_nano_usd, 105);
    let (state, messages) = logged(&fake);
    assert_eq!((state, messages[0].text.as_str()), (TurnState::Complete, "Good day"));
    // The second was asked as if there had been no first.
    let asked = fake.generated.lock().unwrap();
    assert_eq!(asked[0].messages.len(), asked[1].messages.len());
}

#[tokio::test]
async fn a_resume_goes_on_from_what_was_said() {
    let plays =
        vec![breaking("claude", vec![delta("One, ")]), breaking("openai", vec![delta("two, ")]), answer(&["three"])];
    let (desk, fake) = Fake::playing(plays).desk();
    let (ended, events) = run(&desk, asking(StreamFailureMode::Resume)).await;
    let response = ended.unwrap();
    assert!(rewinds(&events).is_empty());
    let said: String =
        events.iter().filter_map(|e| if let Event::Delta(text) = e { Some(text.as_str()) } else { None }).collect();
    assert_eq!((said.as_str(), text(&response)), ("One, two, three", "One, two, three"));
    assert_eq!((response.attempts.len(), response.warnings.len()), (3, 2));
    assert_eq!(logged(&fake).1[0].text, "One, two, three");
    let asked = fake.generated.lock().unwrap();
    let [.., partial, instruction] = asked[2].messages.as_slice() else { unreachable!() };
    assert_eq!((partial.role(), partial.text.as_str()), (Role::Assistant, "One, two, "));
    assert!(instruction.text.contains("Go on exactly where it stopped"), "{instruction:?}");
}

#[tokio::test]
async fn a_resume_that_nobody_ends_keeps_what_was_said() {
    let plays = vec![
        breaking("claude", vec![delta("One, ")]),
        Play::Fails(failing("openai", Reason::ProviderError)),
        breaking("gemini", vec![delta("two")]),
    ];
    let (desk, fake) = Fake::playing(plays).desk();
    let (ended, events) = run(&desk, asking(StreamFailureMode::Resume)).await;
    let error = ended.unwrap_err();
    assert_eq!((error.reason(), error.is_after_output(), error.attempted().len()), (Reason::Truncated, true, 3));
    let done = last_done(&events);
    assert_eq!((text(done), done.finish_reason()), ("One, two", FinishReason::Error));
    let (state, messages) = logged(&fake);
    assert_eq!((state, messages[0].text.as_str()), (TurnState::Incomplete, "One, two"));
}

#[tokio::test]
async fn a_tool_call_in_flight_is_begun_anew() {
    let half = ToolCall { id: "half".into(), name: "read".into(), ..Default::default() };
    let said = vec![delta("Let me see. "), Ok(GatewayEvent::ToolCall(half))];
    let plays = vec![breaking("claude", said), calling(&[("whole", "read")]), answer(&["done"])];
    let (desk, fake) = Fake::playing(plays).desk();
    let request = ChatRequest { mesh_tools: vec!["read".into()], ..asking(StreamFailureMode::Resume) };
    let (ended, events) = run(&desk, request).await;
    assert_eq!(text(&ended.unwrap()), "done");
    assert_eq!(rewinds(&events)[0].to_seq, 1);
    let executed = fake.executed.lock().unwrap();
    let ids: Vec<_> = executed.iter().map(|e| e.tool_call.as_ref().unwrap().id.as_str()).collect();
    assert_eq!(ids, ["whole"]);
}

#[tokio::test]
async fn only_the_generation_that_broke_is_taken_back() {
    let plays = vec![calling(&[("c1", "read")]), breaking("claude", vec![delta("half")]), answer(&["whole"])];
    let (desk, _) = Fake::playing(plays).desk();
    let request = ChatRequest { mesh_tools: vec!["read".into()], ..asking(StreamFailureMode::Restart) };
    let (ended, events) = run(&desk, request).await;
    let response = ended.unwrap();
    // 1 route, 2 tool_call, 3 tool_result, 4 "half", 5 rewind
    assert_eq!((rewinds(&events)[0].to_seq, response.tool_results.len()), (3, 1));
    assert_eq!(text(&response), "whole");
}

#[tokio::test]
async fn an_answer_of_a_given_form_is_begun_anew() {
    let plays = vec![breaking("claude", vec![delta("[1")]), answer(&["[2]"])];
    let (desk, fake) = Fake::playing(plays).desk();
    let mut format = ResponseFormat::default();
    format.set_kind(response_format::Kind::Json);
    let request = ChatRequest { response_format: Some(format), ..asking(StreamFailureMode::Resume) };
    let (ended, events) = run(&desk, request).await;
    assert_eq!((text(&ended.unwrap()), rewinds(&events).len()), ("[2]", 1));
    assert_eq!(fake.generated.lock().unwrap()[1].messages.last().unwrap().text, "hi");
}

#[tokio::test]
async fn nothing_is_taken_back_where_that_is_not_understood_or_leads_nowhere() {
    let mut ask = Ask::read(asking(StreamFailureMode::Restart), "", true).unwrap();
    ask.rewinds = false;
    let (desk, _) = Fake::playing(vec![breaking("claude", vec![delta("Hel")])]).desk();
    let (outbox, events) = Outbox::new();
    let turn = desk.turn(&context(30), std::time::Instant::now(), ask, (outbox, Run::default())).await.unwrap();
    let error = Box::pin(turn.run()).await.unwrap_err();
    assert_eq!((error.reason(), error.is_after_output()), (Reason::Truncated, true));
    assert_eq!(text(last_done(&all(&events))), "Hel");

    // The cap allows no other attempt; a named backend has no other.
    let one = RunLimits { max_attempts: 1, ..Default::default() };
    let restart = || asking(StreamFailureMode::Restart);
    let cases = [ChatRequest { limits: Some(one), ..restart() }, ChatRequest { backend: "claude".into(), ..restart() }];
    for request in cases {
        let (desk, _) = Fake::playing(vec![breaking("claude", vec![delta("Hel")])]).desk();
        let (ended, events) = run(&desk, request).await;
        assert_eq!(ended.unwrap_err().reason(), Reason::Truncated);
        assert_eq!((rewinds(&events).len(), text(last_done(&events))), (0, "Hel"));
    }
}

#[tokio::test]
async fn an_answer_of_the_wrong_form_is_generated_once_more_and_then_elsewhere() {
    let wrong = || Play::Fails(failing("claude", Reason::MalformedOutput));
    let (desk, fake) = Fake::playing(vec![wrong(), answer(&["ok"])]).desk();
    let named = ChatRequest { backend: "claude".into(), ..chat("hi") };
    let response = run(&desk, named.clone()).await.0.unwrap();
    assert_eq!((text(&response), response.attempts.len()), ("ok", 2));
    assert_eq!(fake.generated.lock().unwrap()[1].backend, "claude");

    let (desk, fake) = Fake::playing(vec![wrong(), wrong(), answer(&["ok"])]).desk();
    assert_eq!(run(&desk, chat("hi")).await.0.unwrap().attempts.len(), 3);
    assert_eq!(fake.generated.lock().unwrap()[2].backend, "openai");

    let (desk, _) = Fake::playing(vec![wrong(), wrong()]).desk();
    let error = run(&desk, named.clone()).await.0.unwrap_err();
    assert_eq!((error.reason(), error.attempted().len()), (Reason::MalformedOutput, 2));

    // It counts.
    let (desk, _) = Fake::playing(vec![wrong()]).desk();
    let one = RunLimits { max_attempts: 1, ..Default::default() };
    let error = run(&desk, ChatRequest { limits: Some(one), ..named }).await.0.unwrap_err();
    assert_eq!((error.reason(), error.attempted().len()), (Reason::MalformedOutput, 1));
}

#[tokio::test]
async fn a_streamed_answer_of_the_wrong_form_is_taken_back_first() {
    let mut wrong = done("{", &[]);
    wrong.set_finish_reason(FinishReason::Error);
    let said = vec![delta("{"), Ok(GatewayEvent::Done(wrong)), Err(failing("claude", Reason::MalformedOutput))];
    let (desk, fake) = Fake::playing(vec![Play::Events(said), answer(&["{}"])]).desk();
    let (ended, events) = run(&desk, asking(StreamFailureMode::Restart)).await;
    assert_eq!((text(&ended.unwrap()), rewinds(&events).len()), ("{}", 1));
    assert_eq!(fake.generated.lock().unwrap()[1].backend, "claude");
}

/// A stream whose gateway dies after these events.
fn dying(said: Vec<Result<GatewayEvent, Error>>) -> Play {
    let mut events = vec![Ok(GatewayEvent::Attempt(sent("lost", used(7))))];
    events.extend(said);
    events.push(Err(Error::new(Reason::ServiceUnavailable, "the gateway service can't be reached; try again")));
    Play::Events(events)
}

#[tokio::test]
async fn a_gateway_that_dies_before_the_first_token_costs_an_attempt_and_not_the_turn() {
    let (desk, fake) = Fake::playing(vec![dying(Vec::new()), answer(&["hello"])]).desk();
    let (ended, events) = run(&desk, ChatRequest { backend: "claude".into(), ..chat("hi") }).await;
    let response = ended.unwrap();
    assert_eq!(text(&response), "hello");
    let [lost, answered] = response.attempts.as_slice() else { panic!("{:?}", response.attempts) };
    assert_eq!((lost.attempt_id.as_str(), lost.reason()), ("lost", Reason::ServiceUnavailable));
    assert_eq!(answered.reason(), Reason::Unspecified);
    let Event::Route(again) = &events[1] else { panic!("{events:?}") };
    assert_eq!((again.backend.as_str(), again.failed_attempt.as_ref()), ("claude", Some(lost)));
    let asked = fake.generated.lock().unwrap();
    assert_eq!(asked.len(), 2);
    assert!(asked.iter().all(|request| request.backend == "claude" && request.messages == asked[0].messages));
}

#[tokio::test]
async fn a_gateway_that_dies_twice_or_after_a_token_or_beyond_the_cap_ends_the_turn() {
    let named = || ChatRequest { backend: "claude".into(), ..chat("hi") };
    let capped = RunLimits { max_attempts: 1, ..Default::default() };
    let cases = [
        (vec![dying(Vec::new()), dying(Vec::new())], named(), false, 2),
        (vec![dying(vec![delta("Hel")])], named(), true, 1),
        (vec![dying(Vec::new())], ChatRequest { limits: Some(capped), ..named() }, false, 1),
    ];
    for (plays, request, after_output, attempts) in cases {
        let (desk, _fake) = Fake::playing(plays).desk();
        let (ended, _) = run(&desk, request).await;
        let error = ended.unwrap_err();
        let seen = (error.reason(), error.is_after_output(), error.attempted().len());
        assert_eq!(seen, (Reason::ServiceUnavailable, after_output, attempts));
    }
}

#[tokio::test]
async fn a_sandbox_that_dies_is_asked_once_more_with_the_same_key() {
    for (gone, success) in [(1, true), (2, false)] {
        let fake = Fake::playing(vec![calling(&[("c", "read")]), answer(&["done"])]);
        fake.sandboxes_gone.store(gone, Ordering::SeqCst);
        let (desk, fake) = fake.desk();
        let (ended, _) = run(&desk, ChatRequest { mesh_tools: vec!["read".into()], ..chat("hi") }).await;
        let response = ended.unwrap();
        assert_eq!((text(&response), response.tool_results[0].success), ("done", success));
        let executed = fake.executed.lock().unwrap();
        let [first, second] = executed.as_slice() else { panic!("{executed:?}") };
        assert_eq!(first, second);
    }
}
