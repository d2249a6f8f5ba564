//! Callers that go away.

use std::time::Duration;

use tutti_error::Reason;
use tutti_proto::{
    gateway::v1::{GenerateStreamRequest, generate_stream_response::Event},
    llm::v1::AttemptOutcome,
};
use tutti_simulator::RequestState;

use crate::support::{FORMATS, LONG, World, ask, within};

#[tokio::test]
async fn a_reader_that_leaves_closes_the_providers_stream_and_pays_what_came() {
    for backend in FORMATS {
        let world = World::start().await;
        let prompt = "[[fault stall_after=20]] [[words 1000]]";
        let request = GenerateStreamRequest { generate: Some(ask(backend, prompt)) };
        let mut stream = world.client.clone().generate_stream(request).await.unwrap().into_inner();
        let mut received = 0;
        while received < 60 {
            match stream.message().await.unwrap().unwrap().event {
                Some(Event::Delta(delta)) => received += delta.len(),
                Some(Event::Done(done)) => panic!("{done:?}"),
                _ => {}
            }
        }
        drop(stream);
        let left = |sim: &tutti_simulator::SimHandle| sim.requests()[0].state == RequestState::Disconnected;
        world.sim.wait_for(left, LONG).await.unwrap();
        let settled = world.ledger.only_settlement().await;
        assert_eq!((settled.outcome(), settled.reason()), (AttemptOutcome::Cancelled, Reason::Cancelled), "{backend}");
        let used = settled.used.unwrap();
        assert!(used.fresh_input > 0, "{backend}");
        // 20 chunks of 4 characters came at most.
        assert!((15..=20).contains(&used.visible_output), "{backend}: {used:?}");
    }
}

#[tokio::test]
async fn a_caller_that_leaves_cancels_the_call() {
    let world = World::start().await;
    let mut client = world.client.clone();
    let mut call = Box::pin(client.generate(ask("openai", "[[fault head_ms=60000]] hi")));
    let begun = world.sim.wait_for(|sim| sim.stats().in_progress == 1, LONG);
    tokio::select! {
        answer = &mut call => panic!("{answer:?}"),
        begun = begun => begun.unwrap(),
    }
    drop(call);
    world.sim.wait_for(|sim| sim.stats().disconnected == 1, LONG).await.unwrap();
    let settled = world.ledger.only_settlement().await;
    assert_eq!(settled.outcome(), AttemptOutcome::Cancelled);
    assert!(settled.tokens_estimated);
    assert!(settled.used.unwrap().fresh_input > 0);
}

#[tokio::test]
async fn a_process_that_stops_settles_what_ran() {
    let world = World::start().await;
    let request = GenerateStreamRequest { generate: Some(ask("openai", "[[fault stall_after=20]] [[words 1000]]")) };
    let mut stream = world.client.clone().generate_stream(request).await.unwrap().into_inner();
    // The attempt, and what came of it.
    stream.message().await.unwrap().unwrap();
    stream.message().await.unwrap().unwrap();
    // The server cuts what still runs, then the gateway is stopped.
    drop(stream);
    world.app.stop(LONG).await;
    let books = world.ledger.books();
    assert_eq!((books.reserved.len(), books.settled.len()), (1, 1), "nothing was left when it had stopped");
}

#[tokio::test]
async fn a_caller_that_leaves_while_the_cost_is_reserved_leaves_no_hold() {
    let world = World::start().await;
    world.ledger.books().slow = true;
    let mut client = world.client.clone();
    let mut call = Box::pin(client.generate(ask("openai", "hi")));
    let reserved = world.ledger.wait_for(|books| (!books.reserved.is_empty()).then_some(()));
    tokio::select! {
        answer = &mut call => panic!("{answer:?}"),
        () = reserved => {}
    }
    drop(call);
    world.ledger.gate.notify_one();
    world.ledger.balanced().await;
    assert_eq!(world.ledger.books().released.len(), 1);
    assert_eq!(world.sim.stats().requests, 0);
}

/// As the router does, which needs the rest of the time for its own answer.
#[tokio::test]
async fn a_caller_that_leaves_right_before_its_deadline_was_too_late() {
    let world = World::start().await;
    let generate = Some(ask("openai", "[[fault stall_after=5]] [[words 100]]"));
    let time = Duration::from_secs(2);
    let request = within(GenerateStreamRequest { generate }, time);
    let reading = async {
        let mut stream = world.client.clone().generate_stream(request).await.unwrap().into_inner();
        while let Some(event) = stream.message().await.unwrap() {
            assert!(!matches!(event.event, Some(Event::Done(_))), "{event:?}");
        }
    };
    tokio::time::timeout(time - Duration::from_millis(50), reading).await.unwrap_err();
    let settled = world.ledger.only_settlement().await;
    assert_eq!((settled.outcome(), settled.reason()), (AttemptOutcome::Failed, Reason::DeadlineExceeded));
    assert!(settled.used.unwrap().visible_output > 0);
}
