//! A Postgres of the tests' own.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::{
        fs::{PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use nix::unistd::Uid;
use tempfile::TempDir;
use tutti_config::Env;

use crate::{free_port, wait_for_blocking};

/// The variable that `tests/run` sets: a folder with `bin/initdb`, `bin/postgres` and `bin/psql`.
const VARIABLE: &str = "TUTTI_TEST_POSTGRES";
/// Whom Postgres runs as when the tests run as root: it refuses root. `nobody` on Debian.
const NOBODY: u32 = 65534;
/// For the start and the end of the server, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// The database's superuser; everybody on this machine is let in as it.
const USER: &str = "tutti";

/// Runs the server until it is told to end by a line with a signal, or until its starter is gone, however that came
/// about: then it takes the folder along.
const SUPERVISOR: &str = r#"
"$1/bin/postgres" -D "$2/data" -k "$2" -h 127.0.0.1 -p "$3" $4 >>"$2/log" 2>&1 </dev/null &
server=$!
if read -r signal; then
    kill -s "$signal" $server
    wait $server
else
    kill -s QUIT $server
    wait $server
    rm -rf "$2"
fi
"#;

/// A Postgres server with a folder and a port of its own. It ends, and its folder goes, when this is dropped or the
/// process ends in whatever way.
#[derive(Debug)]
pub struct TestPostgres {
    programs: PathBuf,
    folder: TempDir,
    port: u16,
    settings: &'static str,
    supervisor: Mutex<Option<Child>>,
}

impl TestPostgres {
    /// Starts a server that forgets what a crash of the machine would cost: fast, for the contracts of stores.
    ///
    /// # Panics
    /// When there is none to start (the message says how to get one) or it doesn't start.
    pub fn start() -> Self {
        Self::with("-c fsync=off -c synchronous_commit=off -c full_page_writes=off -c max_connections=200")
    }

    /// Starts a server whose commits are durable, as the one of a deployment: for end-to-end tests and measurements.
    ///
    /// # Panics
    /// As [`TestPostgres::start`].
    pub fn durable() -> Self {
        Self::with("-c synchronous_commit=on -c max_connections=200")
    }

    /// The one server, of the fast kind, that all tests of this process share: each takes a database of its own.
    ///
    /// # Panics
    /// As [`TestPostgres::start`].
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<TestPostgres> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    fn with(settings: &'static str) -> Self {
        let programs = programs();
        let folder = tempfile::Builder::new().prefix("tutti-postgres-").tempdir().expect("a folder for Postgres");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).expect("its mode");
        if Uid::effective().is_root() {
            chown(folder.path(), Some(NOBODY), Some(NOBODY)).expect("its owner");
        }
        let made = unprivileged(&programs.join("bin/initdb"))
            .args(["--no-sync", "--locale=C", "--encoding=UTF8", "--auth=trust", "--username", USER, "--pgdata"])
            .arg(folder.path().join("data"))
            .current_dir(folder.path())
            .output();
        match made {
            Ok(made) if made.status.success() => (),
            Ok(made) => panic!("initdb failed: {}", String::from_utf8_lossy(&made.stderr)),
            Err(error) => panic!("initdb can't be started: {error}"),
        }
        let server = Self { programs, folder, port: free_port(), settings, supervisor: Mutex::new(None) };
        server.start_again();
        server
    }

    /// Starts the server after [`TestPostgres::stop`], on the same port with the same data.
    ///
    /// # Panics
    /// When it doesn't start.
    pub fn start_again(&self) {
        let mut supervisor = self.supervisor.lock().unwrap_or_else(PoisonError::into_inner);
        let pid_file = self.folder.path().join("data/postmaster.pid");
        // Left behind by a server that was killed, it would look like one that is ready.
        let _ = fs::remove_file(&pid_file);
        let started = unprivileged(Path::new("/bin/sh"))
            .args(["-c", SUPERVISOR, "postgres"])
            .args([self.programs.as_os_str(), self.folder.path().as_os_str()])
            .args([self.port.to_string().as_str(), self.settings])
            .current_dir(self.folder.path())
            // Ctrl-C on the tests ends them, and thereby this in its own way.
            .process_group(0)
            .stdin(Stdio::piped())
            .spawn();
        *supervisor = Some(started.expect("a shell"));
        wait_for_blocking(PATIENCE, || match fs::read_to_string(&pid_file) {
            Ok(text) if text.contains("ready") => Ok(()),
            _ => Err(self.log()),
        });
    }

    /// Ends the server and leaves its data: connections break, and nobody listens on the port.
    ///
    /// # Panics
    /// When it doesn't end.
    pub fn stop(&self) {
        self.end("INT");
    }

    /// Ends the server as a crash would: what was committed and durable comes back.
    ///
    /// # Panics
    /// When it doesn't end.
    pub fn crash(&self) {
        self.end("QUIT");
    }

    fn end(&self, signal: &str) {
        let supervisor = self.supervisor.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut supervisor) = supervisor else { return };
        if let Some(mut stdin) = supervisor.stdin.take() {
            writeln!(stdin, "{signal}").expect("the supervisor reads");
        }
        wait_for_blocking(PATIENCE, || supervisor.try_wait().ok().flatten());
    }

    /// A new empty database: its address, for `[storage] url`.
    ///
    /// # Panics
    /// When it can't be made.
    pub fn database(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        self.url(&name)
    }

    /// The address of a database of this server.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/{database}", self.port)
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process id of what runs the server, unless it is stopped: the server and its connections are its descendants.
    pub fn id(&self) -> Option<u32> {
        self.supervisor.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(Child::id)
    }

    /// The folder that its data lies in.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs SQL behind everybody's back; what it answers, a line a row, fields separated by `|`.
    ///
    /// # Panics
    /// When it fails.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let output = Command::new(self.programs.join("bin/psql"))
            .env_clear()
            .args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1", "--command", sql])
            .arg(self.url(database))
            .output();
        match output {
            Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim_end().to_owned(),
            Ok(output) => panic!("{sql}: {}", String::from_utf8_lossy(&output.stderr)),
            Err(error) => panic!("psql can't be started: {error}"),
        }
    }

    /// What the server wrote to its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for TestPostgres {
    fn drop(&mut self) {
        self.end("QUIT");
    }
}

