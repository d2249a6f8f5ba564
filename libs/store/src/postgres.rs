//! Postgres: one database for all services and all their replicas, one schema a service.

use std::{str::FromStr as _, sync::Arc};

use sqlx::{
    PgPool, Transaction,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tutti_config::{ExposeSecret as _, PostgresConfig};
use tutti_error::{Error, Reason, Result};
use tutti_telemetry::Readiness;

use crate::{
    Schema,
    away::{Look, Watch},
};

/// A pool of connections to the database. Cheap to clone.
///
/// Nothing here depends on a session: every statement runs in a transaction and names its schema, so that a pgbouncer
/// in transaction mode may stand in between. Each statement is to be told `.persistent(postgres.prepares())`.
#[derive(Debug, Clone)]
pub struct Postgres {
    pool: PgPool,
    prepares: bool,
    watch: Arc<Watch>,
}

impl Postgres {
    /// Connects, waiting as long as the database is away, and verifies that the schema is the one this binary knows.
    /// Cancel it by dropping it. From then on until the end, `readiness` (and the log) knows whether the database is away,
    /// under the name `NAME store`.
    ///
    /// # Errors
    /// STORE_UNAVAILABLE with the reason: the address makes no sense, the database refuses this user, a migration is
    /// missing (`tutti migrate`), or there is a newer one.
    pub async fn connect_waiting(config: &PostgresConfig, schema: &Schema, readiness: &Readiness) -> Result<Self> {
        let options = options(config)?;
        let mut look = Look::new(options.clone(), format!("{} store", schema.name()), readiness.clone());
        schema.verify(look.wait().await?).await?;
        let pool = PgPoolOptions::new()
            .max_connections(config.max_connections)
            .acquire_timeout(config.acquire_timeout)
            .connect_lazy_with(options);
        Ok(Self { pool, prepares: !config.pgbouncer, watch: Arc::new(Watch::start(look)) })
    }

    /// Begins a transaction at READ COMMITTED. Rolled back when it is dropped. Nobody waits for a connection while the
    /// database is known to be away.
    ///
    /// # Errors
    /// Those of the store; that it is away; no connection within the configured time.
    pub async fn begin(&self) -> sqlx::Result<Transaction<'static, sqlx::Postgres>> {
        tokio::select! {
            biased;
            away = self.watch.until_away() => Err(away),
            begun = self.pool.begin() => begun,
        }
    }

    /// Whether statements are kept prepared on their connections: not behind a pgbouncer.
    pub fn prepares(&self) -> bool {
        self.prepares
    }

    /// Ends all connections, after what is running on them.
    pub async fn close(&self) {
        self.watch.end();
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

#[cfg(test)]
mod tests {
    use std::{io, time::Duration};

    use futures::FutureExt as _;
    use sqlx::migrate::Migrator;
    use tokio::time::timeout;
    use tutti_testkit::{TestPostgres, wait_for};

    use super::*;

    static MIGRATIONS: Migrator = sqlx::migrate!("tests/migrations");
    const PATIENCE: Duration = Duration::from_secs(30);

    fn is_away(begun: &sqlx::Result<Transaction<'static, sqlx::Postgres>>) -> bool {
        matches!(begun, Err(sqlx::Error::Io(error)) if error.kind() == io::ErrorKind::NotConnected)
    }

    #[tokio::test]
    async fn nobody_waits_for_a_database_that_is_known_to_be_away() {
        let server = TestPostgres::start();
        let mut config = PostgresConfig::new(server.database());
        config.max_connections = 1;
        config.acquire_timeout = Duration::from_secs(3600);
        let schema = Schema::new("leasing", &MIGRATIONS);
        schema.migrate(&config).await.unwrap();
        let readiness = Readiness::default();
        let database = Postgres::connect_waiting(&config, &schema, &readiness).await.unwrap();
        let held = database.begin().await.unwrap();
        // It waits for the one connection when the server goes.
        let (waited, ()) = tokio::join!(timeout(PATIENCE, database.begin()), async { server.stop() });
        assert!(is_away(&waited.unwrap()));
        drop(held);
        assert!(database.begin().now_or_never().is_some_and(|begun| is_away(&begun)), "it is asked again");
        server.start_again();
        wait_for(PATIENCE, async || readiness.is_ready()).await;
        assert!(timeout(PATIENCE, database.begin()).await.unwrap().is_ok());
    }
}
