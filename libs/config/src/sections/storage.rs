//! `[storage]`.

use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};

use crate::reader::Reader;
use crate::section::Section;

/// The section of credentials.toml with the database's address.
pub(crate) const CREDENTIALS: &str = "postgres";

/// Where the services keep what they must not lose.
#[derive(Clone, Debug)]
pub enum StorageConfig {
    /// In files of the data folder: one process, nothing to install.
    Sqlite,
    /// In a database that any number of processes share.
    Postgres(PostgresConfig),
}

/// How a process uses its Postgres database.
#[derive(Clone, Debug)]
pub struct PostgresConfig {
    /// `postgres://user:password@host:port/database`, with libpq's parameters such as `?sslmode=verify-full`.
    pub url: SecretString,
    /// Connections that each service of the process opens at most. Default 10.
    pub max_connections: u32,
    /// The longest to wait for a connection. Default 2 s.
    pub acquire_timeout: Duration,
    /// Whether the address is that of a pgbouncer in transaction mode: no prepared statement outlives its transaction.
    /// Default false.
    pub pgbouncer: bool,
}

impl PostgresConfig {
    /// The defaults, with this address.
    pub fn new(url: impl Into<SecretString>) -> Self {
        Self { url: url.into(), max_connections: 10, acquire_timeout: Duration::from_secs(2), pgbouncer: false }
    }
}

impl StorageConfig {
    /// Reads `[storage]`, and for Postgres `[postgres]` of credentials.toml.
    pub fn read(reader: &Reader) -> Self {
        let storage = reader.section("storage");
        let is_postgres = storage.choice("kind", &[("sqlite", false), ("postgres", true)], false);
        let defaults = PostgresConfig::new("");
        let config = PostgresConfig {
            url: url(reader, &storage, is_postgres).unwrap_or_default(),
            max_connections: storage.integer("max_connections", defaults.max_connections, 2..=1000),
            acquire_timeout: storage.positive_duration("acquire_timeout", defaults.acquire_timeout),
            pgbouncer: storage.bool("pgbouncer", defaults.pgbouncer),
        };
        storage.finish();
        if is_postgres { Self::Postgres(config) } else { Self::Sqlite }
    }
}

fn url(reader: &Reader, storage: &Section<'_>, needed: bool) -> Option<SecretString> {
    let written = storage.opt_secret("url");
    let read = if storage.has("url_file") { storage.secret_file("url_file") } else { None };
    if written.is_some() && storage.has("url_file") {
        storage.problem("url_file", "give one of url and url_file");
    }
    let checked = |key: &str, url: SecretString| check(storage, key, &url).then_some(url);
    if storage.has("url") || storage.has("url_file") {
        return written.and_then(|url| checked("url", url)).or(read.and_then(|url| checked("url_file", url)));
    }
    if !needed {
        return None;
    }
    for problem in &reader.config().inner.credential_problems {
        reader.push(problem.clone());
    }
    let credentials = reader.section("credentials");
    let table = credentials.subsection(CREDENTIALS);
    let url = url_of_credentials(&table);
    if url.is_none() && reader.config().inner.credential_problems.is_empty() {
        storage
            .problem("url", "missing key: Postgres needs an address, here or as url of [postgres] in credentials.toml");
    }
    url.filter(|url| check(&table, "url", url))
}

/// The address, if given.
pub(crate) fn url_of_credentials(table: &Section<'_>) -> Option<SecretString> {
    table.opt_secret("url")
}

/// Whether it can be an address of Postgres. Never shows it.
fn check(section: &Section<'_>, key: &str, url: &SecretString) -> bool {
    let url = url.expose_secret();
    let fits =
        ["postgres://", "postgresql://"].iter().any(|scheme| url.len() > scheme.len() && url.starts_with(scheme));
    if !fits {
        section.problem(key, "expected an address such as postgres://user:password@host:5432/database");
    }
    fits
}
