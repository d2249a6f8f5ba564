//! The composition root: what the router is made of.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use tutti_client::Channel;
use tutti_error::Result;
use tutti_layers::{CallContext, MAX_MESSAGE_BYTES};
use tutti_proto::router::v1::{
    ChatResponse, persona_service_server::PersonaServiceServer, router_service_server::RouterServiceServer,
};
use tutti_server::{Services, Tasks};
use tutti_types::Deadline;

use crate::{
    Config,
    clients::{Directory, GatewayClient, MemoryClient, Ports, SandboxClient},
    domain::{
        ask::Ask,
        outbox::Outbox,
        plan::{Plan, Planner},
        running::Running,
        streamed::Streamed,
        turn::Turn,
    },
    grpc::{PersonaApi, RouterApi},
    http,
};

/// The ways to the services that the router calls.
#[derive(Debug, Clone)]
pub struct Peers {
    /// The provider gateway.
    pub gateway: Channel,
    /// The context memory.
    pub memory: Channel,
    /// The tool sandbox.
    pub sandbox: Channel,
}

/// A running router.
pub struct App {
    desk: Arc<Desk>,
    config: Config,
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("router::App")
    }
}

impl App {
    /// Puts a router together. Peers are called when they are needed, not here: the order of starting doesn't matter.
    ///
    /// # Errors
    /// None yet.
    #[expect(clippy::unused_async, reason = "all services start alike; a store to open is coming")]
    pub async fn start(config: Config, peers: Peers) -> Result<Self> {
        let ports = Ports {
            gateway: Arc::new(GatewayClient::new(peers.gateway)),
            sessions: Arc::new(MemoryClient::new(peers.memory)),
            tools: Arc::new(SandboxClient::new(peers.sandbox)),
        };
        let desk = Arc::new(Desk::new(&config, ports));
        desk.planner.directory.follow(&desk.tasks);
        Ok(Self { desk, config })
    }

    /// The router's gRPC services, and the OpenAI-compatible door.
    pub fn services(&self) -> Services {
        let router = RouterServiceServer::new(RouterApi::new(self.desk.clone()))
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let personas = PersonaServiceServer::new(PersonaApi::new(&self.config))
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        Services::default().with(router).with(personas).with_http(http::routes(self.desk.clone()))
    }

    /// Ends the router: turns that still run are cancelled and marked in their sessions, at most for `grace`.
    pub async fn stop(self, grace: Duration) {
        let deadline = Deadline::after(grace);
        let turns = tokio::time::timeout(grace, self.desk.running.end()).await;
        if turns.is_err() || !self.desk.tasks.end(deadline.remaining()).await {
            tracing::warn!("some sessions could not be closed in time");
        }
    }
}

/// Where turns begin: what all requests share.
pub(crate) struct Desk {
    pub(crate) planner: Planner,
    pub(crate) running: Running,
    tasks: Tasks,
}

impl Desk {
    pub(crate) fn new(config: &Config, ports: Ports) -> Self {
        let directory = Directory::new(ports.gateway.clone());
        let planner = Planner { rules: Arc::new(config.rules.clone()), ports, directory };
        Self { planner, running: Running::default(), tasks: Tasks::default() }
    }

    /// Plans a turn; from here on it can be cancelled by its id.
    ///
    /// # Errors
    /// Those of [`Planner::plan`]; INVALID_REQUEST when a request of that id is running; no backend that can take it;
    /// CANCELLED; SHUTTING_DOWN.
    pub(crate) async fn turn(&self, context: &CallContext, arrived: Instant, ask: Ask, outbox: Outbox) -> Result<Turn> {
        tutti_telemetry::set_request_id(&ask.id);
        let place = self.running.enter(&context.scope, ask.id, ask.field("request_id"))?;
        let plan: Plan = tokio::select! {
            biased;
            () = place.cancelled.cancelled() => return Err(place.why()),
            plan = self.planner.plan(context, &ask) => plan?,
        };
        let ports = self.planner.ports.clone();
        Turn::new(ask, plan, ports, (context, arrived), (outbox, place, self.tasks.clone()))
    }

    /// A turn, collected. It lives in the call: a caller who goes away drops it.
    ///
    /// # Errors
    /// Those of [`Desk::turn`] and of the turn.
    pub(crate) async fn answer(&self, context: &CallContext, arrived: Instant, ask: Ask) -> Result<ChatResponse> {
        let turn = self.turn(context, arrived, ask, Outbox::default()).await?;
        Box::pin(turn.run()).await
    }

    /// A turn, streamed.
    ///
    /// # Errors
    /// Those of [`Desk::turn`].
    pub(crate) async fn stream(&self, context: &CallContext, arrived: Instant, ask: Ask) -> Result<Streamed> {
        let (outbox, events) = Outbox::new();
        let turn = self.turn(context, arrived, ask, outbox).await?;
        Ok(Streamed::start(turn, events))
    }
}
