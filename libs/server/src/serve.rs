//! The listener: bind early, serve with health and reflection, drain within a grace period.

use std::{net::SocketAddr, os::fd::AsFd as _, time::Duration};

use rand::RngExt as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tutti_error::{Error, Reason, Result};
use tutti_layers::{AuthLayer, Callers, MeshSecret, ServerTls, ShedLayer};

use crate::{HttpRoutes, Services, Stack, health::Health, incoming::incoming};

/// Stream windows are 64 KiB; a connection's holds as many as may be open on it, so that a stalled reader never
/// stalls its neighbours.
const STREAM_WINDOW: u32 = 64 * 1024;
/// On one connection: as many as a server takes by default, since all calls of a router may come over one.
const MAX_STREAMS: u32 = 4096;

/// How a server behaves.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// For callers that name no timeout.
    pub default_timeout: Duration,
    /// How long running calls may go on after shutdown began.
    pub grace: Duration,
    /// How many calls may run at a time.
    pub max_concurrent_calls: usize,
    /// When a connection is asked to end, give or take a tenth; its running calls go on.
    pub max_connection_age: Duration,
    /// Who may call.
    pub callers: Callers,
    /// What peers prove themselves with, if anything.
    pub secret: Option<MeshSecret>,
    /// The certificate to listen with, if any.
    pub tls: Option<ServerTls>,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            default_timeout: Duration::from_secs(300),
            grace: Duration::from_secs(10),
            max_concurrent_calls: 4096,
            max_connection_age: Duration::from_secs(300),
            callers: Callers::Anyone,
            secret: None,
            tls: None,
        }
    }
}

/// A bound listener and the address it has got.
#[derive(Debug)]
pub struct Listening {
    pub(crate) listener: TcpListener,
    /// The address, with the port chosen when 0 was asked for.
    pub address: SocketAddr,
}

impl Listening {
    /// The same port once more, for who serves before.
    pub(crate) fn again(&self) -> Result<Self> {
        let again = || {
            let listener = std::net::TcpListener::from(self.listener.as_fd().try_clone_to_owned()?);
            TcpListener::from_std(listener)
        };
        Ok(Self { listener: again().map_err(Error::internal)?, address: self.address })
    }
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

/// Serves until `shutdown`, then says NOT_SERVING, sends GOAWAY, lets running calls finish within the grace period, and
/// returns.
///
/// # Errors
/// INTERNAL when the transport fails.
pub async fn serve(
    listening: Listening,
    services: Services,
    options: ServeOptions,
    shutdown: CancellationToken,
) -> Result<()> {
    let (reporter, health_service) = tonic_health::server::health_reporter();
    let health = Health::new(reporter, services.readiness()).await;
    let drained = services.drained();
    let services = with_reflection(services)?.with(health_service);
    let auth = AuthLayer::new(options.callers, options.secret.clone());
    // gRPC alone needs no HTTP/1.
    let transport = transport(options.max_connection_age).accept_http1(services.has_http());
    let network = services.network_stack(options.default_timeout, auth, ShedLayer::new(options.max_concurrent_calls));
    let stopping = health.follow(shutdown.clone());
    let draining = async move {
        stopping.await;
        drained.iter().for_each(CancellationToken::cancel);
    };
    run(transport, listening, network, draining, (options, shutdown)).await
}

/// Serves plain HTTP routes alone until `shutdown`, lets running calls finish within the grace period, and returns.
///
/// # Errors
/// INTERNAL when the transport fails.
pub async fn serve_http(
    listening: Listening,
    http: HttpRoutes,
    options: ServeOptions,
    shutdown: CancellationToken,
) -> Result<()> {
    let transport = transport(options.max_connection_age).accept_http1(true);
    let network = http.alone(options.default_timeout, ShedLayer::new(options.max_concurrent_calls));
    run(transport, listening, network, shutdown.clone().cancelled_owned(), (options, shutdown)).await
}

/// Serves until `draining` ends and the running calls too, and no longer than the grace period after `shutdown`.
pub(crate) async fn run(
    transport: Server,
    listening: Listening,
    network: Stack,
    draining: impl Future<Output = ()>,
    (options, shutdown): (ServeOptions, CancellationToken),
) -> Result<()> {
    let connections = incoming(listening.listener, options.tls);
    let server = transport.serve_with_incoming_shutdown(network, connections, draining);
    tokio::select! {
        result = server => result.map_err(|error| Error::internal(format!("the server failed: {error}"))),
        () = overdue(shutdown, options.grace) => {
            tracing::warn!("calls were still running after the grace period and have been cut");
            Ok(())
        }
    }
}

pub(crate) fn transport(max_connection_age: Duration) -> Server {
    // Replicas that started together don't lose their connections together.
    let age = max_connection_age.mul_f64(rand::rng().random_range(0.9..1.1));
    Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(STREAM_WINDOW * MAX_STREAMS)
        .max_concurrent_streams(MAX_STREAMS)
        // Without a grace of its own: every call has a deadline, and none is cut before.
        .max_connection_age(age)
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
            // The details of errors, which tools show in words only if they know them.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
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