/// The folder with the programs.
fn programs() -> PathBuf {
    let env = Env::process();
    let folder = env.get(VARIABLE).map(PathBuf::from).unwrap_or_else(|| {
        panic!(
            "{VARIABLE} is not set: `tests/run` installs a Postgres for the tests and sets it to the folder with bin/"
        )
    });
    for name in ["initdb", "postgres", "psql"] {
        let program = folder.join("bin").join(name);
        assert!(File::open(&program).is_ok(), "{VARIABLE} names a folder without {}", program.display());
    }
    folder
}

/// A program that runs as an ordinary user, with nothing of the developer's environment.
fn unprivileged(program: &Path) -> Command {
    let mut command = if Uid::effective().is_root() {
        let mut command = Command::new("setpriv");
        let user = [format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")];
        command.args(user).arg("--clear-groups").arg("--").arg(program);
        command
    } else {
        Command::new(program)
    };
    command.env_clear().env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin").env("LC_ALL", "C").env("TZ", "UTC");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_databases_of_its_own_and_survives_a_stop() {
        let server = TestPostgres::durable();
        let (one, other) = (server.database(), server.database());
        assert_ne!(one, other);
        let name = one.rsplit('/').next().unwrap();
        server.sql(name, "CREATE TABLE t AS SELECT 7 AS x");
        assert_eq!(server.sql(name, "SHOW fsync"), "on");
        server.stop();
        assert!(std::net::TcpStream::connect(("127.0.0.1", server.port())).is_err());
        server.start_again();
        assert_eq!(server.sql(name, "SELECT x FROM t"), "7");
        server.crash();
        server.start_again();
        assert_eq!(server.sql(name, "SELECT x FROM t"), "7");
        let folder = server.folder.path().to_owned();
        drop(server);
        assert!(!folder.exists());
    }
}
