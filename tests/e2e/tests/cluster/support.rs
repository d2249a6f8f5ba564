//! A running cluster.

mod admin;
mod replica;

use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};
use tonic::Request;
use tutti_client::{Channel, Connector};
use tutti_config::{Env, Loader, MeshConfig};
use tutti_proto::{
    ledger::v1::ledger_service_client::LedgerServiceClient, memory::v1::session_service_client::SessionServiceClient,
    router::v1::router_service_client::RouterServiceClient,
};
use tutti_simulator::{Fault, Scenario, SimConfig, SimHandle, Simulator};
use tutti_testkit::{Process, Scratch, TestPostgres, TestRedis};

pub(crate) use self::{
    admin::{get, metric},
    replica::{Replica, Service},
};

/// Longer than anything takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// The providers' formats, one backend each.
pub(crate) const BACKENDS: [&str; 4] = ["claude", "openai", "gemini", "ollama"];
/// What the file says that the mesh's tools can read.
pub(crate) const NOTE: &str = "the note says tangerine";
/// The section that has the services keep what they know in Postgres.
pub(crate) const POSTGRES: &str = "[storage]\nkind = \"postgres\"\n";
/// What the services of the mesh prove themselves with.
const SECRET: &str = "0123456789abcdef0123456789abcdef";
/// What a wrong one may look like.
pub(crate) const WRONG_SECRET: &str = "fedcba9876543210fedcba9876543210";
/// Replicas of each service, beside each other in the list.
pub(crate) const REPLICAS: usize = 2;
/// Clusters of different tests run one after the other: one is enough for two cores.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// Two replicas of each service, their stores, and the simulator that plays every provider. What is started last ends
/// first.
pub(crate) struct Cluster {
    pub(crate) replicas: Vec<Replica>,
    pub(crate) sim: SimHandle,
    pub(crate) redis: TestRedis,
    pub(crate) postgres: TestPostgres,
    /// The name of the database in it.
    pub(crate) database: String,
    mesh: MeshConfig,
    _shared: Scratch,
    _turn: MutexGuard<'static, ()>,
}

impl Cluster {
    /// With all replicas ready. On a busy machine calls wait rather than fail.
    pub(crate) async fn start() -> Self {
        Self::start_with(&format!("{POSTGRES}acquire_timeout = \"60s\"\n")).await
    }

    /// The same with these sections of the configuration, `[storage]` among them.
    pub(crate) async fn start_with(more: &str) -> Self {
        let turn = ONE_AT_A_TIME.lock().await;
        // Answers that take a while, as those of models do: most calls wait for a provider.
        let answers = Fault::parse("ttft_ms=1000 chunk_ms=40").unwrap();
        let sim = Simulator::start(SimConfig::new().scenario(Scenario::new().defaults(answers))).await.unwrap();
        let postgres = tokio::task::block_in_place(TestPostgres::start);
        let redis = TestRedis::start().await;
        let shared = Scratch::new();
        std::fs::write(shared.home().join("note.txt"), NOTE).unwrap();
        let mut replicas: Vec<Replica> =
            Service::ALL.iter().flat_map(|service| [(); REPLICAS].map(|()| Replica::new(*service))).collect();
        let config = config(&replicas, &sim, &redis, &shared, more);
        let url = postgres.database();
        let database = url.rsplit('/').next().unwrap_or_default().to_owned();
        let credentials = credentials(&url);
        shared.write_config("config.toml", &config);
        shared.write_config("credentials.toml", &credentials);
        migrate(&shared).await;
        for replica in &mut replicas {
            replica.configure(&config, &credentials);
            replica.start();
        }
        for replica in &replicas {
            replica.until_ready().await;
        }
        let mesh = mesh(&mesh_section(&replicas), SECRET);
        Self { replicas, sim, redis, postgres, database, mesh, _shared: shared, _turn: turn }
    }

    /// What an application has: the addresses of the routers and no secret.
    pub(crate) fn router(&self) -> RouterServiceClient<Channel> {
        let connector = Connector::default();
        RouterServiceClient::new(connector.connect(&addresses(&self.replicas, Service::Router)).unwrap())
    }

