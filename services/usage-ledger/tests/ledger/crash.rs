//! The real binary, killed: what was answered is in the books.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tutti_client::Channel;
use tutti_proto::ledger::v1::{ListUsageRequest, UsageState, ledger_service_client::LedgerServiceClient};

use crate::support::{Client, reserve, settle};

/// The address in the line that says where it listens.
fn listening(line: &str) -> Option<String> {
    let at = line.contains("listening").then(|| line.find("127.0.0.1:"))??;
    // The log colours its field names.
    line[at..].split([' ', '\u{1b}']).next().map(str::to_owned)
}

/// A ledger as a process, killed when dropped.
struct Process {
    child: Child,
    client: Client,
}

impl Process {
    fn start(data: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_usage-ledger"))
            .env_clear()
            .current_dir(data)
            .args(["--listen", "127.0.0.1:0", "--data-dir"])
            .arg(data)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (found, address) = mpsc::channel();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        // Reads on to the end, as whoever collects the log of a process does.
        std::thread::spawn(move || {
            log.by_ref().filter_map(|line| listening(&line)).for_each(|at| drop(found.send(at)));
        });
        let address = address.recv().expect("it ended before it listened");
        let channel = Channel::connect(&format!("http://{address}")).unwrap();
        Self { child, client: LedgerServiceClient::new(channel) }
    }

    /// Sends the signal and waits for the end.
    fn end(mut self, signal: Signal) -> ExitStatus {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

// More than one thread, so that the client can hang up while this one waits for the process.
#[tokio::test(flavor = "multi_thread")]
async fn a_hold_survives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = Process::start(dir.path());
    let (running, done) = (reserve(), reserve());
    ledger.client.reserve(running.clone()).await.unwrap();
    ledger.client.reserve(done.clone()).await.unwrap();
    ledger.client.settle(settle(&done.attempt_id, 3)).await.unwrap();
    assert!(!ledger.end(Signal::SIGKILL).success());

    let mut ledger = Process::start(dir.path());
    let records = ledger.client.list_usage(ListUsageRequest::default()).await.unwrap().into_inner().records;
    let books: Vec<_> = records.iter().map(|r| (r.attempt_id.as_str(), r.state(), r.cost_nano_usd)).collect();
    let expected = [
        (done.attempt_id.as_str(), UsageState::Settled, 30_000),
        (running.attempt_id.as_str(), UsageState::Reserved, 0),
    ];
    assert_eq!(books, expected);
    let settled = ledger.client.settle(settle(&running.attempt_id, 1)).await.unwrap().into_inner();
    assert!(!settled.existing);
    assert!(ledger.end(Signal::SIGTERM).success(), "SIGTERM ends it in order");
}

#[tokio::test]
async fn a_second_process_is_kept_out_of_the_books() {
    let dir = tempfile::tempdir().unwrap();
    let _ledger = Process::start(dir.path());
    let second = Command::new(env!("CARGO_BIN_EXE_usage-ledger"))
        .env_clear()
        .current_dir(dir.path())
        .args(["--listen", "127.0.0.1:0", "--data-dir"])
        .arg(dir.path())
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.contains("in use by another process"), "{said}");
}

#[tokio::test]
async fn holds_that_expired_meanwhile_are_assumed_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut asked = reserve();
    // In the past: due as soon as somebody looks.
    asked.expires_at = Some(prost_types::Timestamp { seconds: 1, nanos: 0 });
    let mut ledger = Process::start(dir.path());
    ledger.client.reserve(asked).await.unwrap();
    ledger.end(Signal::SIGKILL);
    let mut ledger = Process::start(dir.path());
    let assumed = async {
        loop {
            let asked = ListUsageRequest::default();
            let mut records = ledger.client.list_usage(asked).await.unwrap().into_inner().records;
            let record = records.remove(0);
            if record.state() == UsageState::Assumed {
                return record.cost_nano_usd;
            }
        }
    };
    assert_eq!(tokio::time::timeout(Duration::from_secs(20), assumed).await, Ok(20_000_000));
}
