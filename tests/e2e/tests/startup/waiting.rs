//! A database that is away: at the start, later, silently.

use std::net::SocketAddr;

use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus::{NotServing, Serving};
use tutti_error::Reason;
use tutti_testkit::{Fault, FaultProxy, TestPostgres, wait_for};

use crate::support::{LEDGER, PATIENCE, ROUTER, Service, migrate};

const AWAY: Result<(), (Code, Option<Reason>)> = Err((Code::Unavailable, Some(Reason::StoreUnavailable)));

/// Waits until probes say that the service is not ready because of its store, and that it lives.
async fn unready(service: &Service, name: &str, reason: &str) {
    wait_for(PATIENCE, async || match service.health(name).await {
        Ok(NotServing) => Ok(()),
        other => Err(other),
    })
    .await;
    assert_eq!(service.health("").await.unwrap(), Serving, "the process lives");
    assert_eq!(service.probe("/livez").await.0, 200);
    let (status, body) = service.probe("/readyz").await;
    assert!(status == 503 && body.contains(reason), "{status} {body}");
}

/// Waits until probes say that it is ready.
async fn ready(service: &Service, name: &str) {
    wait_for(PATIENCE, async || match service.health(name).await {
        Ok(Serving) => Ok(()),
        other => Err(other),
    })
    .await;
    assert_eq!(service.probe("/readyz").await, (200, "ready\n".into()));
}

#[tokio::test]
async fn a_service_waits_for_its_database_and_follows_it() {
    let postgres = TestPostgres::start();
    let url = postgres.database();
    assert!(migrate(&url).await.0);
    postgres.stop();
    let mut ledger = Service::start("usage-ledger", &url).await;
    let away = format!("Postgres at 127.0.0.1:{}/", postgres.port());
    unready(&ledger, LEDGER, &format!("not ready: starting: ledger store: {away}")).await;
    assert_eq!(ledger.usage().await, AWAY);
    ledger.process.wait_for_stderr(PATIENCE, |line| line.contains("waiting for it").then_some(())).await;

    postgres.start_again();
    ready(&ledger, LEDGER).await;
    assert_eq!(ledger.usage().await, Ok(()));

    postgres.stop();
    unready(&ledger, LEDGER, &format!("not ready: {LEDGER}: ledger store: {away}")).await;
    assert_eq!(ledger.usage().await, AWAY);
    postgres.start_again();
    ready(&ledger, LEDGER).await;
    assert_eq!(ledger.usage().await, Ok(()));
    let log = ledger.process.stderr();
    assert_eq!(log.matches("not ready: ").count(), 2, "{log}");
    assert_eq!(log.matches("can be reached again").count(), 2, "{log}");
    assert!(ledger.process.terminate(PATIENCE).await.success());
}

/// Its connections stay open and nothing comes back, as with a machine that lost its network.
#[tokio::test]
async fn a_database_that_falls_silent_is_away_too() {
    let postgres = TestPostgres::shared();
    let url = postgres.database();
    assert!(migrate(&url).await.0);
    let proxy = FaultProxy::start(SocketAddr::from(([127, 0, 0, 1], postgres.port()))).await;
    let through = url.replace(&format!(":{}/", postgres.port()), &format!(":{}/", proxy.address().port()));
    let name = "tutti.memory.v1.SessionService";
    let memory = Service::start("context-memory", &through).await;
    ready(&memory, name).await;
    proxy.set(Fault::Stall).await;
    unready(&memory, name, "memory store: ").await;
    proxy.set(Fault::Pass).await;
    ready(&memory, name).await;
}

#[tokio::test]
async fn what_needs_no_store_is_served_without_it() {
    let postgres = TestPostgres::start();
    let url = postgres.database();
    assert!(migrate(&url).await.0);
    let mut mesh = Service::start("tutti up", &url).await;
    ready(&mesh, LEDGER).await;
    assert_eq!(mesh.chat("").await, Ok("Echo: hello".into()));
    postgres.stop();
    unready(&mesh, LEDGER, "ledger store: ").await;
    // The router goes on with what it has; what must be paid for is refused.
    assert_eq!(mesh.health(ROUTER).await.unwrap(), Serving);
    assert_eq!(mesh.backends().await.unwrap(), ["simulator"]);
    for session in ["", "s"] {
        assert_eq!(mesh.chat(session).await, Err((Code::Unavailable, Some(Reason::StoreUnavailable))), "{session}");
    }
    postgres.start_again();
    ready(&mesh, LEDGER).await;
    for session in ["", "s"] {
        assert_eq!(mesh.chat(session).await, Ok("Echo: hello".into()));
    }
    assert!(mesh.process.terminate(PATIENCE).await.success());
}

/// Its store is for calls with an idempotency key.
#[tokio::test]
async fn the_router_goes_on_without_its_store() {
    let postgres = TestPostgres::start();
    let url = postgres.database();
    assert!(migrate(&url).await.0);
    let mut router = Service::start("router", &url).await;
    ready(&router, ROUTER).await;
    let alone = router.chat("").await;
    assert_eq!(alone, Err((Code::Unavailable, Some(Reason::ServiceUnavailable))));
    postgres.stop();
    router.process.wait_for_stderr(PATIENCE, |line| line.contains("router store").then_some(())).await;
    assert_eq!(router.keyed("k").await.map(drop), AWAY);
    assert_eq!(router.chat("").await, alone);
    ready(&router, ROUTER).await;
    postgres.start_again();
    router.process.wait_for_stderr(PATIENCE, |line| line.contains("can be reached again").then_some(())).await;
    assert_eq!(router.keyed("k").await, alone);
    assert!(router.process.terminate(PATIENCE).await.success());
}

#[tokio::test]
async fn a_signal_ends_the_wait() {
    let nobody = "postgres://tutti@127.0.0.1:1/tutti";
    let whole = [
        ROUTER,
        "tutti.router.v1.PersonaService",
        "tutti.gateway.v1.GatewayService",
        "tutti.memory.v1.SessionService",
        "tutti.sandbox.v1.ToolService",
        "tutti.sandbox.v1.AuditService",
        LEDGER,
    ];
    let programs = [
        ("tutti up", &whole[..]),
        ("usage-ledger", &whole[6..]),
        ("context-memory", &whole[3..4]),
        ("tool-sandbox", &whole[4..6]),
        ("router", &whole[..2]),
    ];
    for (program, names) in programs {
        let mut service = Service::start(program, nobody).await;
        for name in names {
            unready(&service, name, "not ready: starting: ").await;
        }
        let status = service.process.terminate(PATIENCE).await;
        assert_eq!(status.code(), Some(0), "{program}: {}", service.process.stderr());
    }
}
