//! The `router` process.

use std::process::ExitCode;

use router::{App, Config, Peers};
use tutti_client::Connector;
use tutti_server::process::{self, Program, Running};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    process::run(Program::door("router", &["gateway", "memory", "sandbox"]), Config::read, async |context| {
        let connector = Connector::new(&context.mesh)?;
        let channel = |service| connector.connect(context.mesh.address(service));
        let peers = Peers { gateway: channel("gateway")?, memory: channel("memory")?, sandbox: channel("sandbox")? };
        let app = App::start(context.config, peers).await?;
        Ok(Running::new(app.services(), async |grace| app.stop(grace).await))
    })
}
