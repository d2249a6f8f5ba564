use std::time::Instant;

use tutti_error::{Error, Reason};
use tutti_proto::{
    llm::v1::{AttemptOutcome, FinishReason, Message, Role, RunLimits, Tool, ToolChoice, tool_choice::Mode},
    memory::v1::TurnState,
    router::v1::{ChatRequest, ChatResponse, chat_stream_response::Event},
};

use super::{
    ask::Ask,
    fakes::{Fake, Play, answer, backend, calling, chat, context, done, failing, sent, turn, used},
    outbox::{Events, Outbox},
    run::Run,
};
use crate::{app::Desk, clients::GatewayEvent};

pub(super) fn delta(text: &str) -> Result<GatewayEvent, Error> {
    Ok(GatewayEvent::Delta(text.into()))
}

pub(super) fn all(events: &Events) -> Vec<Event> {
    std::iter::from_fn(|| events.try_next()).map(|(_, event)| event).collect()
}

/// Runs a streamed turn and gives its end and all its events.
pub(super) async fn run(desk: &Desk, chat: ChatRequest) -> (Result<ChatResponse, Error>, Vec<Event>) {
    let (turn, events) = turn(desk, chat).await;
    let ended = Box::pin(turn.run()).await;
    (ended, all(&events))
}

fn kinds(events: &[Event]) -> Vec<&'static str> {
    let kind = |event: &Event| match event {
        Event::Route(_) => "route",
        Event::Delta(_) => "delta",
        Event::Reasoning(_) => "reasoning",
        Event::ToolCall(_) => "tool_call",
        Event::ApprovalRequired(_) => "approval_required",
        Event::ToolOutput(_) => "tool_output",
        Event::ToolResult(_) => "tool_result",
        Event::Rewind(_) => "rewind",
        Event::Usage(_) => "usage",
        Event::Warning(_) => "warning",
        Event::Done(_) => "done",
    };
    events.iter().map(kind).collect()
}

pub(super) fn last_done(events: &[Event]) -> &ChatResponse {
    let Some(Event::Done(done)) = events.last() else { panic!("no done: {events:?}") };
    done
}

#[tokio::test]
async fn an_answer_comes_in_order_and_done_repeats_it() {
    let (desk, fake) = Fake::playing(vec![answer(&["Hel", "lo"])]).desk();
    let (ended, events) = run(&desk, chat("hi")).await;
    assert_eq!(kinds(&events), ["route", "delta", "done"]);
    assert_eq!(events[1], Event::Delta("Hello".into()));
    let response = ended.unwrap();
    assert_eq!(*last_done(&events), response);
    assert_eq!(response.message.unwrap().text, "Hello");
    assert_eq!(response.finish_reason, i32::from(FinishReason::Stop));
    assert!(response.time_to_first_token.is_some() && response.latency.is_some());
    // The persona of the backend speaks first; its cap and temperature are sent.
    let asked = &fake.generated.lock().unwrap()[0];
    assert_eq!(asked.messages[0].role(), Role::System);
    assert_eq!(asked.sampling.as_ref().unwrap().max_output_tokens, Some(4000));
    // One is kept for each of the two backends after it.
    assert_eq!(asked.limits.unwrap().max_attempts, 8);
}

#[tokio::test]
async fn a_failure_before_the_first_token_falls_back_and_is_paid() {
    let plays = vec![Play::Fails(failing("claude", Reason::ProviderRateLimited)), answer(&["ok"])];
    let (desk, fake) = Fake::playing(plays).desk();
    let (ended, events) = run(&desk, chat("hi")).await;
    assert_eq!(kinds(&events), ["route", "route", "delta", "done"]);
    let Event::Route(second) = &events[1] else { unreachable!() };
    assert_eq!(second.backend, "openai");
    assert_eq!(second.failed_attempt.as_ref().unwrap().reason(), Reason::ProviderRateLimited);
    let response = ended.unwrap();
    assert_eq!(response.attempts.len(), 2);
    assert_eq!(response.usage.unwrap().cost_nano_usd, 105);
    assert_eq!(fake.generated.lock().unwrap()[1].limits.unwrap().max_attempts, 8);
}