    /// The books, as a service of the mesh sees them.
    pub(crate) fn ledger(&self) -> LedgerServiceClient<Channel> {
        LedgerServiceClient::new(self.peer(Service::Ledger))
    }

    /// The conversations, as a service of the mesh sees them.
    pub(crate) fn memory(&self) -> SessionServiceClient<Channel> {
        SessionServiceClient::new(self.peer(Service::Memory))
    }

    fn peer(&self, service: Service) -> Channel {
        Connector::new(&self.mesh).unwrap().connect(self.mesh.address(service.key())).unwrap()
    }

    /// The mesh as somebody has it who was told another secret.
    pub(crate) fn mesh_with_wrong_secret(&self) -> MeshConfig {
        mesh(&mesh_section(&self.replicas), WRONG_SECRET)
    }
}

/// The addresses of a service, as `[mesh]` has them.
fn addresses(replicas: &[Replica], service: Service) -> String {
    let of_service = replicas.iter().filter(|replica| replica.service == service);
    of_service.map(Replica::url).collect::<Vec<_>>().join(",")
}

/// `[mesh]` of a peer that has this secret.
fn mesh(addresses: &str, secret: &str) -> MeshConfig {
    let scratch = Scratch::new();
    scratch.write_config("config.toml", addresses);
    scratch.write_config("credentials.toml", &format!("[mesh]\nsecret = \"{secret}\"\n"));
    let none: [(&str, &str); 0] = [];
    let loader = Loader::new().config_dir(Some(scratch.config_dir())).start_dir(scratch.home());
    let config = loader.env(Env::from_map(none)).load().unwrap();
    let reader = config.reader();
    let mesh = MeshConfig::read(&reader, &Service::ALL.map(Service::key));
    reader.finish().unwrap();
    mesh
}

/// The section of the configuration with all addresses.
fn mesh_section(replicas: &[Replica]) -> String {
    let lines = Service::ALL.map(|service| format!("{} = \"{}\"\n", service.key(), addresses(replicas, service)));
    format!("[mesh]\n{}", lines.concat())
}

/// The configuration of all services; each reads its own sections.
fn config(replicas: &[Replica], sim: &SimHandle, redis: &TestRedis, shared: &Scratch, more: &str) -> String {
    let at = sim.addr();
    let backend = |name: &str, provider: &str, model: &str, path: &str| {
        format!("[backends.{name}]\nprovider = \"{provider}\"\nmodel = \"{model}\"\nbase_url = \"http://{at}{path}\"\n")
    };
    [
        "[server]\nshutdown_grace = \"60s\"\n".to_owned(),
        mesh_section(replicas),
        "[tools]\nrate_per_minute = 0\n".to_owned(),
        format!("[tools.workspaces]\ndefault = \"{}\"\n", shared.home().display()),
        backend("claude", "anthropic", "claude-sonnet-5-5", ""),
        backend("openai", "openai", "gpt-5.4", "/v1"),
        backend("gemini", "gemini", "gemini-3.8-flash", "/v1beta"),
        backend("ollama", "ollama", "llama3.2", ""),
        "[backends.opus]\nenabled = false\n".to_owned(),
        // Limits that are never reached: asked for each attempt all the same.
        format!("[redis]\nurl = \"{}\"\n", redis.url()),
        "[resilience.limits.backend]\nrequests_per_minute = 1_000_000\nburst = 100_000\n".to_owned(),
        more.to_owned(),
    ]
    .join("\n")
}

fn credentials(database: &str) -> String {
    let keys = ["claude", "openai", "gemini"];
    let keys = keys.map(|name| format!("[{name}]\napi_key = \"sk-test-{name}-0123456789\"\n"));
    format!("{}\n[mesh]\nsecret = \"{SECRET}\"\n\n[postgres]\nurl = \"{database}\"\n", keys.join("\n"))
}

/// What a deployment does before its services start.
async fn migrate(shared: &Scratch) {
    let mut migrate = Process::binary("tutti").arg("migrate").arg("--config-dir").arg(shared.config_dir()).start();
    let status = migrate.wait(PATIENCE).await;
    assert!(status.success(), "{}{}", migrate.stdout(), migrate.stderr());
}

/// A request with a deadline, so that a test that hangs fails instead.
pub(crate) fn patient<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(PATIENCE);
    request
}
