//! The command line for a running mesh. Answers go to standard output, everything else to standard error.

pub(crate) mod backends;
pub(crate) mod chat;
pub(crate) mod config;
pub(crate) mod health;
pub(crate) mod migrate;
pub(crate) mod route;
pub(crate) mod stats;
mod table;
mod turn;

use std::{future::Future, io::Write as _, process::ExitCode, time::Duration};

use tonic::{Request, Status};
use tutti_client::Channel;
use tutti_config::Env;
use tutti_error::Error;

/// Where the mesh is.
#[derive(Debug, clap::Args)]
pub(crate) struct Connection {
    /// Address of the mesh [default: $TUTTI_ADDRESS, else http://127.0.0.1:7070]
    #[arg(long, value_name = "URL")]
    address: Option<String>,
    /// The longest to wait, in seconds
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    timeout: u64,
}

impl Connection {
    fn address(&self) -> String {
        let variable = || Env::process().get("TUTTI_ADDRESS").map(str::to_owned);
        self.address.clone().or_else(variable).unwrap_or_else(|| "http://127.0.0.1:7070".to_owned())
    }

    fn channel(&self) -> Result<Channel, Failure> {
        Channel::connect(&self.address()).map_err(Failure::from)
    }

    /// A request that ends when the user's patience does.
    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(Duration::from_secs(self.timeout.max(1)));
        request
    }

    /// A status in words, with a hint when nobody answers there.
    fn failure(&self, status: &Status) -> Failure {
        let error = tutti_error::from_status(status, "tutti");
        let mut text = format!("{error}");
        if error.reason() == tutti_error::Reason::ServiceUnavailable {
            text = format!("nobody answers at {}; is `tutti up` running there?", self.address());
        }
        Failure(format!("{text} [{}]", error.reason().as_str_name().trim_start_matches("ERROR_REASON_")))
    }
}

/// Why a command failed, in words.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(error.to_string())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

/// Runs a command to its end or the first Ctrl-C, which cancels what it asked for.
pub(crate) fn run(command: impl Future<Output = Result<(), Failure>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report(&Failure::from(error)),
    };
    runtime.block_on(async {
        tokio::select! {
            result = command => match result {
                Ok(()) => ExitCode::SUCCESS,
                Err(failure) => report(&failure),
            },
            _ = tokio::signal::ctrl_c() => ExitCode::from(130),
        }
    })
}

fn report(failure: &Failure) -> ExitCode {
    // Nobody is left to be told when standard error is closed.
    let _ = writeln!(std::io::stderr(), "tutti: {}", failure.0);
    ExitCode::FAILURE
}

/// Writes to standard output; a closed pipe ends the command.
fn show(text: impl AsRef<str>) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_ref().as_bytes())?;
    out.flush()?;
    Ok(())
}
