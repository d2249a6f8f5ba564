//! The provider simulator as a process: prints its address as one line and serves until it
//! is told to end.

use std::error::Error;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tutti_config::check_bind;
use tutti_simulator::{Scenario, SimConfig, Simulator};

/// Scripted fake model providers over real HTTP.
#[derive(Debug, Parser)]
#[command(name = "provider-sim", version)]
struct Args {
    /// The address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Listen on an address that other machines can reach: they may use everything here.
    #[arg(long)]
    allow_insecure_bind: bool,
    /// A scenario file, TOML or JSON.
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// Remember request bodies and show them under /sim/requests.
    #[arg(long)]
    keep_bodies: bool,
}

/// Exit code of a process that can't start as it is configured (`EX_CONFIG`).
const EXIT_CONFIG: u8 = 78;

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let args = Args::parse();
    // Any key is good here, so callers are never authenticated.
    if check_bind(args.listen, false, args.allow_insecure_bind).is_err() {
        let listen = args.listen;
        writeln!(
            std::io::stderr(),
            "refusing to listen on {listen}: other machines could reach it; accept the risk with --allow-insecure-bind",
        )?;
        return Ok(ExitCode::from(EXIT_CONFIG));
    }
    let mut config = SimConfig::new().listen(args.listen);
    if let Some(path) = &args.scenario {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        config = config.scenario(Scenario::parse(&text)?);
    }
    if args.keep_bodies {
        config = config.keep_bodies();
    }
    let sim = Simulator::start(config).await?;
    writeln!(std::io::stdout(), "{}", sim.addr())?;
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminate.recv() => {}
    }
    sim.shutdown().await;
    Ok(ExitCode::SUCCESS)
}
