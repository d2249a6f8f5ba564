//! Many streams on one connection, connections that grow old, and calls that are too many.

use std::{sync::atomic::Ordering, time::Duration};

use futures::future::join_all;
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tutti_client::Channel;
use tutti_error::{Reason, from_status};
use tutti_proto::gateway::v1::ListModelsRequest;
use tutti_server::ServeOptions;
use tutti_testkit::wait_for;

use crate::support::{PATIENCE, Running, generate, pieces};

const GATEWAY: &str = "tutti.gateway.v1.GatewayService";
/// 16 KiB each: more than the stream's window and what is sent ahead.
const PIECES: u32 = 60;

#[tokio::test]
async fn stalled_streams_do_not_stall_their_neighbours() {
    let server = Running::start("one", ServeOptions::default()).await;
    let client = server.client();
    let open = || async { client.clone().generate_stream(pieces(PIECES)).await.unwrap().into_inner() };
    // Nobody reads these.
    let mut stalled = join_all((0..20).map(|_| open())).await;
    let read = |mut stream: tonic::Streaming<_>| async move {
        let mut count = 0;
        while stream.message().await.unwrap().is_some() {
            count += 1;
        }
        count
    };
    let live = join_all((0..100).map(|_| async { read(open().await).await }));
    let counts = tokio::time::timeout(PATIENCE, live).await.expect("the live streams stall");
    assert!(counts.iter().all(|count| *count == PIECES));
    // They were stalled, not lost.
    assert_eq!(read(stalled.remove(0)).await, PIECES);
}

#[tokio::test]
async fn a_stream_outlives_its_connections_age() {
    let options = ServeOptions { max_connection_age: Duration::from_millis(100), ..ServeOptions::default() };
    let server = Running::start("one", options).await;
    server.close_gate();
    server.fake.gate.add_permits(1);
    let client = server.client();
    let mut stream = client.clone().generate_stream(pieces(3)).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().is_some());
    // Calls go on over one connection after the other, while each gets its GOAWAY.
    let began = tokio::time::Instant::now();
    wait_for(PATIENCE, || async {
        client.clone().list_models(ListModelsRequest::default()).await.unwrap();
        began.elapsed() > Duration::from_millis(500)
    })
    .await;
    server.fake.gate.add_permits(2);
    assert!(stream.message().await.unwrap().is_some() && stream.message().await.unwrap().is_some());
    assert!(stream.message().await.unwrap().is_none());
}

#[tokio::test]
async fn too_many_calls_are_refused_and_health_is_not() {
    let server = Running::start("one", ServeOptions { max_concurrent_calls: 2, ..ServeOptions::default() }).await;
    server.close_gate();
    let client = server.client();
    let refused = async {
        wait_for(PATIENCE, async || server.fake.begun.load(Ordering::SeqCst) == 2).await;
        let status = generate(&client).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted);
        let error = from_status(&status, "gateway");
        assert_eq!(error.reason(), Reason::Overloaded);
        assert!(error.retry_delay().is_some());
        assert_eq!(health(&server).await, ServingStatus::Serving);
        server.fake.gate.add_permits(3);
    };
    let (one, two, ()) = tokio::join!(generate(&client), generate(&client), refused);
    assert!(one.is_ok() && two.is_ok());
    assert!(generate(&client).await.is_ok());
}

/// What the health of the service says.
async fn health(server: &Running) -> ServingStatus {
    let mut client = HealthClient::new(Channel::connect(&server.url()).unwrap());
    let request = HealthCheckRequest { service: GATEWAY.into() };
    client.check(request).await.unwrap().into_inner().status()
}

#[tokio::test]
async fn a_service_without_its_store_is_not_ready_but_lives() {
    let server = Running::start("one", ServeOptions::default()).await;
    assert_eq!(health(&server).await, ServingStatus::Serving);
    server.readiness.lost("store", "the test says so");
    wait_for(PATIENCE, async || health(&server).await == ServingStatus::NotServing).await;
    let mut process = HealthClient::new(Channel::connect(&server.url()).unwrap());
    let live = process.check(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(live.status(), ServingStatus::Serving);
    server.readiness.restored("store");
    wait_for(PATIENCE, async || health(&server).await == ServingStatus::Serving).await;
}

#[tokio::test]
async fn the_end_is_not_ready_then_no_new_connections_then_the_streams_end() {
    let server = Running::start("one", ServeOptions { grace: PATIENCE, ..ServeOptions::default() }).await;
    server.close_gate();
    server.fake.gate.add_permits(1);
    let client = server.client();
    let mut stream = client.clone().generate_stream(pieces(2)).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().is_some());
    // Told over a connection that is open already.
    let mut watcher = HealthClient::new(Channel::connect(&server.url()).unwrap());
    let mut statuses = watcher.watch(HealthCheckRequest { service: GATEWAY.into() }).await.unwrap().into_inner();
    assert_eq!(statuses.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    server.shutdown.cancel();
    let told = tokio::time::timeout(PATIENCE, statuses.message()).await.unwrap();
    assert_eq!(told.unwrap().unwrap().status(), ServingStatus::NotServing);
    // It would be a running call.
    drop(statuses);
    wait_for(PATIENCE, async || tokio::net::TcpStream::connect(server.address).await.is_err()).await;
    server.fake.gate.add_permits(1);
    assert!(stream.message().await.unwrap().is_some() && stream.message().await.unwrap().is_none());
    tokio::time::timeout(PATIENCE, server.task).await.unwrap().unwrap().unwrap();
}
