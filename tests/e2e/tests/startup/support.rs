//! Services as processes on a Postgres of the test's own.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::{Code, Request, Response, Status};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tutti_client::Channel;
use tutti_error::{Reason, reason_of};
use tutti_proto::{
    ledger::v1::{GetUsageRequest, ledger_service_client::LedgerServiceClient},
    llm::v1::{Message, Role},
    router::v1::{ChatRequest, ChatResponse, ListBackendsRequest, router_service_client::RouterServiceClient},
};
use tutti_testkit::{Process, ProcessBuilder, free_port};

/// Longer than anything takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A mesh whose services aren't there, for those that need their addresses.
const NOBODY: &str = r#"[mesh]
gateway = "http://127.0.0.1:1"
memory = "http://127.0.0.1:1"
sandbox = "http://127.0.0.1:1"
"#;

pub(crate) const LEDGER: &str = "tutti.ledger.v1.LedgerService";
pub(crate) const ROUTER: &str = "tutti.router.v1.RouterService";

/// A program (with a subcommand, if it has one) that is to keep its data in this database.
pub(crate) fn on_postgres(program: &str, url: &str) -> ProcessBuilder {
    let mut words = program.split(' ');
    let builder = Process::binary(words.next().unwrap_or_default());
    let scratch = builder.scratch();
    scratch.write_config("config.toml", &format!("[storage]\nkind = \"postgres\"\nurl = \"{url}\"\n{NOBODY}"));
    let (config, data) = (scratch.config_dir(), scratch.data_dir());
    let builder = builder.args(words).arg("--config-dir").arg(config);
    if program.ends_with("migrate") { builder } else { builder.arg("--data-dir").arg(data) }
}

/// Runs `tutti migrate` to its end: whether it went well, and what it wrote to stdout and stderr.
pub(crate) async fn migrate(url: &str) -> (bool, String, String) {
    let mut process = on_postgres("tutti migrate", url).start();
    let status = process.wait(PATIENCE).await;
    (status.success(), process.stdout(), process.stderr())
}

/// A service that runs or waits, with a known port and probes.
pub(crate) struct Service {
    pub(crate) process: Process,
    pub(crate) channel: Channel,
    admin: String,
}

impl Service {
    pub(crate) async fn start(program: &str, url: &str) -> Self {
        // Known before it listens, for those who ask while it waits.
        let listen = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut process = on_postgres(program, url)
            .args(["--admin-listen", "127.0.0.1:0", "--listen"])
            .arg(listen.to_string())
            .start();
        let found = |line: &str| line.contains("metrics and probes").then(|| line.to_owned());
        let line = process.wait_for_stderr(PATIENCE, found).await;
        let admin = line.split("address=").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap().to_owned();
        Self { process, channel: Channel::connect(&format!("http://{listen}")).unwrap(), admin }
    }

    /// The health of a service, or of the process under the empty name.
    pub(crate) async fn health(&self, service: &str) -> Result<ServingStatus, Status> {
        let asked = HealthCheckRequest { service: service.to_owned() };
        Ok(HealthClient::new(self.channel.clone()).check(patient(asked)).await?.into_inner().status())
    }

    /// The status code and the body of a probe.
    pub(crate) async fn probe(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.admin).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", self.admin);
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// What a turn of this session, or of none, says.
    pub(crate) async fn chat(&self, session: &str) -> Result<String, (Code, Option<Reason>)> {
        self.turn(ChatRequest { session_id: session.into(), ..Default::default() }).await
    }

    /// What a turn with this idempotency key says.
    pub(crate) async fn keyed(&self, key: &str) -> Result<String, (Code, Option<Reason>)> {
        self.turn(ChatRequest { idempotency_key: key.into(), ..Default::default() }).await
    }

    async fn turn(&self, chat: ChatRequest) -> Result<String, (Code, Option<Reason>)> {
        let message = Message { role: Role::User.into(), text: "hello".into(), ..Default::default() };
        let chat = ChatRequest { messages: vec![message], ..chat };
        let answer = RouterServiceClient::new(self.channel.clone()).chat(patient(chat)).await;
        let text = |answer: Response<ChatResponse>| answer.into_inner().message.unwrap_or_default().text;
        answer.map(text).map_err(|status| (status.code(), reason_of(&status)))
    }

    /// The backends that the router knows.
    pub(crate) async fn backends(&self) -> Result<Vec<String>, Status> {
        let mut router = RouterServiceClient::new(self.channel.clone());
        let listed = router.list_backends(patient(ListBackendsRequest::default())).await?.into_inner();
        Ok(listed.backends.into_iter().filter(|backend| backend.usable).map(|backend| backend.name).collect())
    }

    /// What a question to the ledger's store says.
    pub(crate) async fn usage(&self) -> Result<(), (Code, Option<Reason>)> {
        let mut ledger = LedgerServiceClient::new(self.channel.clone());
        let answer = ledger.get_usage(patient(GetUsageRequest::default())).await;
        answer.map(drop).map_err(|status| (status.code(), reason_of(&status)))
    }
}

/// With a deadline, so that a test that hangs fails instead.
fn patient<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(PATIENCE);
    request
}
