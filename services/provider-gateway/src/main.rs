//! The provider gateway as a process of its own.

use std::process::ExitCode;

use provider_gateway::{App, Config};
use tutti_client::Connector;
use tutti_server::process::{self, Program, Running};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    process::run(Program::peer("provider-gateway", &["ledger"]), Config::read, async |context| {
        // The one TLS provider of the process. Another that is there already would do as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let ledger = Connector::new(&context.mesh)?.connect(context.mesh.address("ledger"))?;
        let app = App::start(context.config, &context.server.data_dir, ledger).await?;
        Ok(Running::new(app.services(), async move |grace| app.stop(grace).await))
    })
}
