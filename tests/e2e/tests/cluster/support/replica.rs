//! One replica of one service: a process with folders and ports of its own, which it keeps when it is started again.

use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tutti_client::Channel;
use tutti_testkit::{Process, ProcessBuilder, Scratch, free_port, wait_for};

use super::{PATIENCE, get};

/// The services of the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    Router,
    Gateway,
    Memory,
    Sandbox,
    Ledger,
}

impl Service {
    pub(crate) const ALL: [Self; 5] = [Self::Router, Self::Gateway, Self::Memory, Self::Sandbox, Self::Ledger];

    /// Its binary, and the name under which it traces.
    pub(crate) fn binary(self) -> &'static str {
        match self {
            Self::Router => "router",
            Self::Gateway => "provider-gateway",
            Self::Memory => "context-memory",
            Self::Sandbox => "tool-sandbox",
            Self::Ledger => "usage-ledger",
        }
    }

    /// Its key in `[mesh]`.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Router => "router",
            Self::Gateway => "gateway",
            Self::Memory => "memory",
            Self::Sandbox => "sandbox",
            Self::Ledger => "ledger",
        }
    }

    /// Its main service, as its health names it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Router => "tutti.router.v1.RouterService",
            Self::Gateway => "tutti.gateway.v1.GatewayService",
            Self::Memory => "tutti.memory.v1.SessionService",
            Self::Sandbox => "tutti.sandbox.v1.ToolService",
            Self::Ledger => "tutti.ledger.v1.LedgerService",
        }
    }

    /// Whether it is not ready without Postgres. The router is: only calls with an idempotency key need it.
    pub(crate) fn needs_store(self) -> bool {
        matches!(self, Self::Memory | Self::Sandbox | Self::Ledger)
    }
}

/// One replica.
pub(crate) struct Replica {
    pub(crate) service: Service,
    port: u16,
    pub(crate) admin: u16,
    state: State,
}

enum State {
    Stopped(Scratch),
    Running(Process),
    /// Between the two.
    Changing,
}

impl Replica {
    pub(super) fn new(service: Service) -> Self {
        Self { service, port: free_port(), admin: free_port(), state: State::Stopped(Scratch::new()) }
    }

    /// Writes its configuration, before it is started.
    pub(super) fn configure(&self, config: &str, credentials: &str) {
        let State::Stopped(scratch) = &self.state else { panic!("{} runs", self.service.binary()) };
        scratch.write_config("config.toml", config);
        scratch.write_config("credentials.toml", credentials);
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Starts it, on the folders it had.
    pub(crate) fn start(&mut self) {
        let State::Stopped(scratch) = std::mem::replace(&mut self.state, State::Changing) else {
            panic!("{} runs", self.service.binary())
        };
        let (config, data) = (scratch.config_dir(), scratch.data_dir());
        let builder: ProcessBuilder = Process::binary(self.service.binary()).with_scratch(scratch);
        let builder = builder.args(["--listen", &format!("127.0.0.1:{}", self.port)]);
        let builder = builder.args(["--admin-listen", &format!("127.0.0.1:{}", self.admin)]);
        let builder = builder.arg("--config-dir").arg(config).arg("--data-dir").arg(data);
        self.state = State::Running(builder.start());
    }

    /// Ends it with SIGTERM: it ends by itself, and well.
    pub(crate) async fn terminate(&mut self) {
        let process = self.process();
        let status = process.terminate(PATIENCE).await;
        assert!(status.success(), "{status}: {}", process.stderr());
        self.stopped();
    }

    /// Ends it with SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.process().kill();
        self.stopped();
    }

    /// Waits until it takes calls.
    pub(crate) async fn until_ready(&self) {
        wait_for(PATIENCE, async || {
            let health = self.health().await;
            let (status, body) = get(self, "/readyz").await;
            let is_ready = (health, status) == (Some(ServingStatus::Serving), 200);
            is_ready.then_some(()).ok_or((self.service, health, status, body))
        })
        .await;
    }

    /// What its health says of its main service; nothing when it can't be asked.
    pub(crate) async fn health(&self) -> Option<ServingStatus> {
        let mut client = HealthClient::new(Channel::connect(&self.url()).unwrap());
        let request = HealthCheckRequest { service: self.service.name().to_owned() };
        client.check(request).await.ok().map(|answer| answer.into_inner().status())
    }

    fn process(&mut self) -> &mut Process {
        let State::Running(process) = &mut self.state else { panic!("{} does not run", self.service.binary()) };
        process
    }

    fn stopped(&mut self) {
        if let State::Running(process) = std::mem::replace(&mut self.state, State::Changing) {
            self.state = State::Stopped(process.into_scratch());
        }
    }
}
