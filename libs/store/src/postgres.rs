//! Postgres: one database for all services and all their replicas, one schema a service.

use std::{str::FromStr as _, time::Duration};

use sqlx::{
    Connection as _, PgConnection, PgPool, Transaction,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tutti_config::{ExposeSecret as _, PostgresConfig};
use tutti_error::{Error, Reason, Result};

use crate::Schema;

/// Pauses between two attempts to reach the database: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// One attempt to reach it.
const CONNECT: Duration = Duration::from_secs(5);
/// How often the log says that it is still away, in attempts.
const SAY_EVERY: u32 = 10;

/// A pool of connections to the database. Cheap to clone.
///
/// Nothing here depends on a session: every statement runs in a transaction and names its schema, so that a pgbouncer
/// in transaction mode may stand in between. Each statement is to be told `.persistent(postgres.prepares())`.
#[derive(Debug, Clone)]
pub struct Postgres {
    pool: PgPool,
    prepares: bool,
}

impl Postgres {
    /// Connects, waiting as long as the database is away (and saying so in the log), and verifies that the schema is
    /// the one this binary knows. Cancel it by dropping it.
    ///
    /// # Errors
    /// STORE_UNAVAILABLE with the reason: the address makes no sense, the database refuses this user, a migration is
    /// missing (`tutti migrate`), or there is a newer one.
    pub async fn connect_waiting(config: &PostgresConfig, schema: &Schema) -> Result<Self> {
        let options = options(config)?;
        let mut connection = wait(&options).await?;
        let verified = schema.verify(&mut connection).await;
        // It served its purpose whether or not the server hears of its end.
        let _ = connection.close().await;
        verified?;
        Ok(Self::with_options(config, options))
    }

    fn with_options(config: &PostgresConfig, options: PgConnectOptions) -> Self {
        let pool = PgPoolOptions::new()
            .max_connections(config.max_connections)
            .acquire_timeout(config.acquire_timeout)
            .connect_lazy_with(options);
        Self { pool, prepares: !config.pgbouncer }
    }

    /// Begins a transaction at READ COMMITTED. Rolled back when it is dropped.
    ///
    /// # Errors
    /// Those of the store; no connection within the configured time.
    pub async fn begin(&self) -> sqlx::Result<Transaction<'static, sqlx::Postgres>> {
        self.pool.begin().await
    }

    /// Whether statements are kept prepared on their connections: not behind a pgbouncer.
    pub fn prepares(&self) -> bool {
        self.prepares
    }

    /// Ends all connections, after what is running on them.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// How to connect, from the configuration.
pub(crate) fn options(config: &PostgresConfig) -> Result<PgConnectOptions> {
    let options = PgConnectOptions::from_str(config.url.expose_secret()).map_err(|error| {
        // The address itself has a password in it.
        Error::new(Reason::StoreUnavailable, format!("the address of Postgres is not valid: {error}"))
    })?;
    let options = options.application_name("tutti");
    Ok(if config.pgbouncer { options.statement_cache_capacity(0).extra_float_digits(None) } else { options })
}

/// Where the database is, without the password.
pub(crate) fn place(options: &PgConnectOptions) -> String {
    let host = options.get_socket().map_or_else(|| options.get_host().to_owned(), |path| path.display().to_string());
    format!("Postgres at {host}:{}/{}", options.get_port(), options.get_database().unwrap_or(options.get_username()))
}

/// Connects as soon as the database lets us in.
pub(crate) async fn wait(options: &PgConnectOptions) -> Result<PgConnection> {
    let (mut pause, longest) = PAUSES;
    let place = place(options);
    for attempt in 0.. {
        let why = match tokio::time::timeout(CONNECT, PgConnection::connect_with(options)).await {
            Ok(Ok(connection)) => {
                if attempt > 0 {
                    tracing::info!("{place} is there");
                }
                return Ok(connection);
            }
            Ok(Err(error)) if !is_away(&error) => {
                return Err(Error::new(Reason::StoreUnavailable, format!("{place} can't be used: {error}")));
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {CONNECT:?}"),
        };
        if attempt % SAY_EVERY == 0 {
            tracing::warn!(%why, "{place} is away; waiting for it");
        }
        tokio::time::sleep(pause).await;
        pause = longest.min(pause * 2);
    }
    Err(Error::internal("waited for ever"))
}

/// Whether waiting helps.
fn is_away(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::PoolTimedOut => true,
        // Connection exceptions, too many connections, shutting down, starting up.
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            code.starts_with("08") || ["53300", "57P01", "57P02", "57P03"].contains(&code.as_ref())
        }),
        _ => false,
    }
}
