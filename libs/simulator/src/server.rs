//! The listener, its connections, and the handle that tests hold.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::config::SimConfig;
use crate::record::{Recorder, RequestRecord, Stats};
use crate::scenario::{Scenario, Stage};
use crate::serve;
use crate::socket::{Ending, Socket};

/// How often a waiter looks again at figures that change without an event (tokens sent).
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// What was seen.
    pub(crate) recorder: Arc<Recorder>,
    /// The scenario in force.
    pub(crate) stage: Stage,
}

/// Starts simulators.
#[derive(Debug)]
pub struct Simulator(Infallible);

impl Simulator {
    /// Binds the address and serves until the handle is shut down or dropped. Ready on return.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn start(config: SimConfig) -> io::Result<SimHandle> {
        let listener = TcpListener::bind(config.listen).await?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared {
            recorder: Arc::new(Recorder::new(config.remember, config.keep_bodies)),
            stage: Stage::new(config.scenario),
        });
        let mut task = JoinSet::new();
        task.spawn(accept(listener, Arc::clone(&shared)));
        Ok(SimHandle { addr, shared, task })
    }
}

/// The condition did not come true in time.
#[derive(Debug, thiserror::Error)]
#[error("the simulator did not reach the state waited for within {waited:?}; it has {stats:?}")]
pub struct WaitTimeout {
    /// How long was waited.
    pub waited: Duration,
    /// The counters at the end.
    pub stats: Stats,
}

/// A running simulator. Dropping it ends it with all its connections.
pub struct SimHandle {
    addr: SocketAddr,
    shared: Arc<Shared>,
    /// The one task that accepts; dropping the set aborts it.
    task: JoinSet<()>,
}

impl fmt::Debug for SimHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimHandle").field("addr", &self.addr).finish_non_exhaustive()
    }
}

impl SimHandle {
    /// The address it listens on.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The base address, e.g. `http://127.0.0.1:4711`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.recorder.stats()
    }

    /// The remembered requests, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<RequestRecord> {
        self.shared.recorder.records()
    }

    /// The newest request with this attempt id.
    #[must_use]
    pub fn request(&self, attempt: &str) -> Option<RequestRecord> {
        self.shared.recorder.record(attempt)
    }

    /// Puts `scenario` in force for requests that come from now on.
    pub fn set_scenario(&self, scenario: Scenario) {
        self.shared.stage.set(scenario);
    }

    /// Forgets all requests and counts; the scenario stays, its counts start anew.
    pub fn reset(&self) {
        self.shared.recorder.reset();
        self.shared.stage.reset();
    }

    /// Waits until `condition` holds.
    ///
    /// # Errors
    /// [`WaitTimeout`] when it does not within `deadline`.
    pub async fn wait_for(&self, condition: impl Fn(&Self) -> bool, deadline: Duration) -> Result<(), WaitTimeout> {
        let until = Instant::now() + deadline;
        loop {
            let changed = self.shared.recorder.changed();
            if condition(self) {
                return Ok(());
            }
            if Instant::now() >= until {
                return Err(WaitTimeout { waited: deadline, stats: self.stats() });
            }
            // Either outcome means: look again.
            let _ = tokio::time::timeout(LOOK_AGAIN, changed).await;
        }
    }

    /// Runs until the simulator ends, which it does not by itself.
    pub async fn stopped(&mut self) {
        // It can only have been aborted.
        let _ = self.task.join_next().await;
    }

    /// Stops listening, ends all connections and waits until that is done.
    pub async fn shutdown(mut self) {
        self.task.shutdown().await;
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Owned here, so that all connections end with this task.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, Arc::clone(&shared)));
                }
                // Out of file descriptors, most likely: give running streams time to end.
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    let guard = shared.recorder.connection();
    let ending = Ending::default();
    if shared.stage.refuses_connections() {
        ending.reset();
        drop(Socket::new(stream, ending));
        return;
    }
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let socket = TokioIo::new(Socket::new(stream, ending.clone()));
    let number = guard.number;
    let service = service_fn(|request| serve::handle(Arc::clone(&shared), number, ending.clone(), request));
    let served =
        http1::Builder::new().timer(TokioTimer::new()).half_close(false).serve_connection(socket, service).await;
    if let Err(error) = served {
        tracing::debug!(%error, "connection ended");
    }
}
