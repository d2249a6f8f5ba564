//! A gateway with everything around it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use provider_gateway::{App, Config, clients::ledger::Ledger};
use tempfile::TempDir;
use tokio::sync::Notify;
use tonic::{Request, Status};
use tutti_client::Channel;
use tutti_config::{BackendConfig, Credential, ProviderKind, RedisConfig, SecretString};
use tutti_error::{Error, Reason, Result};
use tutti_layers::CallContext;
use tutti_proto::{
    gateway::v1::{
        GenerateRequest, GenerateResponse, GenerateStreamRequest, GenerateStreamResponse,
        gateway_service_client::GatewayServiceClient, generate_stream_response::Event,
    },
    ledger::v1::{ReleaseRequest, ReserveRequest, SettleRequest},
    llm::v1::{Message, Role},
};
use tutti_simulator::{SimConfig, SimHandle, Simulator};
use tutti_types::Scope;

/// Far more than anything here takes.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// Backends of all four wire formats at the simulator, by name.
pub(crate) const FORMATS: [&str; 4] = ["openai", "anthropic", "gemini", "ollama"];

/// A ledger that writes down what it was asked and told.
#[derive(Debug, Default)]
pub(crate) struct FakeLedger {
    books: Mutex<Books>,
    changed: Notify,
    /// Lets a reservation that waits go on.
    pub(crate) gate: Notify,
}

#[derive(Debug, Default)]
pub(crate) struct Books {
    pub(crate) reserved: HashMap<String, (ReserveRequest, Scope)>,
    pub(crate) settled: Vec<SettleRequest>,
    pub(crate) released: Vec<ReleaseRequest>,
    /// Answers every reservation with this.
    pub(crate) refusal: Option<Reason>,
    /// Answers settlements and releases as if it were gone.
    pub(crate) away: bool,
    /// Reservations are durable and then wait at the gate with their answer.
    pub(crate) slow: bool,
}

impl FakeLedger {
    pub(crate) fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap()
    }

    fn gone(&self) -> Result<()> {
        if self.books().away { Err(Error::new(Reason::ServiceUnavailable, "gone")) } else { Ok(()) }
    }

    /// Waits until the books satisfy `condition`.
    pub(crate) async fn wait_for<T>(&self, condition: impl Fn(&Books) -> Option<T>) -> T {
        let waiting = async {
            loop {
                let mut changed = std::pin::pin!(self.changed.notified());
                changed.as_mut().enable();
                if let Some(found) = condition(&self.books()) {
                    return found;
                }
                changed.await;
            }
        };
        match tokio::time::timeout(LONG, waiting).await {
            Ok(found) => found,
            Err(_) => panic!("the ledger did not get there: {:?}", self.books()),
        }
    }

    /// Waits for the one settlement of the one attempt there was.
    pub(crate) async fn only_settlement(&self) -> SettleRequest {
        let settled = self.wait_for(|books| books.settled.first().cloned()).await;
        let books = self.books();
        assert_eq!((books.reserved.len(), books.settled.len(), books.released.len()), (1, 1, 0), "{books:?}");
        assert!(books.reserved.contains_key(&settled.attempt_id));
        settled
    }

    /// Waits until every hold has ended, and checks that each ended once.
    pub(crate) async fn balanced(&self) {
        self.wait_for(|books| {
            let ended = books.settled.len() + books.released.len();
            (ended >= books.reserved.len()).then_some(())
        })
        .await;
        let books = self.books();
        let mut ended: Vec<&str> = books.settled.iter().map(|s| s.attempt_id.as_str()).collect();
        ended.extend(books.released.iter().map(|r| r.attempt_id.as_str()));
        ended.sort_unstable();
        let mut held: Vec<&str> = books.reserved.keys().map(String::as_str).collect();
        held.sort_unstable();
        assert_eq!(ended, held);
    }
}

#[async_trait]
impl Ledger for FakeLedger {
    async fn reserve(&self, request: ReserveRequest, context: &CallContext) -> Result<()> {
        if let Some(reason) = self.books().refusal {
            return Err(Error::new(reason, "refused"));
        }
        self.books().reserved.insert(request.attempt_id.clone(), (request, context.scope.clone()));
        self.changed.notify_waiters();
        if self.books().slow {
            self.gate.notified().await;
        }
        Ok(())
    }

    async fn settle(&self, request: SettleRequest, _: &CallContext) -> Result<()> {
        self.gone()?;
        self.books().settled.push(request);
        self.changed.notify_waiters();
        Ok(())
    }

    async fn settle_many(&self, requests: Vec<SettleRequest>, _: &CallContext) -> Result<Vec<Result<()>>> {
        self.gone()?;
        let results = requests.iter().map(|_| Ok(())).collect();
        self.books().settled.extend(requests);
        self.changed.notify_waiters();
        Ok(results)
    }

    async fn release(&self, request: ReleaseRequest, _: &CallContext) -> Result<()> {
        self.gone()?;
        self.books().released.push(request);
        self.changed.notify_waiters();
        Ok(())
    }
}

