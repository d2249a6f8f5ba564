//! The ledger around every attempt: refusals, absence, and the spool.

use std::{sync::Arc, time::Duration};

use provider_gateway::clients::ledger::Ledger as _;
use tonic::{Code, Request, Response, Status};
use tutti_client::Channel;
use tutti_error::{Error, Reason};
use tutti_layers::CallContext;
use tutti_proto::{
    gateway::v1::GenerateRequest,
    ledger::v1::{
        GetUsageRequest, GetUsageResponse, ListUsageRequest, ListUsageResponse, ReleaseRequest, ReleaseResponse,
        ReserveRequest, ReserveResponse, SettleManyRequest, SettleManyResponse, SettleRequest, SettleResponse,
        ledger_service_server::{LedgerService, LedgerServiceServer},
    },
    llm::v1::Attribution,
};
use tutti_server::Services;
use tutti_types::{Deadline, Scope};

use crate::support::{FakeLedger, LONG, World, ask, client, reason, start};

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
    let status = client(&app).generate(ask("openai", "hi")).await.unwrap_err();
    assert_eq!((reason(&status), status.code()), (Reason::ServiceUnavailable, Code::Unavailable));
    assert_eq!(world.sim.stats().requests, 0);
    app.stop(LONG).await;
}

/// The fake ledger as a server.
struct Served(Arc<FakeLedger>);

#[tonic::async_trait]
impl LedgerService for Served {
    async fn reserve(&self, request: Request<ReserveRequest>) -> Result<Response<ReserveResponse>, Status> {
        let context = CallContext::of(&request);
        self.0.reserve(request.into_inner(), &context).await?;
        Ok(Response::new(ReserveResponse::default()))
    }
    async fn settle(&self, request: Request<SettleRequest>) -> Result<Response<SettleResponse>, Status> {
        let context = CallContext::of(&request);
        self.0.settle(request.into_inner(), &context).await?;
        Ok(Response::new(SettleResponse::default()))
    }
    async fn settle_many(&self, _: Request<SettleManyRequest>) -> Result<Response<SettleManyResponse>, Status> {
        Err(Error::internal("one call has one settlement").into())
    }
    async fn release(&self, request: Request<ReleaseRequest>) -> Result<Response<ReleaseResponse>, Status> {
        let context = CallContext::of(&request);
        self.0.release(request.into_inner(), &context).await?;
        Ok(Response::new(ReleaseResponse::default()))
    }
    async fn get_usage(&self, _: Request<GetUsageRequest>) -> Result<Response<GetUsageResponse>, Status> {
        Err(Error::internal("not asked for by the gateway").into())
    }
    async fn list_usage(&self, _: Request<ListUsageRequest>) -> Result<Response<ListUsageResponse>, Status> {
        Err(Error::internal("not asked for by the gateway").into())
    }
}

#[tokio::test]
async fn the_ledger_is_told_over_grpc_on_whose_behalf() {
    let world = World::start().await;
    let server = Services::default().with(LedgerServiceServer::new(Served(Arc::clone(&world.ledger))));
    let ledger = Channel::in_process(server.stack(LONG));
    let app = provider_gateway::App::start(world.config.clone(), world.dir.path(), ledger).await.unwrap();
    let scope = Scope { org: "acme".into(), principal: "alice".into() };
    let context = CallContext::new(scope.clone(), Deadline::after(LONG));
    let attribution = Attribution { project: "apollo".into(), ..Default::default() };
    let request = GenerateRequest { attribution: Some(attribution.clone()), ..ask("openai", "hi") };
    let mut gateway = client(&app);
    gateway.generate(tutti_client::request(request, &context)).await.unwrap();
    let settled = world.ledger.only_settlement().await;
    let (reserve, seen) = world.ledger.books().reserved[&settled.attempt_id].clone();
    assert_eq!((seen, reserve.attribution), (scope, Some(attribution)));
    let left = tutti_types::time::to_unix_micros(&reserve.expires_at.unwrap())
        - tutti_types::time::unix_micros(std::time::SystemTime::now());
    let expected = i64::try_from((LONG + Duration::from_secs(30)).as_micros()).unwrap();
    assert!((expected - 5_000_000..=expected).contains(&left), "the deadline and 30 s: {left}");
    // A refusal passes through both hops as it is.
    world.ledger.books().refusal = Some(Reason::BudgetExceeded);
    let status = gateway.generate(ask("openai", "hi")).await.unwrap_err();
    assert_eq!((reason(&status), status.code()), (Reason::BudgetExceeded, Code::ResourceExhausted));
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
