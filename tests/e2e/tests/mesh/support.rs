//! A running `tutti up` with its own folders, and the simulator that plays every provider.

use std::{path::Path, time::Duration};

use tonic::{Request, Response, Status, Streaming};
use tutti_client::Channel;
use tutti_proto::{
    gateway::v1::gateway_service_client::GatewayServiceClient,
    ledger::v1::{ListUsageRequest, UsageFilter, UsageRecord, UsageState, ledger_service_client::LedgerServiceClient},
    llm::v1::{Message, Role},
    memory::v1::session_service_client::SessionServiceClient,
    router::v1::{
        ChatRequest, ChatResponse, ChatStreamRequest, ChatStreamResponse, router_service_client::RouterServiceClient,
    },
    sandbox::v1::audit_service_client::AuditServiceClient,
};
use tutti_simulator::{SimConfig, SimHandle, Simulator};
use tutti_testkit::{Process, ProcessBuilder, wait_for};

/// Longer than anything takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The backends of the test mesh: one for every wire format, and a dialect with reasoning state.
pub(crate) const BACKENDS: [&str; 5] = ["claude", "openai", "gemini", "ollama", "deepseek"];

/// A running mesh.
pub(crate) struct Mesh {
    pub(crate) process: Process,
    pub(crate) sim: SimHandle,
    pub(crate) channel: Channel,
}

impl Mesh {
    /// The mesh with all [`BACKENDS`] on a simulator of its own.
    pub(crate) async fn start() -> Self {
        Self::start_with("").await
    }

    /// The same with more lines of configuration.
    pub(crate) async fn start_with(more: &str) -> Self {
        let sim = Simulator::start(SimConfig::new()).await.unwrap();
        let builder = tutti_up();
        configure(&builder, &sim, more);
        Self::of(builder, sim).await
    }

    /// A mesh of a process that is about to start.
    pub(crate) async fn of(builder: ProcessBuilder, sim: SimHandle) -> Self {
        let mut process = builder.start();
        let address = listening(&mut process).await;
        let channel = Channel::connect(&address).unwrap();
        Self { process, sim, channel }
    }

    pub(crate) fn router(&self) -> RouterServiceClient<Channel> {
        RouterServiceClient::new(self.channel.clone())
    }

    pub(crate) fn gateway(&self) -> GatewayServiceClient<Channel> {
        GatewayServiceClient::new(self.channel.clone())
    }

    pub(crate) fn ledger(&self) -> LedgerServiceClient<Channel> {
        LedgerServiceClient::new(self.channel.clone())
    }

    pub(crate) fn memory(&self) -> SessionServiceClient<Channel> {
        SessionServiceClient::new(self.channel.clone())
    }

    pub(crate) fn audit(&self) -> AuditServiceClient<Channel> {
        AuditServiceClient::new(self.channel.clone())
    }

    pub(crate) async fn chat(&self, chat: ChatRequest) -> Result<ChatResponse, Status> {
        self.router().chat(patient(chat)).await.map(Response::into_inner)
    }

    pub(crate) async fn stream(&self, chat: ChatRequest) -> Streaming<ChatStreamResponse> {
        self.router().chat_stream(patient(ChatStreamRequest { chat: Some(chat) })).await.unwrap().into_inner()
    }

    /// All records of the ledger that match, every page.
    pub(crate) async fn usage(&self, filter: UsageFilter) -> Vec<UsageRecord> {
        let mut records = Vec::new();
        let mut page_token = String::new();
        loop {
            let asked = ListUsageRequest { filter: Some(filter.clone()), page_size: 1000, page_token };
            let page = self.ledger().list_usage(patient(asked)).await.unwrap().into_inner();
            records.extend(page.records);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return records;
            }
        }
    }

    /// The records of a request once none is a hold any more; settlement is off the caller's path.
    pub(crate) async fn settled(&self, request_id: &str) -> Vec<UsageRecord> {
        wait_for(PATIENCE, || async {
            let filter = UsageFilter { request_id: request_id.to_owned(), ..Default::default() };
            let records = self.usage(filter).await;
            let done = !records.is_empty() && records.iter().all(|r| r.state() != UsageState::Reserved);
            if done { Ok(records) } else { Err(records) }
        })
        .await
    }
}

/// `tutti up` on a free port with folders of its own.
pub(crate) fn tutti_up() -> ProcessBuilder {
    let builder = Process::binary("tutti");
    let data = builder.scratch().data_dir();
    tutti_up_at(builder, "127.0.0.1:0", &data)
}

/// The same with an address and a data folder of the caller's.
pub(crate) fn tutti_up_at(builder: ProcessBuilder, listen: &str, data: &Path) -> ProcessBuilder {
    let config = builder.scratch().config_dir();
    builder.args(["up", "--listen", listen, "--config-dir"]).arg(config).arg("--data-dir").arg(data)
}

/// The address from the line that `tutti up` prints.
pub(crate) async fn listening(process: &mut Process) -> String {
    process
        .wait_for_stdout(PATIENCE, |line| {
            let at = line.find("http")?;
            line[at..].split_whitespace().next().map(str::to_owned)
        })
        .await
}

/// A failure is one attempt, and no backend is left alone after some.
const ONE_TRY: &str = "[resilience.retry]\nmax_attempts = 1\n[resilience.breaker]\nenabled = false\n";

/// Writes a configuration in which every backend of [`BACKENDS`] is the simulator under its provider's own format.
/// Without a `[resilience]` of its own it has none.
pub(crate) fn configure(builder: &ProcessBuilder, sim: &SimHandle, more: &str) {
    let at = sim.addr();
    let backend = |name: &str, provider: &str, model: &str, path: &str| {
        format!("[backends.{name}]\nprovider = \"{provider}\"\nmodel = \"{model}\"\nbase_url = \"http://{at}{path}\"\n")
    };
    let config = [
        backend("claude", "anthropic", "claude-sonnet-5-5", ""),
        backend("openai", "openai", "gpt-5.4", "/v1"),
        backend("gemini", "gemini", "gemini-3.8-flash", "/v1beta"),
        backend("ollama", "ollama", "llama3.2", ""),
        backend("deepseek", "deepseek", "deepseek-v4-pro", "/v1"),
        "[backends.opus]\nenabled = false\n".to_owned(),
        more.to_owned(),
        if more.contains("[resilience") { String::new() } else { ONE_TRY.to_owned() },
    ];
    builder.scratch().write_config("config.toml", &config.join("\n"));
    let keys = ["claude", "openai", "gemini", "deepseek"]
        .map(|name| format!("[{name}]\napi_key = \"sk-test-{name}-0123456789\"\n"));
    builder.scratch().write_config("credentials.toml", &keys.join("\n"));
}

/// A request with a deadline, so that a test that hangs fails instead.
pub(crate) fn patient<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(PATIENCE);
    request
}

/// One user message to one backend.
pub(crate) fn ask(backend: &str, text: &str) -> ChatRequest {
    ChatRequest { messages: vec![user(text)], backend: backend.to_owned(), ..Default::default() }
}

pub(crate) fn user(text: &str) -> Message {
    Message { role: Role::User.into(), text: text.to_owned(), ..Default::default() }
}
