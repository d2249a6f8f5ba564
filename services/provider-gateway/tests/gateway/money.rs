//! The ledger around every attempt: refusals, absence, and the spool.

use std::{sync::Arc, time::Duration};

use tonic::Code;
use tutti_client::Channel;
use tutti_error::Reason;
use tutti_proto::gateway::v1::gateway_service_client::GatewayServiceClient;

use crate::support::{LONG, World, ask, client, reason, start};

#[tokio::test]
async fn without_a_hold_there_is_no_attempt() {
    let world = World::start().await;
    let cases = [
        (Reason::BudgetExceeded, Code::ResourceExhausted),
        (Reason::ServiceUnavailable, Code::Unavailable),
        (Reason::StoreUnavailable, Code::Unavailable),
    ];
    for (refusal, code) in cases {
        world.ledger.books().refusal = Some(refusal);
        let status = world.generate(ask("openai", "hi")).await.unwrap_err();
        assert_eq!((reason(&status), status.code()), (refusal, code));
        let (events, ended) = world.stream(ask("openai", "hi")).await;
        assert_eq!((events.len(), reason(&ended.unwrap_err())), (0, refusal));
    }
    assert_eq!(world.sim.stats().requests, 0);
    assert!(world.ledger.books().settled.is_empty());
}

#[tokio::test]
async fn a_ledger_that_cannot_be_reached_refuses_the_call() {
    let world = World::start().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = Channel::connect(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    drop(listener);
    let app = provider_gateway::App::start(world.config.clone(), world.dir.path(), nobody).await.unwrap();
    let mut client = GatewayServiceClient::new(Channel::in_process(app.services().stack(LONG)));
    let status = client.generate(ask("openai", "hi")).await.unwrap_err();
    assert_eq!((reason(&status), status.code()), (Reason::ServiceUnavailable, Code::Unavailable));
    assert_eq!(world.sim.stats().requests, 0);
    app.stop(LONG).await;
}

#[tokio::test]
async fn settlements_wait_on_disk_for_the_ledger() {
    let world = World::start().await;
    world.ledger.books().away = true;
    let answer = world.generate(ask("openai", "hi")).await.unwrap();
    // The process ends before the ledger is back.
    world.app.stop(LONG).await;
    assert!(world.ledger.books().settled.is_empty());
    world.ledger.books().away = false;
    let next = start(&world.config, &world.dir, &world.ledger).await;
    let settled = world.ledger.only_settlement().await;
    assert_eq!(settled.attempt_id, answer.attempts[0].attempt_id);
    assert_eq!(settled.used.unwrap().visible_output, answer.usage.unwrap().output_tokens);
    next.stop(LONG).await;
    // Delivered once: a third process has nothing left to do.
    let third = start(&world.config, &world.dir, &world.ledger).await;
    client(&third).generate(ask("openai", "hi")).await.unwrap();
    third.stop(LONG).await;
    assert_eq!(world.ledger.books().settled.len(), 2);
    world.ledger.balanced().await;
}

#[tokio::test]
async fn a_ledger_that_comes_back_gets_everything() {
    let world = World::start().await;
    world.ledger.books().away = true;
    for _ in 0..5 {
        world.generate(ask("openai", "hi")).await.unwrap();
    }
    assert!(world.ledger.books().settled.is_empty());
    world.ledger.books().away = false;
    world.ledger.balanced().await;
    assert_eq!(world.ledger.books().settled.len(), 5);
}

#[tokio::test]
async fn a_thousand_mixed_calls_leave_no_hold() {
    let world = Arc::new(World::start().await);
    let prompts = [
        "hi",
        "[[words 20]]",
        "[[fault status=500]] hi",
        "[[fault cut_at=60]] [[words 20]]",
        "[[fault truncate_after=2]] [[words 20]]",
        "[[fault close]] hi",
    ];
    let calls = (0..200).map(|n| {
        let world = Arc::clone(&world);
        async move {
            let request = ask(crate::support::FORMATS[n % 4], prompts[n % prompts.len()]);
            if n % 5 == 0 {
                // Dropped somewhere on the way.
                let _ = tokio::time::timeout(Duration::from_millis(n as u64 % 7), world.stream(request)).await;
            } else if n % 2 == 0 {
                let _ = world.stream(request).await;
            } else {
                let _ = world.generate(request).await;
            }
        }
    });
    futures::future::join_all(calls).await;
    world.ledger.balanced().await;
    let books = world.ledger.books();
    for seen in world.sim.requests() {
        let attempt = seen.attempt.unwrap();
        assert!(books.reserved.contains_key(&attempt), "a call that nobody reserved");
    }
}
