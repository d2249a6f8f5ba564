//! The composition root: what the router is made of.

use std::{
    fmt,
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tutti_client::Channel;
use tutti_config::StorageConfig;
use tutti_error::Result;
use tutti_layers::{CallContext, MAX_MESSAGE_BYTES};
use tutti_proto::router::v1::{
    ChatResponse, ChatStreamResponse, persona_service_server::PersonaServiceServer,
    router_service_server::RouterServiceServer,
};
use tutti_server::{Readiness, Services, Tasks};
use tutti_types::{Deadline, RequestId, time};

use crate::{
    Config,
    clients::{Directory, GatewayClient, MemoryClient, Ports, SandboxClient},
    domain::{
        ask::Ask,
        outbox::Outbox,
        plan::{Plan, Planner},
        run::Run,
        running::Running,
        streamed::Streamed,
        turn::Turn,
    },
    grpc::{PersonaApi, RouterApi},
    http,
    keyed::{Keyed, Reader},
    store::{CallStore, PostgresStore, SqliteStore},
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
    /// Puts a router together and opens its store, waiting for it if it is away. Peers are called when they are needed, not
    /// here: the order of starting doesn't matter.
    ///
    /// # Errors
    /// STORE_UNAVAILABLE.
    pub async fn start(config: Config, data_dir: &Path, peers: Peers, readiness: &Readiness) -> Result<Self> {
        let store: Arc<dyn CallStore> = match &config.storage {
            StorageConfig::Sqlite => Arc::new(SqliteStore::open(data_dir).await?),
            StorageConfig::Postgres(postgres) => {
                Arc::new(PostgresStore::open(postgres, config.idempotency.lease, readiness).await?)
            }
        };
        let ports = Ports {
            gateway: Arc::new(GatewayClient::new(peers.gateway)),
            sessions: Arc::new(MemoryClient::new(peers.memory)),
            tools: Arc::new(SandboxClient::new(peers.sandbox)),
        };
        let desk = Arc::new(Desk::new(&config, ports, store));
        desk.planner.directory.follow(&desk.tasks);
        desk.look_after_calls();
        Ok(Self { desk, config })
    }

    /// The router's gRPC services, and the OpenAI-compatible door. They stay ready when the store goes away later: only
    /// calls with an idempotency key need it.
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
        self.desk.keyed.close().await;
    }
}

/// Where turns begin: what all requests share.
pub(crate) struct Desk {
    pub(crate) planner: Planner,
    pub(crate) running: Running,
    pub(crate) keyed: Keyed,
    tasks: Tasks,
}

/// An answer in one piece.
pub(crate) struct Answer {
    pub(crate) response: ChatResponse,
    /// When it was asked for first, in microseconds since 1970.
    pub(crate) created_at: i64,
}

/// A stream of a turn's events: of one that is its own, or of a call with an idempotency key.
pub(crate) enum Events {
    Turn { request_id: RequestId, created_at: i64, streamed: Streamed },
    Kept(Box<Reader>),
}

impl Events {
    /// The id of the request that made the turn.
    pub(crate) fn request_id(&self) -> RequestId {
        match self {
            Self::Turn { request_id, .. } => *request_id,
            Self::Kept(reader) => reader.request_id(),
        }
    }

    /// When the turn was asked for first, in microseconds since 1970.
    pub(crate) fn created_at(&self) -> i64 {
        match self {
            Self::Turn { created_at, .. } => *created_at,
            Self::Kept(reader) => reader.created_at(),
        }
    }

    /// The next event, or why the turn failed; `None` at the end. Nothing is lost when the future is dropped.
    pub(crate) async fn next(&mut self) -> Option<Result<ChatStreamResponse>> {
        match self {
            Self::Turn { request_id, streamed, .. } => {
                let next = streamed.next().await?;
                let number =
                    |(seq, event)| ChatStreamResponse { request_id: request_id.to_string(), seq, event: Some(event) };
                Some(next.map(number))
            }
            Self::Kept(reader) => reader.next().await,
        }
    }
}

impl Desk {
    pub(crate) fn new(config: &Config, ports: Ports, store: Arc<dyn CallStore>) -> Self {
        let directory = Directory::new(ports.gateway.clone());
        let planner = Planner { rules: Arc::new(config.rules.clone()), ports, directory };
        let tasks = Tasks::default();
        let keyed = Keyed::new(store, config.idempotency, tasks.clone());
        Self { planner, running: Running::default(), keyed, tasks }
    }

    /// Plans a turn; from here on it can be cancelled by its id.
    ///
    /// # Errors
    /// Those of [`Planner::plan`]; INVALID_REQUEST when a request of that id is running; no backend that can take it;
    /// CANCELLED; SHUTTING_DOWN.
    pub(crate) async fn turn(
        &self,
        context: &CallContext,
        arrived: Instant,
        ask: Ask,
        (outbox, run): (Outbox, Run),
    ) -> Result<Turn> {
        tutti_telemetry::set_request_id(&ask.id);
        let place = self.running.enter(&context.scope, ask.id, ask.field("request_id"))?;
        let plan: Plan = tokio::select! {
            biased;
            () = place.cancelled.cancelled() => return Err(place.why()),
            plan = self.planner.plan(context, &ask) => plan?,
        };
        let ports = self.planner.ports.clone();
        Turn::new(ask, plan, ports, (context, arrived), (outbox, place, self.tasks.clone()), run)
    }

    /// A turn, collected. Without an idempotency key it lives in the call: a caller who goes away drops it.
    ///
    /// # Errors
    /// Those of [`Desk::begin`], [`Desk::turn`] and of the turn.
    pub(crate) async fn answer(self: &Arc<Self>, context: &CallContext, arrived: Instant, ask: Ask) -> Result<Answer> {
        if !ask.chat.idempotency_key.is_empty() {
            let reader = self.begin(context, arrived, ask).await?;
            let created_at = reader.created_at();
            return Ok(Answer { response: reader.answer().await?, created_at });
        }
        let turn = self.turn(context, arrived, ask, (Outbox::default(), Run::default())).await?;
        let response = Box::pin(turn.run()).await?;
        Ok(Answer { response, created_at: time::unix_micros(SystemTime::now()) })
    }

    /// A turn, streamed.
    ///
    /// # Errors
    /// Those of [`Desk::begin`] and [`Desk::turn`].
    pub(crate) async fn stream(self: &Arc<Self>, context: &CallContext, arrived: Instant, ask: Ask) -> Result<Events> {
        if !ask.chat.idempotency_key.is_empty() {
            return Ok(Events::Kept(Box::new(self.begin(context, arrived, ask).await?)));
        }
        let (outbox, events) = Outbox::new();
        let (request_id, created_at) = (ask.id, time::unix_micros(SystemTime::now()));
        let turn = self.turn(context, arrived, ask, (outbox, Run::default())).await?;
        Ok(Events::Turn { request_id, created_at, streamed: Streamed::start(turn, events) })
    }
}