/// A running gateway.
pub(crate) struct World {
    pub(crate) sim: SimHandle,
    pub(crate) ledger: Arc<FakeLedger>,
    pub(crate) client: GatewayServiceClient<Channel>,
    pub(crate) app: App,
    pub(crate) config: Config,
    pub(crate) dir: TempDir,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// With something else about every backend. Without it, each failure is one attempt.
    pub(crate) async fn with(change: impl Fn(&mut BackendConfig)) -> Self {
        Self::sharing(None, change).await
    }

    /// The same with rate limits in a Redis, where there is one.
    pub(crate) async fn sharing(redis: Option<RedisConfig>, change: impl Fn(&mut BackendConfig)) -> Self {
        let sim = Simulator::start(SimConfig::new().keep_bodies()).await.unwrap();
        let mut config = config(&sim.url());
        config.redis = redis;
        config.backends = config
            .backends
            .iter()
            .cloned()
            .map(|mut backend| {
                backend.resilience.retry.max_attempts = 1;
                change(&mut backend);
                backend
            })
            .collect();
        let dir = tempfile::tempdir().unwrap();
        let ledger = Arc::new(FakeLedger::default());
        let app = start(&config, &dir, &ledger).await;
        Self { sim, client: client(&app), ledger, app, config, dir }
    }

    pub(crate) async fn generate(&self, request: GenerateRequest) -> Result<GenerateResponse, Status> {
        self.client.clone().generate(request).await.map(tonic::Response::into_inner)
    }

    /// All events, and how the stream ended.
    pub(crate) async fn stream(&self, request: GenerateRequest) -> (Vec<GenerateStreamResponse>, Result<(), Status>) {
        let request = GenerateStreamRequest { generate: Some(request) };
        let mut stream = match self.client.clone().generate_stream(request).await {
            Ok(response) => response.into_inner(),
            Err(status) => return (Vec::new(), Err(status)),
        };
        let mut events = Vec::new();
        loop {
            match stream.message().await {
                Ok(Some(event)) => events.push(event),
                Ok(None) => return (events, Ok(())),
                Err(status) => return (events, Err(status)),
            }
        }
    }
}

pub(crate) async fn start(config: &Config, dir: &TempDir, ledger: &Arc<FakeLedger>) -> App {
    // As `main` does; a second call changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    App::start_with(config, dir.path(), Arc::clone(ledger) as Arc<dyn Ledger>).await.unwrap()
}

pub(crate) fn client(app: &App) -> GatewayServiceClient<Channel> {
    GatewayServiceClient::new(Channel::in_process(app.services().stack(LONG)))
}

fn config(sim: &str) -> Config {
    let backend = |name: &str, kind, model: &str, base_url: String| BackendConfig {
        base_url: Some(base_url),
        ..BackendConfig::new(name, kind, model)
    };
    let backends = [
        backend("openai", ProviderKind::OpenAi, "gpt-4o", format!("{sim}/v1")),
        backend("anthropic", ProviderKind::Anthropic, "sonnet", sim.to_owned()),
        backend("gemini", ProviderKind::Gemini, "gemini-flash", sim.to_owned()),
        backend("ollama", ProviderKind::Ollama, "llama3.1", sim.to_owned()),
        backend("simulator", ProviderKind::Simulator, "simulator", format!("{sim}/v1")),
    ];
    let key = |name: &str, key: &str| Credential::new(name, SecretString::from(key));
    let mut openai = key("openai", "sk-first-0123456789-abcd");
    openai.api_keys.push(SecretString::from("sk-second-0123456789-efgh"));
    let mut unusable = BackendConfig::new("locked", ProviderKind::OpenAi, "gpt-4o");
    unusable.credentials = "nowhere".into();
    Config {
        backends: backends.into_iter().chain([unusable]).collect(),
        credentials: [openai, key("anthropic", "k1"), key("gemini", "k2")].into_iter().collect(),
        ..Config::default()
    }
}

pub(crate) fn ask(backend: &str, text: &str) -> GenerateRequest {
    GenerateRequest { backend: backend.into(), messages: vec![user(text)], ..Default::default() }
}

pub(crate) fn user(text: &str) -> Message {
    Message { role: Role::User.into(), text: text.into(), ..Default::default() }
}

pub(crate) fn within<T>(message: T, timeout: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    request
}

pub(crate) fn reason(status: &Status) -> Reason {
    tutti_error::reason_of(status).unwrap_or_else(|| panic!("no reason: {status:?}"))
}

/// The last event, which must be `done`.
pub(crate) fn done(events: &[GenerateStreamResponse]) -> GenerateResponse {
    match events.last().and_then(|last| last.event.clone()) {
        Some(Event::Done(done)) => done,
        other => panic!("the last event is {other:?}"),
    }
}

pub(crate) fn text(events: &[GenerateStreamResponse]) -> String {
    let delta = |event: &GenerateStreamResponse| match &event.event {
        Some(Event::Delta(delta)) => Some(delta.clone()),
        _ => None,
    };
    events.iter().filter_map(delta).collect()
}
