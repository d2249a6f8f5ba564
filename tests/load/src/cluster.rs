//! The cluster of a run of our own: one replica of each service as a process of its own, on a real Postgres whose
//! commits are durable, and Redis.

use std::{
    error::Error,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use tutti_testkit::{Process, Scratch, TestPostgres, TestRedis, free_port, wait_for};

use crate::plan::MODEL;

/// Binaries and their keys in `[mesh]`, in the order they are started in: who is called comes first.
const SERVICES: [(&str, &str); 5] = [
    ("usage-ledger", "ledger"),
    ("provider-gateway", "gateway"),
    ("context-memory", "memory"),
    ("tool-sandbox", "sandbox"),
    ("router", "router"),
];
/// What the services prove themselves with: it is part of what a call costs.
const SECRET: &str = "0123456789abcdef0123456789abcdef";
const SOON: Duration = Duration::from_secs(60);

/// A running cluster. Dropping it ends all of it.
#[derive(Debug)]
pub(crate) struct Cluster {
    services: Vec<Process>,
    redis: TestRedis,
    postgres: TestPostgres,
    /// The router's gRPC.
    pub(crate) grpc: SocketAddr,
    /// The router's OpenAI door.
    pub(crate) door: SocketAddr,
    _migrated: Scratch,
}

impl Cluster {
    /// Migrates a new database, starts the five binaries in `binaries`, and waits until the router is ready. `tutti` lies
    /// there too.
    ///
    /// # Errors
    /// When the migration fails.
    ///
    /// # Panics
    /// When something can't be started.
    pub(crate) async fn start(binaries: &Path, simulator: SocketAddr) -> Result<Self, Box<dyn Error>> {
        let postgres = tokio::task::block_in_place(TestPostgres::durable);
        let redis = TestRedis::start().await;
        let ports = SERVICES.map(|(_, key)| (key, free_port()));
        let (config, credentials) = (config(&ports, simulator), credentials(&postgres.database()));
        let migrated = migrate(&binaries.join("tutti"), &config, &credentials).await?;
        let door = loopback(free_port());
        let mut services = Vec::new();
        let mut grpc = door;
        for ((binary, _), (_, port)) in SERVICES.iter().zip(ports) {
            grpc = loopback(port);
            let admin = loopback(free_port());
            let more =
                if *binary == "router" { format!("[server]\nhttp_listen = \"{door}\"\n") } else { String::new() };
            services.push(service(binaries.join(binary), [grpc, admin], &format!("{more}{config}"), &credentials));
            ready(admin).await;
        }
        Ok(Self { services, redis, postgres, grpc, door, _migrated: migrated })
    }

    /// The processes of the mesh.
    pub(crate) fn ids(&self) -> Vec<u32> {
        self.services.iter().map(Process::id).collect()
    }

    /// Those of its database and cache.
    pub(crate) fn beside(&self) -> Vec<u32> {
        [self.postgres.id(), self.redis.id()].into_iter().flatten().collect()
    }

    /// Where the database lies.
    pub(crate) fn disk(&self) -> PathBuf {
        self.postgres.folder().to_owned()
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn config(ports: &[(&str, u16)], simulator: SocketAddr) -> String {
    let mesh: String = ports.iter().map(|(key, port)| format!("{key} = \"http://127.0.0.1:{port}\"\n")).collect();
    format!(
        "[mesh]\n{mesh}\n[storage]\nkind = \"postgres\"\n\n\
         [backends.openai]\nmodel = \"{MODEL}\"\nbase_url = \"http://{simulator}/v1\"\n"
    )
}

fn credentials(database: &str) -> String {
    format!(
        "[openai]\napi_key = \"sk-load-0123456789\"\n[mesh]\nsecret = \"{SECRET}\"\n[postgres]\nurl = \"{database}\"\n"
    )
}

async fn migrate(tutti: &Path, config: &str, credentials: &str) -> Result<Scratch, Box<dyn Error>> {
    let command = Process::program(tutti);
    let folder = command.scratch().config_dir();
    command.scratch().write_config("config.toml", config);
    command.scratch().write_config("credentials.toml", credentials);
    let mut process = command.arg("migrate").arg("--config-dir").arg(folder).start();
    if !process.wait(SOON).await.success() {
        return Err(format!("tutti migrate: {}{}", process.stdout(), process.stderr()).into());
    }
    Ok(process.into_scratch())
}

fn service(binary: PathBuf, [listen, admin]: [SocketAddr; 2], config: &str, credentials: &str) -> Process {
    let command = Process::program(binary);
    let (folder, data) = (command.scratch().config_dir(), command.scratch().data_dir());
    command.scratch().write_config("config.toml", config);
    command.scratch().write_config("credentials.toml", credentials);
    let command = command.args(["--listen", &listen.to_string(), "--admin-listen", &admin.to_string()]);
    command.arg("--config-dir").arg(folder).arg("--data-dir").arg(data).start()
}

/// Waits until a service says that it takes calls.
async fn ready(admin: SocketAddr) {
    wait_for(SOON, async || {
        let answer = probe(admin).await.map_err(|error| error.to_string())?;
        if answer.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(answer) }
    })
    .await;
}

async fn probe(admin: SocketAddr) -> std::io::Result<String> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(admin).await?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
