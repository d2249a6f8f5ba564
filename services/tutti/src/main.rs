//! `tutti`: the whole mesh in one process (`tutti up`), and the command line for a running one.

mod cli;
mod mesh;
mod summary;
mod up;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Many language models behind one typed, streaming API.
#[derive(Debug, Parser)]
#[command(name = "tutti", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the whole mesh in one process
    Up(tutti_server::process::Args),
    /// Ask, and stream the answer; reads standard input when no message is given
    Chat(cli::chat::Args),
    /// List the backends and how they are
    Backends(cli::backends::Args),
    /// Show what was used and what it cost
    Stats(cli::stats::Args),
    /// Show whether services and backends answer
    Health(cli::health::Args),
    /// Explain which backend would answer, without asking it
    Route(cli::route::Args),
    /// Check or show the configuration
    Config(cli::config::Args),
    /// Make or update the tables in Postgres
    Migrate(cli::migrate::Args),
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Up(args) => up::run(&args),
        Command::Config(args) => cli::config::run(&args),
        Command::Migrate(args) => cli::migrate::run(&args),
        Command::Chat(args) => cli::run(cli::chat::run(args)),
        Command::Backends(args) => cli::run(cli::backends::run(args)),
        Command::Stats(args) => cli::run(cli::stats::run(args)),
        Command::Health(args) => cli::run(cli::health::run(args)),
        Command::Route(args) => cli::run(cli::route::run(args)),
    }
}
