//! Whether the database is there: waited for at the start, looked at from then on.

use std::{io, time::Duration};

use sqlx::{Connection as _, PgConnection, postgres::PgConnectOptions};
use tokio::{
    sync::watch,
    task::{AbortHandle, JoinSet},
};
use tutti_error::{Error, Reason, Result};
use tutti_telemetry::Readiness;

use crate::postgres::place;

/// Pauses between two attempts to reach the database: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// One attempt to reach it.
const CONNECT: Duration = Duration::from_secs(5);
/// How often the log says that it is still away, in attempts.
const SAY_EVERY: u32 = 10;
/// How often it is looked at while we run, and how long that look may take.
const EVERY: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(2);

/// One connection of our own that asks nothing of the database but to be there: those of the pool may all be busy.
#[derive(Debug)]
pub(crate) struct Look {
    options: PgConnectOptions,
    connection: Option<PgConnection>,
    /// What `readiness` calls the database.
    name: String,
    readiness: Readiness,
    /// Why it is away, if it is.
    away: watch::Sender<Option<String>>,
}

impl Look {
    pub(crate) fn new(options: PgConnectOptions, name: String, readiness: Readiness) -> Self {
        Self { options, connection: None, name, readiness, away: watch::Sender::default() }
    }

    /// Connects as soon as the database lets us in.
    ///
    /// # Errors
    /// STORE_UNAVAILABLE when waiting doesn't help.
    pub(crate) async fn wait(&mut self) -> Result<&mut PgConnection> {
        let (mut pause, longest) = PAUSES;
        let mut attempt = 0_u32;
        let connection = loop {
            match self.connect(CONNECT).await {
                Ok(connection) => break connection,
                Err(refusal) if !refusal.is_away => return Err(Error::new(Reason::StoreUnavailable, refusal.why)),
                Err(refusal) => {
                    self.readiness.lost(&self.name, format_args!("{}; waiting for it", refusal.why));
                    attempt += 1;
                    if attempt.is_multiple_of(SAY_EVERY) {
                        tracing::warn!(attempt, "still waiting: {}", refusal.why);
                    }
                }
            }
            tokio::time::sleep(pause).await;
            pause = longest.min(pause * 2);
        };
        self.readiness.restored(&self.name);
        Ok(self.connection.insert(connection))
    }

    /// Looks at the database again and again.
    async fn keep_looking(mut self) {
        let (mut pause, longest) = (EVERY, PAUSES.1);
        loop {
            tokio::time::sleep(pause).await;
            match self.is_there().await {
                Ok(()) => {
                    self.away.send_if_modified(|away| away.take().is_some());
                    self.readiness.restored(&self.name);
                    pause = EVERY;
                }
                Err(why) => {
                    // Soon again at first, since a restart takes less than a second.
                    pause = if self.away.borrow().is_none() { PAUSES.0 } else { longest.min(pause * 2) };
                    self.away.send_replace(Some(why.clone()));
                    self.readiness.lost(&self.name, why);
                }
            }
        }
    }

    /// Why not, if it isn't. A connection that broke is made again before anything is said.
    async fn is_there(&mut self) -> Result<(), String> {
        if let Some(connection) = &mut self.connection
            && matches!(tokio::time::timeout(PATIENCE, connection.ping()).await, Ok(Ok(())))
        {
            return Ok(());
        }
        self.connection = None;
        match self.connect(PATIENCE).await {
            Ok(connection) => self.connection = Some(connection),
            // The pool has connections and goes on.
            Err(refusal) if refusal.is_full => (),
            Err(refusal) => return Err(refusal.why),
        }
        Ok(())
    }

    async fn connect(&self, patience: Duration) -> Result<PgConnection, Refusal> {
        let place = place(&self.options);
        match tokio::time::timeout(patience, PgConnection::connect_with(&self.options)).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) if is_away(&error) => {
                Err(Refusal { is_away: true, is_full: is_full(&error), why: format!("{place} is away ({error})") })
            }
            Ok(Err(error)) => {
                Err(Refusal { is_away: false, is_full: false, why: format!("{place} can't be used: {error}") })
            }
            Err(_) => {
                let why = format!("{place} is away (no answer within {patience:?})");
                Err(Refusal { is_away: true, is_full: false, why })
            }
        }
    }
}

/// Why we aren't let in.
struct Refusal {
    /// Whether waiting helps.
    is_away: bool,
    /// Whether others are.
    is_full: bool,
    /// In words, with the place.
    why: String,
}

/// Whether waiting helps.
fn is_away(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::PoolTimedOut => true,
        // Connection exceptions, shutting down, starting up.
        sqlx::Error::Database(cause) => {
            let is_away = |code: &str| code.starts_with("08") || ["57P01", "57P02", "57P03"].contains(&code);
            is_full(error) || cause.code().is_some_and(|code| is_away(&code))
        }
        _ => false,
    }
}

/// Whether there are too many connections.
fn is_full(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == "53300")
}

/// Looks at the database until it is ended or dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    away: watch::Receiver<Option<String>>,
    end: AbortHandle,
    _task: JoinSet<()>,
}

impl Watch {
    pub(crate) fn start(look: Look) -> Self {
        let away = look.away.subscribe();
        let mut task = JoinSet::new();
        let end = task.spawn(look.keep_looking());
        Self { away, end, _task: task }
    }

    /// Ends as soon as the database is known to be away, at once if it is: with why.
    pub(crate) async fn until_away(&self) -> sqlx::Error {
        let mut away = self.away.clone();
        let why = away.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
        let Some(why) = why else {
            // Nobody looks any more.
            return std::future::pending().await;
        };
        sqlx::Error::Io(io::Error::new(io::ErrorKind::NotConnected, why))
    }

    pub(crate) fn end(&self) {
        self.end.abort();
    }
}