#[tokio::test]
async fn nobody_takes_over_after_the_first_token() {
    let mut partial = done("Hel", &[]);
    partial.set_finish_reason(FinishReason::Error);
    let broken = vec![delta("Hel"), Ok(GatewayEvent::Done(partial)), Err(failing("claude", Reason::Truncated))];
    let (desk, _) = Fake::playing(vec![Play::Events(broken)]).desk();
    let (ended, events) = run(&desk, chat("hi")).await;
    let error = ended.unwrap_err();
    assert_eq!((error.reason(), error.is_after_output()), (Reason::Truncated, true));
    assert_eq!(kinds(&events), ["route", "delta", "done"]);
    let done = last_done(&events);
    assert_eq!(done.finish_reason(), FinishReason::Error);
    assert_eq!(done.message.as_ref().unwrap().text, "Hel");
    assert_eq!((done.attempts.len(), error.attempted().len()), (1, 1));
}

#[tokio::test]
async fn when_all_fail_each_is_listed_with_its_reason() {
    let names = ["claude", "openai", "gemini"];
    let plays = names.map(|name| Play::Fails(failing(name, Reason::ProviderError)));
    let (desk, _) = Fake::playing(plays.into()).desk();
    let (ended, events) = run(&desk, chat("hi")).await;
    let error = ended.unwrap_err();
    assert_eq!((error.reason(), error.attempted().len()), (Reason::AllBackendsFailed, 3));
    for name in names {
        assert!(error.message().contains(&format!("{name}: PROVIDER_ERROR ({name} is down)")), "{error}");
    }
    assert_eq!(last_done(&events).usage.unwrap().cost_nano_usd, 15);
}

#[tokio::test]
async fn a_named_backends_failure_passes_through() {
    let (desk, _) = Fake::playing(vec![Play::Fails(failing("openai", Reason::ProviderAuth))]).desk();
    let (ended, _) = run(&desk, ChatRequest { backend: "openai".into(), ..chat("hi") }).await;
    let error = ended.unwrap_err();
    assert_eq!((error.reason(), error.attempted().len()), (Reason::ProviderAuth, 1));
}

