//! Every bound in time, each with its own reason.

use std::time::Duration;

use tonic::Code;
use tutti_error::Reason;
use tutti_proto::{
    gateway::v1::{
        CheckBackendsRequest, EmbedRequest, GenerateRequest, GenerateStreamRequest, ListModelsRequest,
        ResetBackendRequest,
    },
    llm::v1::{AttemptOutcome, RunLimits},
};

use crate::support::{World, ask, done, reason, text, within};

const SHORT: Duration = Duration::from_millis(300);

async fn streamed(world: &World, prompt: &str, expected: Reason) -> bool {
    let (events, ended) = world.stream(ask("openai", prompt)).await;
    let status = ended.unwrap_err();
    assert_eq!(reason(&status), expected, "{status:?}");
    assert_eq!(done(&events).attempts[0].reason(), expected);
    let settled = world.ledger.only_settlement().await;
    assert_eq!((settled.outcome(), settled.reason()), (AttemptOutcome::Failed, expected));
    let had_output = !text(&events).is_empty();
    assert_eq!(status.code(), if had_output { Code::DataLoss } else { Code::Unavailable });
    had_output
}

#[tokio::test]
async fn nothing_of_the_answer() {
    let world = World::with(|backend| backend.timeouts.first_token = SHORT).await;
    assert!(!streamed(&world, "[[fault ttft_ms=60000]] hi", Reason::FirstTokenTimeout).await);
}

#[tokio::test]
async fn a_head_that_does_not_come() {
    let world = World::with(|backend| backend.timeouts.first_token = SHORT).await;
    assert!(!streamed(&world, "[[fault head_ms=60000]] hi", Reason::FirstTokenTimeout).await);
}

#[tokio::test]
async fn a_pause_in_the_answer() {
    let world = World::with(|backend| backend.timeouts.idle = SHORT).await;
    assert!(streamed(&world, "[[fault stall_after=5]] [[words 100]]", Reason::IdleTimeout).await);
}

#[tokio::test]
async fn an_answer_without_end() {
    let world = World::with(|backend| backend.timeouts.total = 2 * SHORT).await;
    assert!(streamed(&world, "[[fault chunk_ms=50]] [[words 10000]]", Reason::TotalTimeout).await);
}

#[tokio::test]
async fn a_whole_answer_has_only_the_total() {
    let world = World::with(|backend| {
        backend.timeouts.first_token = SHORT;
        backend.timeouts.idle = SHORT;
        backend.timeouts.total = 3 * SHORT;
    })
    .await;
    world.generate(ask("openai", "[[fault head_ms=500]] hi")).await.unwrap();
    let status = world.generate(ask("openai", "[[fault head_ms=60000]] hi")).await.unwrap_err();
    assert_eq!((reason(&status), status.code()), (Reason::TotalTimeout, Code::Unavailable));
    world.ledger.balanced().await;
}

#[tokio::test]
async fn the_callers_deadline_bounds_all() {
    let world = World::start().await;
    let request = within(ask("openai", "[[fault head_ms=60000]] hi"), SHORT);
    let status = world.client.clone().generate(request).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    let settled = world.ledger.only_settlement().await;
    assert_eq!((settled.outcome(), settled.reason()), (AttemptOutcome::Failed, Reason::DeadlineExceeded));
    world.sim.wait_for(|sim| sim.stats().disconnected == 1, crate::support::LONG).await.unwrap();
}

#[tokio::test]
async fn the_callers_deadline_ends_a_stream_with_what_came() {
    let world = World::start().await;
    let generate = Some(ask("openai", "[[fault stall_after=5]] [[words 100]]"));
    let request = within(GenerateStreamRequest { generate }, 2 * SHORT);
    let mut stream = world.client.clone().generate_stream(request).await.unwrap().into_inner();
    let status = loop {
        match stream.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("a broken stream ended well"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::DeadlineExceeded);
    let settled = world.ledger.only_settlement().await;
    assert_eq!((settled.outcome(), settled.reason()), (AttemptOutcome::Failed, Reason::DeadlineExceeded));
    assert!(settled.used.unwrap().visible_output > 0);
}

#[tokio::test]
async fn the_limit_of_a_run_bounds_the_call() {
    let world = World::start().await;
    let limits = RunLimits { timeout: Some(tutti_types::time::to_wire(SHORT)), ..Default::default() };
    let request = GenerateRequest { limits: Some(limits), ..ask("openai", "[[fault head_ms=60000]] hi") };
    let status = world.generate(request).await.unwrap_err();
    assert_eq!(reason(&status), Reason::DeadlineExceeded);
    world.ledger.balanced().await;
}

#[tokio::test]
async fn no_connection_in_time_is_released() {
    // Takes the connection and then says nothing, so that TLS never begins.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let world = World::with(|backend| {
        backend.timeouts.connect = SHORT;
        backend.base_url = Some(format!("https://{address}/v1"));
    })
    .await;
    let status = world.generate(ask("openai", "hi")).await.unwrap_err();
    assert_eq!((reason(&status), status.code()), (Reason::ConnectTimeout, Code::Unavailable));
    world.ledger.balanced().await;
    assert_eq!(world.ledger.books().released.len(), 1);
}

/// A nanosecond is over before anything can be answered; what nobody waits for is not begun.
#[tokio::test]
async fn every_call_ends_at_its_deadline() {
    let world = World::start().await;
    let mut client = world.client.clone();
    let over = Duration::from_nanos(1);
    let inputs = vec!["a".to_owned()];
    let embed = EmbedRequest { backend: "openai".into(), inputs, ..Default::default() };
    let check = CheckBackendsRequest { probe: true, ..Default::default() };
    let reset = ResetBackendRequest { backend: "openai".into() };
    let ended = [
        client.generate(within(ask("openai", "hi"), over)).await.map(drop),
        client.embed(within(embed, over)).await.map(drop),
        client.list_models(within(ListModelsRequest::default(), over)).await.map(drop),
        client.check_backends(within(check, over)).await.map(drop),
        client.reset_backend(within(reset, over)).await.map(drop),
    ];
    for status in ended.map(Result::unwrap_err) {
        assert_eq!((status.code(), reason(&status)), (Code::DeadlineExceeded, Reason::DeadlineExceeded), "{status:?}");
    }
    assert_eq!(world.sim.stats().requests, 0);
}
