//! `tutti config`: check or show the configuration, without starting anything.

use std::{io::Write as _, process::ExitCode};

use clap::Subcommand;
use tutti_config::{Config, Env, GeneralConfig, ServerConfig};
use tutti_server::process::{self, EXIT_CONFIG};

use super::show;
use crate::mesh::MeshConfig;

/// `tutti config`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Report every problem with its file and line
    Check(process::Args),
    /// Print what is in force and where each value comes from, secrets masked
    Dump(process::Args),
}

/// Reads the configuration as `tutti up` would.
pub(crate) fn run(args: &Args) -> ExitCode {
    let (Command::Check(flags) | Command::Dump(flags)) = &args.command;
    let result = flags.loader(Env::process()).load().and_then(|config| check(&config).map(|notes| (config, notes)));
    match result {
        Ok((config, notes)) => {
            let text = match args.command {
                Command::Dump(_) => config.dump(),
                Command::Check(_) => format!("{notes}the configuration is fine\n"),
            };
            if show(text).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(problems) => {
            // Nobody is left to be told when standard error is closed.
            let _ = writeln!(std::io::stderr(), "{problems}");
            ExitCode::from(EXIT_CONFIG)
        }
    }
}

/// The warnings, a line each.
fn check(config: &Config) -> Result<String, tutti_config::Problems> {
    let reader = config.reader();
    GeneralConfig::read(&reader);
    ServerConfig::read(&reader);
    MeshConfig::read(&reader);
    let warnings = reader.finish()?;
    Ok(warnings.iter().map(|warning| format!("warning: {warning}\n")).collect())
}
