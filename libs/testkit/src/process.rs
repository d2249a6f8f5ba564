//! Real processes of a test: started from the build's own folder, watched, and ended with the test.

mod output;

use std::{
    ffi::{OsStr, OsString},
    fs,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};

use crate::{Scratch, wait_for, wait_for_blocking};
use output::Output;

/// Nothing of the developer's environment reaches a process, so that no key or setting of theirs changes a test.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// For the last lines of a process that has ended.
const LAST_LINES: Duration = Duration::from_secs(2);
/// For the end of a process that got SIGKILL.
const KILLED: Duration = Duration::from_secs(10);

/// A process to be started.
#[derive(Debug)]
pub struct ProcessBuilder {
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    scratch: Scratch,
}

impl ProcessBuilder {
    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable; there are none of this process's own.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// The folders the process will have, to write its configuration before it starts.
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// Gives it the folders of a process that has ended: to test a restart.
    #[must_use]
    pub fn with_scratch(mut self, scratch: Scratch) -> Self {
        self.scratch = scratch;
        self
    }

    /// Starts it in a process group and a working folder of its own, stdin empty.
    ///
    /// # Panics
    /// When the program is not there or can't be started.
    pub fn start(self) -> Process {
        let Self { program, args, env, scratch } = self;
        let mut command = Command::new(&program);
        command
            .args(args)
            .env_clear()
            .env("PATH", PATH)
            .env("HOME", scratch.home())
            .env("TMPDIR", scratch.temp())
            .envs(env)
            .current_dir(scratch.home())
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => panic!("can't start {}: {error}", program.display()),
        };
        let stdout = child.stdout.take().map(Output::of).unwrap_or_default();
        let stderr = child.stderr.take().map(Output::of).unwrap_or_default();
        Process { program, child, scratch: Some(scratch), stdout, stderr }
    }
}

/// A running process. Dropping it kills it with everything it started in its group; when the test is failing, what
/// the process wrote is shown.
#[derive(Debug)]
pub struct Process {
    program: PathBuf,
    child: Child,
    scratch: Option<Scratch>,
    stdout: Output,
    stderr: Output,
}

impl Process {
    /// A binary of this workspace, by the name of its target, from the same build as the running test.
    ///
    /// # Panics
    /// When it has not been built. `cargo test --workspace` builds it; a test run of one package may not.
    pub fn binary(name: &str) -> ProcessBuilder {
        let test = std::env::current_exe().expect("the path of the running test");
        Self::program(binary_beside(&test, name))
    }

    /// Any program, by its path.
    ///
    /// # Panics
    /// When no scratch folder can be made.
    pub fn program(path: impl Into<PathBuf>) -> ProcessBuilder {
        ProcessBuilder { program: path.into(), args: Vec::new(), env: Vec::new(), scratch: Scratch::new() }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its folders.
    ///
    /// # Panics
    /// Never: only [`Process::into_scratch`] takes them away.
    pub fn scratch(&self) -> &Scratch {
        self.scratch.as_ref().expect("the folders stay until the process is consumed")
    }

    /// What it has written to stdout so far, whole lines.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// What it has written to stderr so far, whole lines.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Waits for a line of stdout from which `find` reads something, and returns that. Lines seen by earlier waits are
    /// looked at again.
    ///
    /// # Panics
    /// When there is none within `deadline`, or the process ends before; with all that it wrote.
    pub async fn wait_for_stdout<T>(&mut self, deadline: Duration, find: impl Fn(&str) -> Option<T>) -> T {
        let stdout = self.stdout.clone();
        self.wait_for_output(deadline, &stdout, find).await
    }

    /// [`Process::wait_for_stdout`] for stderr, where the log goes.
    ///
    /// # Panics
    /// As there.
    pub async fn wait_for_stderr<T>(&mut self, deadline: Duration, find: impl Fn(&str) -> Option<T>) -> T {
        let stderr = self.stderr.clone();
        self.wait_for_output(deadline, &stderr, find).await
    }

    async fn wait_for_output<T>(&mut self, deadline: Duration, output: &Output, find: impl Fn(&str) -> Option<T>) -> T {
        let found = tokio::time::timeout(
            deadline,
            wait_for(Duration::MAX, || {
                // Before the lines are read: what was written last before the end still counts.
                let ended = self.child.try_wait().ok().flatten().is_some() && output.is_complete();
                std::future::ready(output.find(&find).map(Some).or(ended.then_some(None)))
            }),
        );
        match found.await {
            Ok(Some(value)) => value,
            Ok(None) => panic!("the process ended before the line came: {}", self.report()),
            Err(_) => panic!("no such line within {deadline:?}: {}", self.report()),
        }
    }

    /// Resident memory that is the process's own, in bytes: without the pages of its program and libraries, which are
    /// several times as many in a build without optimisation.
    ///
    /// # Panics
    /// When the process has ended.
    pub fn own_memory_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap_or_default();
        match own_kib(&status) {
            Some(kib) => kib * 1024,
            None => panic!("no memory to measure: {}", self.report()),
        }
    }

