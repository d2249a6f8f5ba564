//! All five services in one process: each talks to the others in process, through the same stack as over the network.

use std::{path::Path, time::Duration};

use tutti_client::Channel;
use tutti_config::Reader;
use tutti_error::Result;
use tutti_server::{Readiness, Services};
use tutti_types::Deadline;

/// What a service gets at least to end.
const LAST: Duration = Duration::from_secs(1);

/// The configuration of all five services.
#[derive(Debug)]
pub(crate) struct MeshConfig {
    pub(crate) router: router::Config,
    pub(crate) gateway: provider_gateway::Config,
    pub(crate) memory: context_memory::Config,
    pub(crate) sandbox: tool_sandbox::Config,
    pub(crate) ledger: usage_ledger::Config,
}

impl MeshConfig {
    /// Reads every service's sections.
    pub(crate) fn read(reader: &Reader) -> Self {
        Self {
            router: router::Config::read(reader),
            gateway: provider_gateway::Config::read(reader),
            memory: context_memory::Config::read(reader),
            sandbox: tool_sandbox::Config::read(reader),
            ledger: usage_ledger::Config::read(reader),
        }
    }
}

/// All five services, running.
#[derive(Debug)]
pub(crate) struct Mesh {
    router: router::App,
    gateway: provider_gateway::App,
    memory: context_memory::App,
    sandbox: tool_sandbox::App,
    ledger: usage_ledger::App,
}

impl Mesh {
    /// Starts them in the order of their calls: who is called comes first.
    pub(crate) async fn start(
        config: MeshConfig,
        data_dir: &Path,
        default_timeout: Duration,
        readiness: &Readiness,
    ) -> Result<Self> {
        let channel = |services: Services| Channel::in_process(services.stack(default_timeout));
        let ledger = usage_ledger::App::start(config.ledger, data_dir, readiness).await?;
        let gateway = provider_gateway::App::start(config.gateway, data_dir, channel(ledger.services())).await?;
        let memory = context_memory::App::start(config.memory, data_dir, readiness).await?;
        let sandbox = tool_sandbox::App::start(config.sandbox, data_dir, readiness).await?;
        let peers = router::Peers {
            gateway: channel(gateway.services()),
            memory: channel(memory.services()),
            sandbox: channel(sandbox.services()),
        };
        let router = router::App::start(config.router, data_dir, peers, readiness).await?;
        Ok(Self { router, gateway, memory, sandbox, ledger })
    }

    /// Everything that is served, on one port.
    pub(crate) fn services(&self) -> Services {
        self.router
            .services()
            .merge(self.gateway.services())
            .merge(self.memory.services())
            .merge(self.sandbox.services())
            .merge(self.ledger.services())
    }

    /// Ends them in the opposite order, so that nobody loses whom it calls: the ledger, which the gateway's last
    /// settlements go to, is the last.
    pub(crate) async fn stop(self, grace: Duration) {
        // One grace for all five, with enough left for each to close its store.
        let end = Deadline::after(grace);
        let left = || end.remaining().max(LAST);
        self.router.stop(left()).await;
        self.sandbox.stop(left()).await;
        self.memory.stop(left()).await;
        self.gateway.stop(left()).await;
        self.ledger.stop(left()).await;
    }
}
