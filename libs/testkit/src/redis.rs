//! A real Redis of a test.

use std::{path::PathBuf, time::Duration};

use nix::sys::signal::Signal;
use tutti_config::Env;

use crate::{Process, free_port};

const SOON: Duration = Duration::from_secs(20);

/// A Redis with a port of its own, which keeps nothing on disk: a restart finds it empty. Ended when dropped.
#[derive(Debug)]
pub struct TestRedis {
    port: u16,
    process: Option<Process>,
}

impl TestRedis {
    /// Starts `redis-server`, whose path the variable `TUTTI_TEST_REDIS` holds, on a free loopback port, and waits until
    /// it takes connections.
    ///
    /// # Panics
    /// When the variable isn't set: `tests/run` sets it. When Redis does not start.
    pub async fn start() -> Self {
        let port = free_port();
        Self { port, process: Some(running(port).await) }
    }

    /// Its port on 127.0.0.1; the same after a restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its URL, of database 0.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Its process id, unless it is stopped.
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// Ends it as a crash would; connections to it are refused from then on.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Starts it again, empty, on the same port.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn restart(&mut self) {
        self.stop();
        self.process = Some(running(self.port).await);
    }

    /// Freezes it (SIGSTOP): connections stay open, and new ones are taken by the kernel, but nothing is answered.
    ///
    /// # Panics
    /// When it is stopped.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets it go on after [`TestRedis::freeze`].
    ///
    /// # Panics
    /// When it is stopped.
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        self.process.as_ref().expect("Redis is stopped").signal(signal);
    }
}

async fn running(port: u16) -> Process {
    let port = port.to_string();
    let options = ["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--daemonize", "no"];
    let mut process = Process::program(program()).args(options).start();
    let ready = |line: &str| line.contains("Ready to accept connections").then_some(());
    process.wait_for_stdout(SOON, ready).await;
    process
}

fn program() -> PathBuf {
    match Env::process().get("TUTTI_TEST_REDIS") {
        Some(path) => path.into(),
        None => panic!("TUTTI_TEST_REDIS, the path of redis-server, is not set: run the tests with tests/run"),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpStream,
    };

    use super::*;

    /// The answer to one PING, or nothing.
    fn ping(redis: &TestRedis, patience: Duration) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", redis.port())).ok()?;
        stream.set_read_timeout(Some(patience)).unwrap();
        stream.write_all(b"PING\r\n").ok()?;
        let mut answer = [0; 7];
        stream.read_exact(&mut answer).ok()?;
        Some(String::from_utf8_lossy(&answer).trim().to_owned())
    }

    #[tokio::test]
    async fn it_answers_freezes_stops_and_starts_again() {
        let mut redis = TestRedis::start().await;
        assert!(redis.port() < 32_768 && redis.url().contains(&redis.port().to_string()));
        assert_eq!(ping(&redis, SOON).as_deref(), Some("+PONG"));
        redis.freeze();
        assert_eq!(ping(&redis, Duration::from_millis(30)), None);
        redis.thaw();
        assert_eq!(ping(&redis, SOON).as_deref(), Some("+PONG"));
        redis.stop();
        assert!(TcpStream::connect(("127.0.0.1", redis.port())).is_err());
        redis.restart().await;
        assert_eq!(ping(&redis, SOON).as_deref(), Some("+PONG"));
    }
}