#[tokio::test]
async fn some_failures_end_the_chain() {
    for reason in [Reason::BudgetExceeded, Reason::InvalidRequest, Reason::RateLimited] {
        let (desk, fake) = Fake::playing(vec![Play::Fails(failing("claude", reason))]).desk();
        assert_eq!(run(&desk, chat("hi")).await.0.unwrap_err().reason(), reason);
        assert_eq!(fake.generated.lock().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn the_caps_on_attempts_and_cost_hold_over_the_turn() {
    let two = || vec![Play::Fails(failing("claude", Reason::ProviderError)), answer(&["never"])];
    let limits = |limits| ChatRequest { limits: Some(limits), ..chat("hi") };
    let (desk, _) = Fake::playing(two()).desk();
    let one = RunLimits { max_attempts: 1, ..Default::default() };
    let error = run(&desk, limits(one)).await.0.unwrap_err();
    assert_eq!((error.reason(), error.attempted().len()), (Reason::AttemptsExceeded, 1));
    let (desk, _) = Fake::playing(two()).desk();
    let five = RunLimits { max_cost_nano_usd: 5, ..Default::default() };
    assert_eq!(run(&desk, limits(five)).await.0.unwrap_err().reason(), Reason::BudgetExceeded);
    let (desk, fake) = Fake::playing(two()).desk();
    let six = RunLimits { max_cost_nano_usd: 6, ..Default::default() };
    run(&desk, limits(six)).await.0.unwrap();
    assert_eq!(fake.generated.lock().unwrap()[1].limits.unwrap().max_cost_nano_usd, 1);
}

#[tokio::test]
async fn attempts_that_were_lost_on_their_way_count() {
    let plays = vec![Play::Fails(failing("claude", Reason::ProviderError)), answer(&["ok"])];
    let limits =
        |max_attempts| ChatRequest { limits: Some(RunLimits { max_attempts, ..Default::default() }), ..chat("hi") };
    let (desk, fake) = Fake { loses: 2, ..Fake::playing(plays) }.desk();
    run(&desk, limits(4)).await.0.unwrap();
    assert_eq!(fake.generated.lock().unwrap()[1].limits.unwrap().max_attempts, 1);
    let plays = vec![Play::Fails(failing("claude", Reason::ProviderError)), answer(&["never"])];
    let (desk, _) = Fake { loses: 2, ..Fake::playing(plays) }.desk();
    assert_eq!(run(&desk, limits(3)).await.0.unwrap_err().reason(), Reason::AttemptsExceeded);
}

#[tokio::test]
async fn mesh_tools_run_in_parallel_and_the_model_goes_on() {
    let plays = vec![calling(&[("c1", "read"), ("c2", "read"), ("c3", "nonsense"), ("c4", "write")]), answer(&["ok"])];
    let fake = Fake { together: Some(tokio::sync::Barrier::new(3)), ..Fake::playing(plays) };
    let (desk, fake) = fake.desk();
    let mut request = ChatRequest { mesh_tools: vec!["*".into()], session_id: "s".into(), ..chat("hi") };
    request.tool_choice = Some(ToolChoice { mode: Mode::Required.into(), ..Default::default() });
    let (ended, events) = run(&desk, request).await;
    let response = ended.unwrap();
    let results: Vec<_> = response.tool_results.iter().map(|r| (r.tool_call_id.as_str(), r.success)).collect();
    assert_eq!(results, [("c1", true), ("c2", true), ("c3", false), ("c4", false)]);
    assert_eq!(response.tool_results[2].reason(), Reason::UnknownTool);
    assert_eq!(response.warnings, ["the tool write was not run: nobody approved it"]);
    assert_eq!(response.round_messages.len(), 5);
    assert!(response.round_messages[3].tool_error && !response.round_messages[1].tool_error);
    assert_eq!(response.usage.unwrap().cost_nano_usd, 200);
    assert_eq!(kinds(&events).iter().filter(|kind| **kind == "tool_result").count(), 4);
    let asked = fake.generated.lock().unwrap();
    assert_eq!(asked[1].messages.len(), asked[0].messages.len() + 5);
    let modes = asked.iter().map(|a| a.tool_choice.as_ref().unwrap().mode());
    assert_eq!(modes.collect::<Vec<_>>(), [Mode::Required, Mode::Auto]);
    use TurnState::{Complete, Open};
    assert_eq!(fake.states(), [(0, Open, 1), (1, Open, 5), (2, Complete, 1)]);
}

#[tokio::test]
async fn the_next_round_stays_with_the_backend_that_took_over() {
    let plays = vec![
        Play::Fails(failing("claude", Reason::ProviderError)),
        calling(&[("c1", "read")]),
        Play::Fails(failing("openai", Reason::ProviderError)),
        answer(&["ok"]),
    ];
    let (desk, fake) = Fake::playing(plays).desk();
    let (ended, events) = run(&desk, ChatRequest { mesh_tools: vec!["read".into()], ..chat("hi") }).await;
    ended.unwrap();
    let asked: Vec<_> = fake.generated.lock().unwrap().iter().map(|g| g.backend.clone()).collect();
    assert_eq!(asked, ["claude", "openai", "openai", "gemini"]);
    let rounds = events.iter().filter_map(|e| if let Event::Route(r) = e { Some(r.round) } else { None });
    assert_eq!(rounds.collect::<Vec<_>>(), [0, 0, 1]);
}

#[tokio::test]
async fn a_loop_of_tools_ends_after_its_rounds() {
    let plays = (0..11).map(|_| calling(&[("c", "read")])).collect();
    let (desk, fake) = Fake::playing(plays).desk();
    let request = ChatRequest { mesh_tools: vec!["read".into()], session_id: "s".into(), ..chat("hi") };
    let (ended, events) = run(&desk, request).await;
    assert_eq!(ended.unwrap_err().reason(), Reason::ToolRoundsExceeded);
    assert_eq!(fake.executed.lock().unwrap().len(), 10);
    assert_eq!(last_done(&events).round_messages.len(), 20);
    assert_eq!(fake.states().last().unwrap().1, TurnState::Incomplete);
}

#[tokio::test]
async fn the_callers_calls_end_the_turn_after_the_meshs_were_run() {
    let plays = vec![calling(&[("c1", "mine"), ("c2", "read")])];
    let (desk, fake) = Fake::playing(plays).desk();
    let mine = Tool { name: "mine".into(), ..Default::default() };
    let request =
        ChatRequest { tools: vec![mine], mesh_tools: vec!["read".into()], session_id: "s".into(), ..chat("hi") };
    let response = run(&desk, request).await.0.unwrap();
    assert_eq!(response.finish_reason(), FinishReason::ToolCalls);
    assert_eq!(response.message.unwrap().tool_calls.len(), 2);
    assert_eq!(response.tool_results.len(), 1);
    // The log has the mesh's result behind the calls: the caller sends only its own.
    let closing = fake.appended.lock().unwrap().last().cloned().unwrap();
    assert_eq!((closing.state(), closing.messages[1].tool_call_id.as_str()), (TurnState::Complete, "c2"));
}

#[tokio::test]
async fn a_result_answers_a_call_of_the_session() {
    let (desk, fake) = Fake::playing(vec![answer(&["ok"])]).desk();
    *fake.history.lock().unwrap() = vec![done("", &[("c1", "mine")]).message.unwrap()];
    let mut request = ChatRequest { session_id: "s".into(), ..chat("4") };
    request.messages[0].set_role(Role::Tool);
    request.messages[0].tool_call_id = "c1".into();
    run(&desk, request.clone()).await.0.unwrap();
    assert_eq!(fake.generated.lock().unwrap()[0].messages.len(), 3);
    request.messages[0].tool_call_id = "c2".into();
    let error = run(&desk, request).await.0.unwrap_err();
    assert_eq!(error.fields()[0].0, "chat.messages[0].tool_call_id");
}

#[tokio::test]
async fn each_backend_gets_its_own_context_and_the_log_is_whole() {
    let plays = vec![Play::Fails(failing("claude", Reason::ProviderError)), answer(&["ok"])];
    let (desk, fake) = Fake::playing(plays).desk();
    let system = Message { role: Role::System.into(), text: "Be brief.".into(), ..Default::default() };
    fake.history.lock().unwrap().push(system);
    run(&desk, ChatRequest { session_id: "s".into(), ..chat("hi") }).await.0.unwrap();
    let built = fake.built.lock().unwrap();
    assert_eq!(built.iter().map(|b| b.backend.as_str()).collect::<Vec<_>>(), ["claude", "openai"]);
    assert!(built.iter().all(|b| b.turn_id == built[0].turn_id && b.max_tokens > 70_000 && b.max_tokens < 80_000));
    // The context has a system message: no persona is put before it.
    assert_eq!(fake.generated.lock().unwrap()[1].messages[0].text, "Be brief.");
    let appended = fake.appended.lock().unwrap();
    assert_eq!((appended[0].backend.as_str(), appended[1].backend.as_str()), ("", "openai"));
    assert_eq!(appended[1].state(), TurnState::Complete);
}

#[tokio::test]
async fn without_context_the_turn_is_still_remembered() {
    let (desk, fake) = Fake::playing(vec![answer(&["ok"])]).desk();
    let request = ChatRequest { session_id: "s".into(), include_context: Some(false), ..chat("hi") };
    run(&desk, request).await.0.unwrap();
    assert!(fake.built.lock().unwrap().is_empty());
    assert_eq!(fake.states().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_answer_outlives_a_memory_that_is_away() {
    let (desk, fake) = Fake::playing(vec![answer(&["ok"]), answer(&["ok"])]).desk();
    let request = ChatRequest { session_id: "s".into(), ..chat("hi") };
    *fake.append_fails.lock().unwrap() = Some((TurnState::Complete, 2));
    assert!(run(&desk, request.clone()).await.0.unwrap().warnings.is_empty());
    *fake.append_fails.lock().unwrap() = Some((TurnState::Complete, 5));
    let response = run(&desk, request).await.0.unwrap();
    assert_eq!(response.warnings, ["the session could not be written yet: the store is away"]);
    assert_eq!(fake.states().last().unwrap().1, TurnState::Open);
    // The memory comes back.
    while fake.states().last().unwrap().1 != TurnState::Complete {
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
    }
}

#[tokio::test]
async fn a_turn_that_breaks_keeps_its_partial_answer() {
    let broken = vec![delta("Hel"), delta("lo"), Err(failing("claude", Reason::IdleTimeout))];
    let (desk, fake) = Fake::playing(vec![Play::Events(broken)]).desk();
    run(&desk, ChatRequest { session_id: "s".into(), ..chat("hi") }).await.0.unwrap_err();
    let closing = fake.appended.lock().unwrap().last().cloned().unwrap();
    assert_eq!((closing.state(), closing.messages[0].text.as_str()), (TurnState::Incomplete, "Hello"));
    assert_eq!(closing.backend, "claude");
}

/// Waits until the appended log ends so.
pub(super) async fn closed(fake: &Fake, state: TurnState) {
    while fake.appended.lock().unwrap().last().map(|a| a.state()) != Some(state) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn cancelling_ends_the_turn_and_what_it_waits_for() {
    let attempt = Ok(GatewayEvent::Attempt(sent("a1", used(3))));
    let usage = Ok(GatewayEvent::Usage(used(7)));
    let (desk, fake) = Fake::playing(vec![Play::Stalls(vec![attempt, delta("Hel"), usage])]).desk();
    let request = ChatRequest { session_id: "s".into(), ..chat("hi") };
    let ask = Ask::read(request, "", true).unwrap();
    let (id, context, (outbox, events)) = (ask.id, context(30), Outbox::new());
    let turn = desk.turn(&context, Instant::now(), ask, (outbox, Run::default())).await.unwrap();
    let cancel = async {
        while !matches!(events.next().await.1, Event::Usage(_)) {}
        desk.running.cancel(&context.scope, id).unwrap();
    };
    let (ended, ()) = tokio::join!(Box::pin(turn.run()), cancel);
    assert_eq!(ended.unwrap_err().reason(), Reason::Cancelled);
    assert!(fake.dropped.is_cancelled());
    let events = all(&events);
    let done = last_done(&events);
    assert_eq!(done.finish_reason(), FinishReason::Cancelled);
    assert_eq!(done.message.as_ref().unwrap().text, "Hel");
    assert_eq!(done.usage.unwrap().cost_nano_usd, 7);
    let attempt = &done.attempts[0];
    assert_eq!((attempt.attempt_id.as_str(), attempt.outcome()), ("a1", AttemptOutcome::Cancelled));
    assert_eq!(attempt.usage, done.usage);
    assert_eq!(fake.states().last().unwrap().1, TurnState::Incomplete);
    assert_eq!(desk.running.cancel(&context.scope, id).unwrap_err().reason(), Reason::UnknownRequest);
}

#[tokio::test]
async fn a_turn_that_is_dropped_closes_its_log() {
    let (desk, fake) = Fake::playing(vec![Play::Stalls(vec![delta("Hel")])]).desk();
    let (turn, events) = turn(&desk, ChatRequest { session_id: "s".into(), ..chat("hi") }).await;
    let mut running = Box::pin(turn.run());
    let seen = async { while !matches!(events.next().await.1, Event::Delta(_)) {} };
    tokio::select! {
        _ = &mut running => panic!("it stalls"),
        () = seen => {}
    }
    drop(running);
    assert!(fake.dropped.is_cancelled());
    closed(&fake, TurnState::Incomplete).await;
    assert_eq!(fake.appended.lock().unwrap().last().unwrap().messages[0].text, "Hel");
}

#[tokio::test(start_paused = true)]
async fn the_limit_of_time_holds_without_a_grpc_deadline() {
    let (desk, fake) = Fake::playing(vec![Play::Stalls(vec![delta("Hel")])]).desk();
    let second = RunLimits { timeout: Some(prost_types::Duration { seconds: 1, nanos: 0 }), ..Default::default() };
    let request = ChatRequest { limits: Some(second), session_id: "s".into(), ..chat("hi") };
    let (ended, events) = run(&desk, request).await;
    assert_eq!(ended.unwrap_err().reason(), Reason::DeadlineExceeded);
    assert_eq!(last_done(&events).finish_reason(), FinishReason::Error);
    closed(&fake, TurnState::Incomplete).await;
}

#[tokio::test]
async fn a_model_goes_to_the_backend_of_its_provider() {
    let (desk, fake) = Fake::playing(vec![answer(&["ok"])]).desk();
    run(&desk, ChatRequest { model: "gpt-4o".into(), ..chat("hi") }).await.0.unwrap();
    {
        let asked = &fake.generated.lock().unwrap()[0];
        assert_eq!((asked.backend.as_str(), asked.model.as_str()), ("openai", "gpt-4o"));
    }
    let ask = Ask::read(ChatRequest { model: "gpt-5o".into(), ..chat("hi") }, "", false).unwrap();
    let error = desk.turn(&context(30), Instant::now(), ask, (Outbox::default(), Run::default())).await.err().unwrap();
    assert_eq!(error.reason(), Reason::UnknownModel);
    assert!(error.message().contains("\"gpt-4o\""), "{error}");
    assert!(backend("claude").usable);
}
