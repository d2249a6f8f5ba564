//! `tutti migrate`: brings the tables in Postgres up to what this version needs, before its services start.

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use clap::ValueEnum;
use tutti_config::{Env, Loader, PostgresConfig, Problems, StorageConfig};
use tutti_server::process::EXIT_CONFIG;
use tutti_store::Schema;

use super::{Failure, show};

/// `tutti migrate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder with config.toml and credentials.toml, instead of the user's
    #[arg(long, value_name = "DIR")]
    config_dir: Option<PathBuf>,
    /// Only the tables of this service [default: of all]
    #[arg(long, value_enum, value_name = "SERVICE")]
    service: Option<Service>,
}

/// The services with tables in Postgres.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Service {
    Ledger,
    Memory,
    Router,
    Sandbox,
}

impl Service {
    fn schema(self) -> Schema {
        match self {
            Self::Ledger => usage_ledger::store::schema(),
            Self::Memory => context_memory::schema(),
            Self::Router => router::schema(),
            Self::Sandbox => tool_sandbox::schema(),
        }
    }
}

/// Migrates. Those who do it at the same time wait for each other.
pub(crate) fn run(args: &Args) -> ExitCode {
    match storage(args) {
        Ok(StorageConfig::Postgres(postgres)) => super::run(migrate(args.service, postgres)),
        Ok(StorageConfig::Sqlite) => super::run(async {
            Err(Failure(
                "[storage] kind is \"sqlite\", whose files each service migrates itself; `tutti migrate` is for \
                 \"postgres\""
                    .to_owned(),
            ))
        }),
        Err(problems) => {
            // Nobody is left to be told when standard error is closed.
            let _ = writeln!(std::io::stderr(), "{problems}");
            ExitCode::from(EXIT_CONFIG)
        }
    }
}

fn storage(args: &Args) -> Result<StorageConfig, Problems> {
    let config = Loader::new().config_dir(args.config_dir.clone()).env(Env::process()).load()?;
    let reader = config.reader();
    let storage = StorageConfig::read(&reader);
    reader.finish()?;
    Ok(storage)
}

async fn migrate(only: Option<Service>, postgres: PostgresConfig) -> Result<(), Failure> {
    // One TLS provider a process, chosen by its main. An error says that there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    for service in Service::value_variants().iter().filter(|service| only.is_none_or(|only| only == **service)) {
        let schema = service.schema();
        let done = schema.migrate(&postgres).await?;
        let name = schema.name();
        show(match done.from {
            from if from == done.to => format!("{name}: up to date (migration {from})\n"),
            0 => format!("{name}: made (migration {})\n", done.to),
            from => format!("{name}: migration {from} → {}\n", done.to),
        })?;
    }
    Ok(())
}
