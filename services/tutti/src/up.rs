//! `tutti up`: all five services on one port, with the backends that can be used here, else the simulator.

use std::{io::Write as _, net::SocketAddr, process::ExitCode, time::Duration};

use tokio::net::TcpStream;
use tutti_config::{BackendConfig, BackendsConfig, Env, ProviderKind, write_starter_files};
use tutti_error::{Error, Result};
use tutti_proto::{
    gateway::v1::gateway_service_server,
    ledger::v1::ledger_service_server,
    memory::v1::session_service_server,
    router::v1::{persona_service_server, router_service_server},
    sandbox::v1::{audit_service_server, tool_service_server},
};
use tutti_server::process::{self, Args, Context, EXIT_CONFIG, Program, Running};
use tutti_simulator::{SimConfig, SimHandle, Simulator};

use crate::{
    mesh::{Mesh, MeshConfig},
    summary::{self, Places},
};

/// Where Ollama listens unless it is told otherwise.
const OLLAMA: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 11434);
/// A local program that runs answers within this.
const OLLAMA_PATIENCE: Duration = Duration::from_millis(100);
/// The backend that stands in when there is no other.
const SIMULATOR: &str = "simulator";
/// What the simulator calls its usual model.
const SIMULATED_MODEL: &str = "sim-echo";

/// Everything that the mesh serves, for those who ask while it waits for its store.
const PROGRAM: Program = Program::whole("tutti").serving(&[
    router_service_server::SERVICE_NAME,
    persona_service_server::SERVICE_NAME,
    gateway_service_server::SERVICE_NAME,
    session_service_server::SERVICE_NAME,
    tool_service_server::SERVICE_NAME,
    audit_service_server::SERVICE_NAME,
    ledger_service_server::SERVICE_NAME,
]);

/// Runs until a signal ends it.
pub(crate) fn run(args: &Args) -> ExitCode {
    if let Err(problem) = first_run(args) {
        // Nobody is left to be told when standard error is closed.
        let _ = writeln!(std::io::stderr(), "{problem}");
        return ExitCode::from(EXIT_CONFIG);
    }
    process::run_with(args, PROGRAM, MeshConfig::read, start)
}

/// Makes the configuration folder with its commented starter files, when there is none.
fn first_run(args: &Args) -> Result<(), String> {
    let env = Env::process();
    let Some(dir) = args.config_dir.clone().or_else(|| env.config_dir()) else { return Ok(()) };
    if dir.exists() {
        return Ok(());
    }
    write_starter_files(&dir)
        .map(drop)
        .map_err(|error| format!("can't write the starter files to {}: {error}", dir.display()))
}

async fn start(context: Context<MeshConfig>) -> Result<Running> {
    // One TLS provider a process, chosen by its main. An error says that there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let Context { mut config, server, address, readiness, .. } = context;
    let simulator = choose_backends(&mut config.gateway).await?;
    let mesh = Mesh::start(config, &server.data_dir, server.request_timeout, &readiness).await?;
    let http = server.http_listen.unwrap_or(address);
    let places = Places { grpc: address, http, tls: server.tls.is_some() };
    summary::print(&mesh, &places, &server.data_dir).await?;
    let services = mesh.services();
    Ok(Running::new(services, async move |grace| {
        mesh.stop(grace).await;
        if let Some(simulator) = simulator {
            simulator.shutdown().await;
        }
    }))
}

/// Leaves out a default Ollama that does not run, and puts the simulator in when nothing else is usable.
async fn choose_backends(gateway: &mut provider_gateway::Config) -> Result<Option<SimHandle>> {
    let ollama_runs = matches!(tokio::time::timeout(OLLAMA_PATIENCE, TcpStream::connect(OLLAMA)).await, Ok(Ok(_)));
    let is_absent = |b: &BackendConfig| b.provider == ProviderKind::Ollama && b.base_url.is_none() && !ollama_runs;
    let mut backends: Vec<BackendConfig> = gateway.backends.iter().filter(|b| !is_absent(b)).cloned().collect();
    let usable = |b: &BackendConfig| {
        let simulated = b.provider == ProviderKind::Simulator && b.base_url.is_none();
        !simulated && (b.is_local() || gateway.credentials.for_backend(b).is_some())
    };
    let mut running = None;
    if !backends.iter().any(usable) || backends.iter().any(|b| b.provider == ProviderKind::Simulator) {
        let handle =
            Simulator::start(SimConfig::new()).await.map_err(|e| Error::internal(format!("simulator: {e}")))?;
        add_simulator(&mut backends, &format!("{}/v1", handle.url()));
        running = Some(handle);
    }
    gateway.backends = backends.into_iter().collect::<BackendsConfig>();
    Ok(running)
}

/// Gives the address to the simulator backends of the configuration, or makes one.
fn add_simulator(backends: &mut Vec<BackendConfig>, url: &str) {
    if !backends.iter().any(|b| b.provider == ProviderKind::Simulator) {
        backends.push(BackendConfig::new(SIMULATOR, ProviderKind::Simulator, SIMULATED_MODEL));
    }
    for backend in backends.iter_mut().filter(|b| b.provider == ProviderKind::Simulator) {
        backend.base_url.get_or_insert_with(|| url.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simulator_backends_of_the_configuration_get_the_address_and_others_keep_theirs() {
        let mut elsewhere = BackendConfig::new("far", ProviderKind::Simulator, "sim-echo");
        elsewhere.base_url = Some("http://127.0.0.1:9/v1".into());
        let mut backends = vec![elsewhere, BackendConfig::new("near", ProviderKind::Simulator, "sim-echo")];
        add_simulator(&mut backends, "http://127.0.0.1:1/v1");
        let urls: Vec<_> = backends.iter().map(|b| b.base_url.as_deref().unwrap()).collect();
        assert_eq!(urls, ["http://127.0.0.1:9/v1", "http://127.0.0.1:1/v1"]);

        let mut none = vec![BackendConfig::new("claude", ProviderKind::Anthropic, "claude-sonnet-5-5")];
        add_simulator(&mut none, "http://127.0.0.1:1/v1");
        assert_eq!((none.len(), none[1].name.as_str()), (2, "simulator"));
        assert_eq!(none[0].base_url, None);
    }
}
