//! A service's tables: made by `tutti migrate`, verified by the service.

use std::{borrow::Cow, collections::BTreeMap};

use sqlx::{
    Connection as _, PgConnection, Row as _,
    migrate::{MigrateError, Migrator},
};
use tutti_config::PostgresConfig;
use tutti_error::{Error, Reason, Result};

use crate::postgres::{options, place};

/// The command that brings a database up to date.
const COMMAND: &str = "tutti migrate";

/// The schema of one service with its migrations. See this crate's README for the rule that they obey.
#[derive(Debug)]
pub struct Schema {
    name: &'static str,
    migrator: Migrator,
}

/// What a migration did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migrated {
    /// The last migration that was there before; 0 when there was none.
    pub from: i64,
    /// The last one that is there now.
    pub to: i64,
}

impl Schema {
    /// The schema of this name (a plain identifier) with these migrations, embedded by `sqlx::migrate!`.
    pub fn new(name: &'static str, embedded: &Migrator) -> Self {
        let migrator = Migrator {
            migrations: embedded.migrations.clone(),
            table_name: format!("{name}._sqlx_migrations").into(),
            create_schemas: Cow::Owned(vec![name.into()]),
            ..Migrator::DEFAULT
        };
        Self { name, migrator }
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Makes the schema when it is missing and runs the migrations that are. Those who come at the same time wait for
    /// each other (an advisory lock of the database).
    ///
    /// # Errors
    /// STORE_UNAVAILABLE with the reason: the database is away or refuses, a migration fails, there is a newer one, or
    /// the address is that of a pgbouncer.
    pub async fn migrate(&self, config: &PostgresConfig) -> Result<Migrated> {
        let options = options(config)?;
        let place = place(&options);
        if config.pgbouncer {
            return Err(refused(format!(
                "migrations need a session of their own: give `{COMMAND}` the database's own address instead of \
                 pgbouncer's, with TUTTI_STORAGE__URL and TUTTI_STORAGE__PGBOUNCER=false"
            )));
        }
        let away = |error: sqlx::Error| refused(format!("{place} can't be used: {error}"));
        let mut connection = PgConnection::connect_with(&options).await.map_err(away)?;
        let from = self.applied(&mut connection).await?.keys().last().copied().unwrap_or(0);
        self.migrator.run_direct(None, &mut connection, false).await.map_err(|error| match error {
            MigrateError::VersionMissing(version) => self.newer(version),
            MigrateError::VersionMismatch(version) => self.changed(version),
            error => refused(format!("{place}: schema {} can't be migrated: {error}", self.name)),
        })?;
        let to = self.applied(&mut connection).await?.keys().last().copied().unwrap_or(0);
        // What it was for is done.
        let _ = connection.close().await;
        Ok(Migrated { from, to })
    }

    /// Fails unless the database has exactly the migrations that this binary has.
    pub(crate) async fn verify(&self, connection: &mut PgConnection) -> Result<()> {
        let mut applied = self.applied(connection).await?;
        for migration in self.migrator.iter() {
            match applied.remove(&migration.version) {
                None => {
                    return Err(refused(format!(
                        "the database lacks migration {} of schema {}; run `{COMMAND}`",
                        migration.version, self.name
                    )));
                }
                Some(checksum) if checksum != *migration.checksum => return Err(self.changed(migration.version)),
                Some(_) => (),
            }
        }
        applied.into_keys().next_back().map_or(Ok(()), |version| Err(self.newer(version)))
    }

    /// The versions and checksums of the migrations that were made.
    async fn applied(&self, connection: &mut PgConnection) -> Result<BTreeMap<i64, Vec<u8>>> {
        let sql = format!("SELECT version, checksum FROM {}._sqlx_migrations WHERE success", self.name);
        // Simple protocol: this works behind a pgbouncer too.
        let rows = match sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).fetch_all(connection).await {
            Ok(rows) => rows,
            Err(error) if is_undefined(&error) => return Ok(BTreeMap::new()),
            Err(error) => {
                return Err(refused(format!("the migrations of schema {} can't be read: {error}", self.name)));
            }
        };
        let entry = |row: &sqlx::postgres::PgRow| Ok((row.try_get("version")?, row.try_get("checksum")?));
        rows.iter().map(entry).collect::<sqlx::Result<_>>().map_err(Error::internal)
    }

    fn newer(&self, version: i64) -> Error {
        refused(format!(
            "the database has migration {version} of schema {}, which this binary does not know; start the version of \
             Tutti whose `{COMMAND}` made it",
            self.name
        ))
    }

    fn changed(&self, version: i64) -> Error {
        refused(format!(
            "migration {version} of schema {} is not the one that this binary has; start the version of Tutti whose \
             `{COMMAND}` made it",
            self.name
        ))
    }
}

fn refused(message: String) -> Error {
    Error::new(Reason::StoreUnavailable, message)
}

/// No such schema or table.
fn is_undefined(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| code == "3F000" || code == "42P01")
}