    /// Sends a signal to the process alone.
    ///
    /// # Panics
    /// When it has ended and been waited for.
    pub fn signal(&self, signal: Signal) {
        if let Err(error) = kill(pid_of(&self.child), signal) {
            panic!("can't send {signal}: {error}: {}", self.report());
        }
    }

    /// Asks it to end with SIGTERM and waits for that.
    ///
    /// # Panics
    /// When it is still there after `deadline`.
    pub async fn terminate(&mut self, deadline: Duration) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait(deadline).await
    }

    /// Kills it with SIGKILL, as a crash would, and waits until it is gone. What it started lives on until the drop.
    ///
    /// # Panics
    /// When it has already been waited for.
    pub fn kill(&mut self) -> ExitStatus {
        self.signal(Signal::SIGKILL);
        let child = &mut self.child;
        wait_for_blocking(KILLED, || child.try_wait().ok().flatten())
    }

    /// Waits for the end it comes to by itself.
    ///
    /// # Panics
    /// When it is still there after `deadline`.
    pub async fn wait(&mut self, deadline: Duration) -> ExitStatus {
        let ended = wait_for(Duration::MAX, || std::future::ready(self.child.try_wait().ok().flatten()));
        let Ok(status) = tokio::time::timeout(deadline, ended).await else {
            panic!("still running after {deadline:?}: {}", self.report())
        };
        // What it wrote last may still be on its way; whoever else holds the streams open isn't waited for long.
        let written =
            wait_for(Duration::MAX, || std::future::ready(self.stdout.is_complete() && self.stderr.is_complete()));
        let _ = tokio::time::timeout(LAST_LINES, written).await;
        status
    }

    /// Kills what is left of it and hands its folders on, to start it again with what it had stored.
    ///
    /// # Panics
    /// Never.
    pub fn into_scratch(mut self) -> Scratch {
        self.end();
        self.scratch.take().expect("the folders stay until the process is consumed")
    }

    /// The command, how it ended, and what it wrote.
    fn report(&self) -> String {
        let (out, err) = (self.stdout.text(), self.stderr.text());
        format!("{}\n--- stdout\n{out}--- stderr\n{err}---", self.program.display())
    }

    fn end(&mut self) {
        // The group outlives its leader: tools that a killed sandbox left behind go too. It is gone when all had ended.
        let _ = killpg(pid_of(&self.child), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            let status = self.child.try_wait().ok().flatten();
            let ended = match status.map(|status| (status.code(), status.signal())) {
                Some((Some(code), _)) => format!("exit code {code}"),
                Some((None, Some(signal))) => format!("signal {signal}"),
                _ => "no status".to_owned(),
            };
            #[allow(clippy::print_stderr, reason = "the failing test's output is where this belongs")]
            {
                eprintln!("{ended}: {}", self.report());
            }
        }
    }
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).expect("a process id"))
}

/// Tests run from `<profile>/deps/<name>-<hash>`; binaries are in `<profile>`.
fn binary_beside(test: &Path, name: &str) -> PathBuf {
    let path = test.parent().and_then(Path::parent).unwrap_or(test).join(name);
    assert!(path.is_file(), "{} is not built: run `cargo build --workspace` first", path.display());
    path
}

fn own_kib(status: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests;
