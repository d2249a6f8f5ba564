//! The processes of a run of our own: the simulator, and `tutti up` with folders of its own.

use std::{
    fs::{self, File, Permissions},
    io::{self, BufRead as _, BufReader},
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Nothing of this user's environment reaches a process: no key, no setting.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// A process that ends in order has ended by then.
const END: Duration = Duration::from_secs(15);

/// A running process. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

impl Process {
    /// `provider-sim` on a free port.
    ///
    /// # Errors
    /// When it can't be started or doesn't say where it listens.
    pub(crate) fn simulator(program: &Path, folder: &Path) -> io::Result<Self> {
        Self::start(Command::new(program).args(["--listen", "127.0.0.1:0"]), "provider-sim", folder)
    }

    /// `tutti up` on a free port, whose only usable backend is OpenAI's format at `simulator`.
    ///
    /// # Errors
    /// As for [`Process::simulator`].
    pub(crate) fn tutti_up(program: &Path, folder: &Path, simulator: SocketAddr, model: &str) -> io::Result<Self> {
        let (config, data) = (folder.join("config"), folder.join("data"));
        fs::create_dir(&config)?;
        let backend = format!("[backends.openai]\nmodel = \"{model}\"\nbase_url = \"http://{simulator}/v1\"\n");
        fs::write(config.join("config.toml"), backend)?;
        let credentials = config.join("credentials.toml");
        fs::write(&credentials, "[openai]\napi_key = \"sk-load-0123456789\"\n")?;
        fs::set_permissions(&credentials, Permissions::from_mode(0o600))?;
        let mut command = Command::new(program);
        command.args(["up", "--listen", "127.0.0.1:0", "--config-dir"]).arg(config).arg("--data-dir").arg(data);
        Self::start(&mut command, "tutti", folder)
    }

    fn start(command: &mut Command, name: &str, folder: &Path) -> io::Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let mut child = command
            .env_clear()
            .env("PATH", PATH)
            .env("HOME", folder)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?)
            .spawn()
            .map_err(|error| io::Error::other(format!("{name}: {error}")))?;
        let lines = child.stdout.take().map(|stdout| BufReader::new(stdout).lines());
        let address = lines.into_iter().flatten().map_while(Result::ok).find_map(|line| address_in(&line));
        if let Some(address) = address {
            return Ok(Self { child, address });
        }
        let (_, _) = (child.kill(), child.wait());
        let said = fs::read_to_string(log).unwrap_or_default();
        Err(io::Error::other(format!("{name} did not say where it listens: {said}")))
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let asked = i32::try_from(self.child.id()).is_ok_and(|id| kill(Pid::from_raw(id), Signal::SIGTERM).is_ok());
        let ended = asked && ends_within(&mut self.child, END);
        if !ended {
            let (_, _) = (self.child.kill(), self.child.wait());
        }
    }
}

fn ends_within(child: &mut Child, time: Duration) -> bool {
    let until = std::time::Instant::now() + time;
    while std::time::Instant::now() < until {
        if !matches!(child.try_wait(), Ok(None)) {
            return true;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    false
}

/// The first loopback address in a line.
fn address_in(line: &str) -> Option<SocketAddr> {
    let at = line.find("127.0.0.1:")?;
    line[at..].split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_in_what_servers_say() {
        let expected = "127.0.0.1:7070".parse().unwrap();
        assert_eq!(address_in("tutti is ready at http://127.0.0.1:7070"), Some(expected));
        assert_eq!(address_in("127.0.0.1:7070"), Some(expected));
        assert_eq!(address_in("  services  tutti.router.v1"), None);
    }

    #[test]
    fn a_program_that_says_nothing_is_an_error_with_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("/bin/sh");
        let failed = Process::start(command.args(["-c", "echo no port left >&2"]), "sh", folder.path());
        assert!(failed.unwrap_err().to_string().contains("no port left"));
    }
}
