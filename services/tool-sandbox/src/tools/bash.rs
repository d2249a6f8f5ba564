//! `bash`: a command of the shell, with its whole tree of processes.

use std::{process::Stdio, time::Duration};

use async_trait::async_trait;
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::{Child, ChildStderr, ChildStdout, Command},
    time::timeout,
};

use super::{Context, NO_ISOLATION, Stop, Tool, blocking, capture::Capture, process, process::Tree, text};
use crate::{
    domain::{Category, Definition, Failure, Outcome, Stream, Subject},
    workspace::{Folder, Workspace},
};

/// How much is read at once.
const READ_BYTES: usize = 16 * 1024;
/// How long what is left in the pipes is waited for once everything has been killed. Never for their end: a process
/// that got away could hold them open for ever.
const DRAIN: Duration = Duration::from_millis(200);
/// How long the kernel may take to end a killed program.
const REAP: Duration = Duration::from_secs(5);
/// Where programs are looked for: not what this process happens to have.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// A program's exit status when it was killed.
const KILLED: i32 = -1;

/// Runs a command.
#[derive(Debug)]
pub(super) struct Bash;

#[async_trait]
impl Tool for Bash {
    fn definition(&self) -> Definition {
        Definition {
            name: "bash",
            aliases: &["run_shell_command"],
            description: "Runs a bash command in the workspace and returns what it writes. Nothing can be typed in, and \
                          whatever it starts ends with it. Isolation: none.",
            parameters: json!({
                "type": "object",
                "properties": {
                    "command": {
                        "type": "string", "minLength": 1, "maxLength": 30_000,
                        "description": "The command, for instance: cargo test 2>&1 | tail -n 50",
                    },
                    "working_dir": {
                        "type": "string", "maxLength": 4096,
                        "description": "The folder to start in, relative to the workspace's root; the root when left out",
                    },
                },
                "required": ["command"],
                "additionalProperties": false,
            }),
            category: Category::Execute,
            subject: Subject::Command("command"),
            isolation: NO_ISOLATION,
        }
    }

    async fn run(&self, arguments: &Value, context: Context) -> Outcome {
        let command = text(arguments, "command").unwrap_or_default();
        let folder = text(arguments, "working_dir").unwrap_or(".").to_owned();
        let workspace = context.workspace.clone();
        let running = match blocking(&context.stop, move |_| workspace.folder(&folder)).await {
            Ok(folder) => Running::start(command, &folder, &context.workspace),
            Err(failure) => Err(failure),
        };
        match running {
            Ok(running) => running.finish(Capture::new(context.output, context.max_output), &context.stop).await,
            Err(failure) => failure.into(),
        }
    }
}

/// Closes what this process inherited from whoever started it and never marked as its own, then becomes the command.
const ALONE: &str = r#"for fd in /proc/self/fd/*; do fd=${fd##*/}; ((fd > 2)) && exec {fd}>&-; done
exec bash --noprofile --norc -c "$1""#;

/// A started command.
struct Running {
    child: Child,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    tree: Tree,
}

impl Running {
    fn start(command: &str, folder: &Folder, workspace: &Workspace) -> Result<Self, Failure> {
        let (variable, marker) = process::marker();
        let mut child = Command::new("bash")
            .args(["--noprofile", "--norc", "-c", ALONE, "bash", command])
            .current_dir(folder.start_path())
            .env_clear()
            .env(variable, &marker)
            .env("PATH", PATH)
            .env("HOME", workspace.path())
            .env("LANG", "C.UTF-8")
            .env("TERM", "dumb")
            .env("TMPDIR", "/tmp")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            // The last resort, for a runtime that is torn down in the middle.
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| Failure::failed(format!("bash can't be started: {error}")))?;
        let leader = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        let leader = leader.ok_or_else(|| Failure::failed("bash ended before it began"))?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        Ok(Self { child, stdout, stderr, tree: Tree::new(leader, &marker) })
    }

    /// Runs until the command ends or must end; then ends everything that came from it.
    async fn finish(mut self, mut capture: Capture, stop: &Stop) -> Outcome {
        let ended = self.pump(&mut capture, stop).await;
        let mut failure = ended.err();
        let all_gone = self.tree.kill().await;
        let drained = self.drain(&mut capture, stop, failure.is_none()).await;
        let status = timeout(REAP, self.child.wait()).await.ok().and_then(Result::ok);
        let code = status.and_then(|status| status.code()).unwrap_or(KILLED);
        // Output that came after a kill adds no failure of its own.
        failure = failure.or(drained.err());
        if failure.is_none() && code != 0 {
            let how =
                if code == KILLED { "it was killed by a signal".to_owned() } else { format!("exit status {code}") };
            failure = Some(Failure::failed(format!("the command failed: {how}")));
        }
        if !all_gone && let Some(failure) = &mut failure {
            failure.message.push_str("; some of its processes could not be killed");
        }
        capture.into_outcome(Some(code), failure)
    }

    /// Hands on output until the command itself has ended.
    async fn pump(&mut self, capture: &mut Capture, stop: &Stop) -> Result<(), Failure> {
        let tree = self.tree.clone();
        let ended = tree.leader_ended();
        let stopped = stop.wait();
        tokio::pin!(ended, stopped);
        let mut out = vec![0; READ_BYTES];
        let mut err = vec![0; READ_BYTES];
        loop {
            let (stream, read) = tokio::select! {
                failure = &mut stopped => return Err(failure),
                () = &mut ended => return Ok(()),
                read = read(&mut self.stdout, &mut out) => (Stream::Stdout, read),
                read = read(&mut self.stderr, &mut err) => (Stream::Stderr, read),
            };
            let bytes = if stream == Stream::Stdout { &out } else { &err };
            capture.take(stream, &bytes[..read], stop).await?;
        }
    }

    /// Takes what the pipes still hold. The caller is only told of it (`deliver`) when it still listens.
    async fn drain(&mut self, capture: &mut Capture, stop: &Stop, deliver: bool) -> Result<(), Failure> {
        let mut rest = [Vec::new(), Vec::new()];
        let [out, err] = &mut rest;
        let both = async { tokio::join!(read_rest(&mut self.stdout, out), read_rest(&mut self.stderr, err)) };
        // When the time is over, what was read counts.
        let _ = timeout(DRAIN, both).await;
        let mut result = Ok(());
        for (stream, bytes) in [Stream::Stdout, Stream::Stderr].into_iter().zip(&rest) {
            for piece in bytes.chunks(READ_BYTES) {
                if deliver && result.is_ok() {
                    result = capture.take(stream, piece, stop).await;
                } else {
                    capture.keep(stream, piece);
                }
            }
        }
        if deliver && result.is_ok() {
            capture.close(stop).await;
        }
        result
    }
}

/// Reads once; never returns for a pipe that is closed.
async fn read(pipe: &mut Option<impl AsyncRead + Unpin>, buffer: &mut [u8]) -> usize {
    if let Some(open) = pipe {
        match open.read(buffer).await {
            Ok(read) if read > 0 => return read,
            _ => *pipe = None,
        }
    }
    std::future::pending().await
}

/// The most that a pipe can hold, with room.
const MAX_REST: u64 = 2 * 1024 * 1024;

async fn read_rest(pipe: &mut Option<impl AsyncRead + Unpin>, rest: &mut Vec<u8>) {
    if let Some(open) = pipe {
        // An error ends the output like its end does.
        let _ = open.take(MAX_REST).read_to_end(rest).await;
    }
}
