//! The `router` process.

use std::process::ExitCode;

use router::{App, Config, Peers};
use tutti_client::Connector;
use tutti_proto::router::v1::{persona_service_server, router_service_server};
use tutti_server::process::{self, Program, Running};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const PROGRAM: Program = Program::door("router", &["gateway", "memory", "sandbox"])
    .serving(&[router_service_server::SERVICE_NAME, persona_service_server::SERVICE_NAME]);

fn main() -> ExitCode {
    process::run(PROGRAM, Config::read, async |context| {
        let connector = Connector::new(&context.mesh)?;
        let channel = |service| connector.connect(context.mesh.address(service));
        let peers = Peers { gateway: channel("gateway")?, memory: channel("memory")?, sandbox: channel("sandbox")? };
        let app = App::start(context.config, &context.server.data_dir, peers, &context.readiness).await?;
        Ok(Running::new(app.services(), async |grace| app.stop(grace).await))
    })
}
