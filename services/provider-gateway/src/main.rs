//! The provider gateway as a process of its own.

use tutti_client::Channel;
use tutti_server::process::{self, Context, Running};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The gateway's sections, and where the ledger is.
struct Config {
    gateway: provider_gateway::Config,
    ledger: String,
}

impl Config {
    fn read(reader: &tutti_config::Reader) -> Self {
        let mesh = reader.section("mesh");
        let ledger = mesh.required_string("ledger");
        // The other addresses of the same file are read by others.
        for other in ["router", "gateway", "memory", "sandbox"] {
            mesh.has(other);
        }
        mesh.finish();
        Self { gateway: provider_gateway::Config::read(reader), ledger }
    }
}

async fn start(context: Context<Config>) -> tutti_error::Result<Running> {
    // The one TLS provider of the process. Another that is there already would do as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let ledger = Channel::connect(&context.config.ledger)?;
    let app = provider_gateway::App::start(context.config.gateway, &context.server.data_dir, ledger).await?;
    Ok(Running::new(app.services(), async move |grace| app.stop(grace).await))
}

fn main() -> std::process::ExitCode {
    process::run("provider-gateway", Config::read, start)
}
