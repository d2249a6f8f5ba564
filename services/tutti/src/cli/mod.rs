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

use std::{future::Future, io::Write as _, path::PathBuf, process::ExitCode, time::Duration};

use tonic::{Request, Status};
use tutti_client::{Channel, Connector};
use tutti_config::Env;
use tutti_error::Error;
use tutti_layers::ClientTls;

/// Where the mesh is.
#[derive(Debug, clap::Args)]
pub(crate) struct Connection {
    /// Address of the mesh [default: $TUTTI_ADDRESS, else http://127.0.0.1:7070]
    #[arg(long, visible_alias = "addr", value_name = "URL")]
    address: Option<String>,
    /// Who signs the server's certificate, for https:// addresses [default: whom the system trusts]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Our own certificate, where the server asks for one
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Its private key
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
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
        let address = self.address();
        if !self.speaks_tls() {
            return Channel::connect(&address).map_err(Failure::from);
        }
        let own = self.cert.as_deref().zip(self.key.as_deref());
        Ok(Connector::default().tls(ClientTls::of_caller(self.ca.as_deref(), own)?).connect(&address)?)
    }

    fn speaks_tls(&self) -> bool {
        self.address().starts_with("https://")
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
            let with_tls = if self.speaks_tls() { ", with a certificate that --ca trusts" } else { "" };
            text = format!("nobody answers at {}; is `tutti up` running there{with_tls}?", self.address());
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
