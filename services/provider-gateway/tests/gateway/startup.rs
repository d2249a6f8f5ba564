//! The real binary: how soon it serves.

use std::{
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use tutti_client::Channel;
use tutti_proto::gateway::v1::{CheckBackendsRequest, ListModelsRequest, gateway_service_client::GatewayServiceClient};

const BACKENDS: usize = 20;
/// From the start of the process to the first answer, with the whole catalogue and 20 backends.
const BUDGET: Duration = Duration::from_millis(300);
/// Other work on the machine only ever adds: the quickest of these is what the gateway takes.
const STARTS: usize = 5;

/// A gateway as a process, killed when dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The address in the line that says where it listens.
fn listening(line: &str) -> Option<String> {
    let at = line.contains("listening").then(|| line.find("127.0.0.1:"))??;
    // The log colours its field names.
    line[at..].split([' ', '\u{1b}']).next().map(str::to_owned)
}

/// Starts it and waits for its first answers: the time that took.
async fn start(home: &Path) -> Duration {
    let started = Instant::now();
    let child = Command::new(env!("CARGO_BIN_EXE_provider-gateway"))
        .env_clear()
        .current_dir(home)
        .args(["--listen", "127.0.0.1:0", "--config-dir"])
        .arg(home)
        .arg("--data-dir")
        .arg(home)
        .stderr(Stdio::piped())
        .spawn();
    let mut process = Process(child.unwrap());
    let (found, address) = mpsc::channel();
    let mut log = BufReader::new(process.0.stderr.take().unwrap()).lines().map_while(Result::ok);
    // Reads on to the end, as whoever collects the log of a process does.
    std::thread::spawn(move || log.by_ref().filter_map(|line| listening(&line)).for_each(|at| drop(found.send(at))));
    let address = address.recv().unwrap();
    let mut client = GatewayServiceClient::new(Channel::connect(&format!("http://{address}")).unwrap());
    let models = client.list_models(ListModelsRequest::default()).await.unwrap().into_inner();
    let backends = client.check_backends(CheckBackendsRequest::default()).await.unwrap().into_inner().backends;
    let took = started.elapsed();
    assert!(models.models.len() >= 60);
    assert!(backends.iter().filter(|backend| backend.name.starts_with("extra-")).count() == BACKENDS);
    took
}

#[tokio::test]
async fn it_serves_soon_with_the_whole_catalogue_and_twenty_backends() {
    let home = tempfile::tempdir().unwrap();
    let mut text = String::from("[mesh]\nledger = \"http://127.0.0.1:9\"\n");
    for number in 0..BACKENDS {
        let _ = writeln!(text, "[backends.extra-{number}]\nprovider = \"vllm\"\nmodel = \"m{number}\"");
        let _ = writeln!(text, "[models.\"vllm/m{number}\"]\ncontext_window = {}", number + 1);
    }
    fs::write(home.path().join("config.toml"), text).unwrap();
    let mut best = Duration::MAX;
    for _ in 0..STARTS {
        best = best.min(start(home.path()).await);
    }
    eprintln!("from the start of the process to its answers: {best:?}");
    assert!(best <= BUDGET, "{best:?}");
}
