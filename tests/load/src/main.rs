//! The load gates: how fast the mesh is and what it uses, beside the direct path to the same simulator in the same run.

mod cluster;
mod disk;
mod drive;
mod fill;
mod gate;
mod growth;
mod grpc;
mod http;
mod measure;
mod plan;
mod processes;
mod quantile;
mod report;
mod target;
mod usage;

use std::{
    error::Error,
    fs, io,
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use clap::{Parser, Subcommand};
use serde::Serialize;

use crate::{
    cluster::Cluster,
    gate::{Profile, paths},
    measure::Processes,
    plan::{CONNECTIONS, Effort, MODEL, Subject},
    processes::Process,
    report::Report,
    target::Target,
    usage::Group,
};

/// Measures the mesh and judges it by the gates; exits with 1 when a measured gate is broken
#[derive(Debug, Parser)]
#[command(name = "load", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    effort: Effort,
    /// Also write everything as JSON
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a simulator and `tutti up` with folders of their own, and measure that
    Up(Up),
    /// Start the same, and compare what calls cost with few and with many sessions and usage rows; rounds are its own
    Growth(Up),
    /// Start a simulator, Postgres, Redis and one replica of each service, and measure that
    Cluster(OfFolder),
    /// Measure a mesh that runs, whose only backend is a simulator that runs
    Running(Running),
}

#[derive(Debug, clap::Args)]
struct Up {
    /// The `tutti` binary, a release build
    #[arg(long, value_name = "FILE")]
    tutti: PathBuf,
    /// The `provider-sim` binary, a release build
    #[arg(long, value_name = "FILE")]
    simulator: PathBuf,
}

#[derive(Debug, clap::Args)]
struct OfFolder {
    /// The folder with `tutti` and the five services, release builds
    #[arg(long, value_name = "FOLDER")]
    binaries: PathBuf,
    /// The `provider-sim` binary, a release build
    #[arg(long, value_name = "FILE")]
    simulator: PathBuf,
}

#[derive(Debug, clap::Args)]
struct Running {
    /// Which column of the gates holds
    #[arg(long, value_enum)]
    profile: Profile,
    /// The router: `http://host:port`
    #[arg(long, value_name = "URL")]
    grpc: String,
    /// The router's OpenAI door
    #[arg(long, value_name = "ADDRESS")]
    door: Option<SocketAddr>,
    /// The simulator behind the mesh
    #[arg(long, value_name = "ADDRESS")]
    simulator: SocketAddr,
    /// Process id of the simulator
    #[arg(long, value_name = "PID")]
    simulator_pid: u32,
    /// Process ids of the mesh
    #[arg(long, required = true, value_delimiter = ',', value_name = "PID")]
    pids: Vec<u32>,
    /// Process ids of its databases and caches, shown beside
    #[arg(long, value_delimiter = ',', value_name = "PID")]
    beside: Vec<u32>,
    /// A folder on the disk that makes its writes durable
    #[arg(long, value_name = "FOLDER")]
    disk: PathBuf,
    /// The backend to name in calls; the router chooses when there is none
    #[arg(long, default_value = "")]
    backend: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match judged(&arguments).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Nobody is left to be told when standard error is closed.
            let _ = writeln!(io::stderr(), "load: {error}");
            ExitCode::from(2)
        }
    }
}

/// Measures, and says what came of it; whether no gate is broken.
async fn judged(arguments: &Arguments) -> Result<bool, Box<dyn Error>> {
    let json = arguments.json.as_deref();
    let report = match &arguments.command {
        Command::Up(up) => measure_up(up, &arguments.effort).await?,
        Command::Growth(up) => {
            let growth = growth::run(up).await?;
            told(&growth, &growth.tables(), json)?;
            return Ok(!growth.failed());
        }
        Command::Cluster(of) => measure_cluster(of, &arguments.effort).await?,
        Command::Running(running) => measure_running(running, &arguments.effort).await?,
    };
    told(&report, &report.tables(), json)?;
    Ok(!report.failed())
}

async fn measure_up(up: &Up, effort: &Effort) -> Result<Report, Box<dyn Error>> {
    let folder = tempfile::Builder::new().prefix("tutti-load-").tempdir()?;
    let (program, simulator) = (fs::canonicalize(&up.tutti)?, fs::canonicalize(&up.simulator)?);
    let simulator = Process::simulator(&simulator, folder.path())?;
    let mesh = Process::tutti_up(&program, folder.path(), simulator.address, MODEL)?;
    let running = Running {
        profile: Profile::Up,
        grpc: format!("http://{}", mesh.address),
        door: Some(mesh.address),
        simulator: simulator.address,
        simulator_pid: simulator.id(),
        pids: vec![mesh.id()],
        beside: Vec::new(),
        disk: folder.path().to_owned(),
        backend: String::new(),
    };
    measure_running(&running, effort).await
}

async fn measure_cluster(of: &OfFolder, effort: &Effort) -> Result<Report, Box<dyn Error>> {
    let folder = tempfile::Builder::new().prefix("tutti-load-").tempdir()?;
    let (binaries, simulator) = (fs::canonicalize(&of.binaries)?, fs::canonicalize(&of.simulator)?);
    let simulator = Process::simulator(&simulator, folder.path())?;
    let cluster = Cluster::start(&binaries, simulator.address).await?;
    let running = Running {
        profile: Profile::Cluster,
        grpc: format!("http://{}", cluster.grpc),
        door: Some(cluster.door),
        simulator: simulator.address,
        simulator_pid: simulator.id(),
        pids: cluster.ids(),
        beside: cluster.beside(),
        disk: cluster.disk(),
        backend: String::new(),
    };
    measure_running(&running, effort).await
}

async fn measure_running(running: &Running, effort: &Effort) -> Result<Report, Box<dyn Error>> {
    let subject = Subject { profile: running.profile, paths: targets(running).await?, processes: processes(running)? };
    Ok(plan::run(&subject, effort, &running.disk).await?)
}

async fn targets(running: &Running) -> Result<Vec<(&'static str, Arc<Target>)>, Box<dyn Error>> {
    let direct = http::Client::new(running.simulator, MODEL);
    let mesh = grpc::Client::connect(&running.grpc, CONNECTIONS, &running.backend).await?;
    let mut targets = vec![(paths::DIRECT, Target::Http(direct)), (paths::MESH, Target::Grpc(mesh))];
    if let Some(address) = running.door {
        // The door takes a backend's name or `auto` for a model.
        let backend = if running.backend.is_empty() { "auto" } else { &running.backend };
        let door = http::Client::new(address, backend);
        if door.is_there().await {
            targets.push((paths::DOOR, Target::Http(door)));
        }
    }
    Ok(targets.into_iter().map(|(path, target)| (path, Arc::new(target))).collect())
}

fn processes(running: &Running) -> Result<Processes, Box<dyn Error>> {
    let ours = Group::with_descendants(running.pids.clone());
    let beside = Group::with_descendants(running.beside.clone());
    // In a run of its own the generator is the parent of the mesh.
    let tools = Group::alone([running.simulator_pid, std::process::id()]);
    if let Some(pid) = [&ours, &beside, &tools].into_iter().find_map(Group::missing) {
        return Err(format!("there is no process {pid}").into());
    }
    Ok(Processes { ours, beside, tools })
}

/// Prints the tables and writes the report.
fn told(report: &impl Serialize, tables: &str, json: Option<&Path>) -> Result<(), Box<dyn Error>> {
    io::stdout().write_all(tables.as_bytes())?;
    if let Some(path) = json {
        fs::write(path, serde_json::to_vec_pretty(report)?)?;
    }
    Ok(())
}
