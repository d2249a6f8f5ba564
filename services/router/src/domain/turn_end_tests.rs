//! How turns end that don't go well: what is lost, what is known of it, and what is written.

use std::time::{Duration, Instant};

use tutti_error::{Error, Reason};
use tutti_proto::{
    llm::v1::{FinishReason, RunLimits},
    memory::v1::TurnState,
    router::v1::{ChatRequest, ChatResponse, chat_stream_response::Event},
};

use super::{
    ask::Ask,
    fakes::{Fake, Play, answer, calling, chat, context, failing, sent, turn, used},
    outbox::Outbox,
    run::Run,
    turn_tests::{all, closed, delta, last_done, run},
};
use crate::{app::Desk, clients::GatewayEvent};

#[tokio::test]
async fn an_append_that_nobody_waited_for_does_not_swallow_the_closing_one() {
    for hanging in [0, 1] {
        let (desk, fake) = Fake::playing(vec![calling(&[("c1", "read")])]).desk();
        *fake.append_hangs.lock().unwrap() = Some(hanging);
        let request = ChatRequest { mesh_tools: vec!["read".into()], session_id: "s".into(), ..chat("hi") };
        let (turn, _events) = turn(&desk, request).await;
        let mut running = Box::pin(turn.run());
        let written = async {
            while fake.states().last().map(|last| last.0) != Some(hanging) {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            _ = &mut running => panic!("it hangs"),
            () = written => {}
        }
        drop(running);
        closed(&fake, TurnState::Incomplete).await;
        // Of the same index it would be taken for the one that was written.
        assert_eq!(fake.states().last().unwrap().0, hanging + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_whole_answer_is_written_also_when_its_caller_leaves() {
    let (desk, fake) = Fake::playing(vec![answer(&["ok"])]).desk();
    *fake.append_fails.lock().unwrap() = Some((TurnState::Complete, 2));
    let (turn, _events) = turn(&desk, ChatRequest { session_id: "s".into(), ..chat("hi") }).await;
    let mut running = Box::pin(turn.run());
    let failed_once = async {
        while *fake.append_fails.lock().unwrap() == Some((TurnState::Complete, 2)) {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = &mut running => panic!("the memory is away"),
        () = failed_once => {}
    }
    drop(running);
    while fake.states().last().unwrap().1 != TurnState::Complete {
        tokio::time::advance(Duration::from_millis(100)).await;
    }
    assert_eq!(fake.states().len(), 2);
}

#[tokio::test]
async fn a_deadline_before_the_first_token_knows_the_attempt_and_its_estimate() {
    let (desk, _) = Fake::playing(vec![Play::Stalls(vec![Ok(GatewayEvent::Attempt(sent("a1", used(3))))])]).desk();
    let limits =
        RunLimits { timeout: Some(prost_types::Duration { seconds: 0, nanos: 50_000_000 }), ..Default::default() };
    let (ended, events) = run(&desk, ChatRequest { limits: Some(limits), ..chat("hi") }).await;
    assert_eq!(ended.unwrap_err().reason(), Reason::DeadlineExceeded);
    let done = last_done(&events);
    assert_eq!((done.attempts[0].attempt_id.as_str(), done.usage.unwrap().cost_nano_usd), ("a1", 3));
    assert_eq!(done.attempts[0].reason(), Reason::DeadlineExceeded);
}

#[tokio::test]
async fn what_the_gateway_says_of_a_failed_attempt_replaces_the_estimate() {
    let broken = vec![Ok(GatewayEvent::Attempt(sent("a1", used(300)))), Err(failing("claude", Reason::ProviderError))];
    let (desk, _) = Fake::playing(vec![Play::Events(broken), answer(&["ok"])]).desk();
    let response = run(&desk, chat("hi")).await.0.unwrap();
    assert_eq!(response.usage.unwrap().cost_nano_usd, 105);
}

#[tokio::test]
async fn a_process_that_ends_says_so() {
    let (desk, fake) = Fake::playing(vec![Play::Stalls(vec![delta("Hel")])]).desk();
    let (turn, events) = turn(&desk, ChatRequest { session_id: "s".into(), ..chat("hi") }).await;
    let stop = async {
        while !matches!(events.next().await.1, Event::Delta(_)) {}
        desk.running.end().await;
    };
    let (ended, ()) = tokio::join!(Box::pin(turn.run()), stop);
    assert_eq!(ended.unwrap_err().reason(), Reason::ShuttingDown);
    assert_eq!(last_done(&all(&events)).finish_reason(), FinishReason::Error);
    assert_eq!(fake.states().last().unwrap().1, TurnState::Incomplete);
    let (context, ask) = (context(30), Ask::read(chat("hi"), "", false).unwrap());
    let late = desk.turn(&context, Instant::now(), ask, (Outbox::default(), Run::default())).await.err().unwrap();
    assert_eq!(late.reason(), Reason::ShuttingDown);
}

#[tokio::test]
async fn a_round_that_went_well_is_no_failure() {
    let plays = vec![
        calling(&[("c1", "read")]),
        Play::Fails(failing("claude", Reason::ProviderAuth)),
        Play::Fails(failing("openai", Reason::ProviderAuth)),
        Play::Fails(failing("gemini", Reason::ProviderAuth)),
    ];
    let (desk, _) = Fake::playing(plays).desk();
    let error = run(&desk, ChatRequest { mesh_tools: vec!["read".into()], ..chat("hi") }).await.0.unwrap_err();
    assert_eq!((error.reason(), error.attempted().len()), (Reason::AllBackendsFailed, 4));
    let list = error.message().strip_prefix("every backend failed: ").unwrap();
    assert!(list.starts_with("claude: PROVIDER_AUTH"), "{list}");
}

#[tokio::test]
async fn a_request_id_that_is_used_again_runs_its_tools_again() {
    let plays = || [calling(&[("c1", "read")]), answer(&["ok"])];
    let (desk, fake) = Fake::playing(plays().into_iter().chain(plays()).collect()).desk();
    let request_id = tutti_types::RequestId::generate().to_string();
    let request = ChatRequest { mesh_tools: vec!["read".into()], request_id, ..chat("hi") };
    run(&desk, request.clone()).await.0.unwrap();
    run(&desk, request).await.0.unwrap();
    let executed = fake.executed.lock().unwrap();
    assert_eq!(executed.len(), 2);
    assert_ne!(executed[0].idempotency_key, executed[1].idempotency_key);
}

/// Runs a streamed turn with a reader who keeps up, and gives its end and `done`.
async fn read(desk: &Desk, chat: ChatRequest) -> (Result<ChatResponse, Error>, ChatResponse) {
    let (turn, events) = turn(desk, chat).await;
    let done = async {
        loop {
            if let Event::Done(done) = events.next().await.1 {
                return done;
            }
        }
    };
    tokio::join!(Box::pin(turn.run()), done)
}

#[tokio::test]
async fn large_results_are_shown_in_part_and_given_whole() {
    let (desk, fake) = Fake::playing(vec![calling(&[("c1", "big"), ("c2", "big")]), answer(&["ok"])]).desk();
    let (ended, response) = read(&desk, ChatRequest { mesh_tools: vec!["*".into()], ..chat("hi") }).await;
    assert_eq!(ended.unwrap(), response);
    assert!(response.tool_results.iter().all(|r| r.output.len() == 1 << 20));
    assert!(response.round_messages[1..].iter().all(|m| m.text.len() < 66_000 && m.text.contains("left out")));
    let asked = &fake.generated.lock().unwrap()[1];
    assert!(prost::Message::encoded_len(asked) < 140_000);
}

#[tokio::test]
async fn results_that_no_window_holds_end_the_turn_with_what_there_is() {
    let calls: Vec<String> = (0..18).map(|n| format!("c{n}")).collect();
    let calls: Vec<_> = calls.iter().map(|id| (id.as_str(), "big")).collect();
    let (desk, fake) = Fake::playing(vec![calling(&calls)]).desk();
    let request = ChatRequest { mesh_tools: vec!["*".into()], session_id: "s".into(), ..chat("hi") };
    let (ended, done) = read(&desk, request).await;
    assert_eq!(ended.unwrap_err().reason(), Reason::ContextTooLong);
    assert_eq!((done.tool_results.len(), done.usage.unwrap().cost_nano_usd), (18, 100));
    assert!(prost::Message::encoded_len(&done) < 6 << 20);
    assert_eq!(fake.states().last().unwrap().1, TurnState::Incomplete);
}
