//! The listener: bind early, serve with health and reflection, drain within a grace period.

use std::{net::SocketAddr, time::Duration};

use http::Request;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{service::Routes, transport::Server};
use tonic_health::{ServingStatus, server::HealthReporter};
use tower::ServiceExt as _;
use tutti_error::{Error, Reason, Result};
use tutti_layers::Peer;

use crate::Services;

/// Stream windows are 64 KiB; a connection's holds as many as may be open on it, so that a stalled reader never
/// stalls its neighbours.
const STREAM_WINDOW: u32 = 64 * 1024;
const MAX_STREAMS: u32 = 1024;

/// How a server behaves.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// For callers that name no timeout.
    pub default_timeout: Duration,
    /// How long running calls may go on after shutdown began.
    pub grace: Duration,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self { default_timeout: Duration::from_secs(300), grace: Duration::from_secs(10) }
    }
}

/// A bound listener and the address it has got.
#[derive(Debug)]
pub struct Listening {
    listener: TcpListener,
    /// The address, with the port chosen when 0 was asked for.
    pub address: SocketAddr,
}

/// Binds before any serious work, so that a taken port is known at once.
///
/// # Errors
/// INTERNAL with the system's reason and the address.
pub async fn bind(address: SocketAddr) -> Result<Listening> {
    let taken = |error: std::io::Error| {
        Error::new(Reason::Internal, format!("can't listen on {address}: {error}; choose another with --listen"))
    };
    let listener = TcpListener::bind(address).await.map_err(taken)?;
    let address = listener.local_addr().map_err(taken)?;
    Ok(Listening { listener, address })
}

/// Serves until `shutdown`, then says NOT_SERVING, lets running calls finish within the grace period, and returns.
///
/// # Errors
/// INTERNAL when the transport fails.
pub async fn serve(
    listening: Listening,
    services: Services,
    options: ServeOptions,
    shutdown: CancellationToken,
) -> Result<()> {
    let (health, health_service) = tonic_health::server::health_reporter();
    for name in services.names() {
        health.set_service_status(*name, ServingStatus::Serving).await;
    }
    let names = services.names().to_vec();
    let services = with_reflection(services)?.with(health_service);
    let network = services.stack(options.default_timeout).map_request(|mut request: Request<axum::body::Body>| {
        request.extensions_mut().insert(Peer::Network);
        request
    });
    let routes = Routes::from(axum::Router::new().fallback_service(network));
    let draining = drain(shutdown.clone(), health, names);
    let server = transport()
        .add_routes(routes)
        .serve_with_incoming_shutdown(TcpListenerStream::new(listening.listener), draining);
    tokio::select! {
        result = server => result.map_err(|error| Error::internal(format!("the server failed: {error}"))),
        () = overdue(shutdown, options.grace) => {
            tracing::warn!("calls were still running after the grace period and have been cut");
            Ok(())
        }
    }
}

fn transport() -> Server {
    Server::builder()
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(STREAM_WINDOW * MAX_STREAMS)
        .max_concurrent_streams(MAX_STREAMS)
}

async fn drain(shutdown: CancellationToken, health: HealthReporter, names: Vec<&'static str>) {
    shutdown.cancelled().await;
    for name in names {
        health.set_service_status(name, ServingStatus::NotServing).await;
    }
    health.set_service_status("", ServingStatus::NotServing).await;
}

async fn overdue(shutdown: CancellationToken, grace: Duration) {
    shutdown.cancelled().await;
    tokio::time::sleep(grace).await;
}

/// Reflection v1 for new tools and v1alpha for grpcurl's older builds, limited to what is served here.
fn with_reflection(services: Services) -> Result<Services> {
    let builder = || {
        let mut builder = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(tutti_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .with_service_name("grpc.health.v1.Health");
        for name in services.names() {
            builder = builder.with_service_name(*name);
        }
        builder
    };
    let broken = |error: tonic_reflection::server::Error| Error::internal(format!("reflection: {error}"));
    let v1 = builder().build_v1().map_err(broken)?;
    let v1alpha = builder().build_v1alpha().map_err(broken)?;
    Ok(services.with(v1).with(v1alpha))
}
