//! What every binary of the mesh does around its service: flags, configuration, logs, listener, signals, exit codes.
//!
//! A service's whole `main`:
//!
//! ```no_run
//! # use tutti_server::{Services, process::{self, Program, Running}};
//! # struct Config;
//! # impl Config { fn read(_: &tutti_config::Reader) -> Self { Self } }
//! fn main() -> std::process::ExitCode {
//!     process::run(Program::peer("usage-ledger", &[]), Config::read, async |context| {
//!         let _ = (context.config, &context.server.data_dir);
//!         Ok(Running::new(Services::default(), async |_grace| {}))
//!     })
//! }
//! ```

use std::{
    future::Future, io::Write as _, net::SocketAddr, path::PathBuf, pin::Pin, process::ExitCode, time::Duration,
};

use clap::{Args as _, FromArgMatches as _};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tutti_config::{Env, GeneralConfig, Loader, MeshConfig, Reader, ServerConfig, check_bind};
use tutti_error::{Error, Result};
use tutti_layers::{Callers, MeshSecret, ServerTls, TlsFiles};

use crate::{Readiness, ServeOptions, Services, bind, observe::Observe, serve, serve_http, waiting};

/// Exit code of a process that can't start as it is configured (`EX_CONFIG`).
pub const EXIT_CONFIG: u8 = 78;
/// Exit code of a process that failed.
const EXIT_FAILURE: u8 = 1;

/// What a binary of the mesh is.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    name: &'static str,
    services: &'static [&'static str],
    /// Empty-handed for the whole mesh, whose services call each other in process.
    calls: Option<&'static [&'static str]>,
    callers: Callers,
}

impl Program {
    /// A service below the router: as soon as the services of the mesh can prove themselves, only they may call it.
    /// `calls` are the services it calls, under their names in `[mesh]`.
    pub const fn peer(name: &'static str, calls: &'static [&'static str]) -> Self {
        Self { name, services: &[], calls: Some(calls), callers: Callers::Peers }
    }

    /// A service that applications call.
    pub const fn door(name: &'static str, calls: &'static [&'static str]) -> Self {
        Self { name, services: &[], calls: Some(calls), callers: Callers::Anyone }
    }

    /// All services in one process: it calls no others over the network.
    pub const fn whole(name: &'static str) -> Self {
        Self { name, services: &[], calls: None, callers: Callers::Anyone }
    }

    /// Names what it serves (`tutti.ledger.v1.LedgerService`), for those who ask for its health while it waits for its
    /// store.
    pub const fn serving(self, services: &'static [&'static str]) -> Self {
        Self { services, ..self }
    }

    /// Nobody can prove anything where there is neither a secret nor a certificate.
    fn callers(&self, mesh: &MeshConfig) -> Callers {
        if mesh.proves_peers() { self.callers } else { Callers::Anyone }
    }
}

/// The flags that all servers have. They win over every other layer of the configuration.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Args {
    /// Folder with config.toml, credentials.toml and personas.toml, instead of the user's
    #[arg(long, value_name = "DIR")]
    pub config_dir: Option<PathBuf>,
    /// Address to listen on; port 0 takes a free one [default: 127.0.0.1:7070]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Address for metrics (/metrics) and probes (/livez, /readyz) [default: none]
    #[arg(long, value_name = "ADDRESS")]
    pub admin_listen: Option<SocketAddr>,
    /// Folder for everything that is stored
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Accept an address that other machines can reach, although callers are not authenticated
    #[arg(long)]
    pub allow_insecure_bind: bool,
}

impl Args {
    /// A loader of the configuration with these flags on top.
    pub fn loader(&self, env: Env) -> Loader {
        Loader::new()
            .config_dir(self.config_dir.clone())
            .env(env)
            .opt_flag("server.listen", self.listen)
            .opt_flag("server.admin_listen", self.admin_listen)
            .opt_flag("server.data_dir", self.data_dir.as_ref().map(|dir| dir.display()))
            .opt_flag("server.allow_insecure_bind", self.allow_insecure_bind.then_some(true))
    }
}

/// What a service starts from.
#[derive(Debug)]
pub struct Context<C> {
    /// The service's own sections.
    pub config: C,
    /// `[server]`: data folder, grace, timeout.
    pub server: ServerConfig,
    /// `[general]` and `[project]`.
    pub general: GeneralConfig,
    /// `[mesh]`: where the other services are, and how to prove ourselves to them; empty in `tutti up`.
    pub mesh: MeshConfig,
    /// All sections, their folders and the environment.
    pub all: tutti_config::Config,
    /// Where the service says that what it depends on is away, also before it has started: the process is not ready
    /// meanwhile.
    pub readiness: Readiness,
    /// The address that is bound already, with its real port.
    pub address: SocketAddr,
}

type Stop = Box<dyn FnOnce(Duration) -> Pin<Box<dyn Future<Output = ()>>>>;

/// A service that runs.
pub struct Running {
    services: Services,
    stop: Stop,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("services", &self.services).finish_non_exhaustive()
    }
}

impl Running {
    /// What is served, and what ends the service after the last call: it gets the grace period.
    pub fn new<S, F>(services: Services, stop: S) -> Self
    where
        S: FnOnce(Duration) -> F + 'static,
        F: Future<Output = ()> + 'static,
    {
        Self { services, stop: Box::new(move |grace| Box::pin(stop(grace))) }
    }
}

/// Runs a service as a process of its own until SIGTERM or SIGINT; a second signal ends it without grace.
///
/// Reads the flags, then the configuration with one reader (`read` gets it for the service's own sections), starts
/// the log, binds, starts the service, and serves. All problems of the configuration are printed to standard error
/// together, and so is the refusal of an insecure address; both exit with [`EXIT_CONFIG`].
pub fn run<C, F>(program: Program, read: impl FnOnce(&Reader) -> C, start: impl FnOnce(Context<C>) -> F) -> ExitCode
where
    F: Future<Output = Result<Running>>,
{
    let command = clap::Command::new(program.name).version(env!("CARGO_PKG_VERSION"));
    let matches = Args::augment_args(command).get_matches();
    match Args::from_arg_matches(&matches) {
        Ok(args) => run_with(&args, program, read, start),
        Err(error) => error.exit(),
    }
}

/// [`run`] with flags that were read already, for the binary that is the whole mesh.
pub fn run_with<C, F>(
    args: &Args,
    program: Program,
    read: impl FnOnce(&Reader) -> C,
    start: impl FnOnce(Context<C>) -> F,
) -> ExitCode
where
    F: Future<Output = Result<Running>>,
{
    let outcome = configure(args, program, Env::process(), read).and_then(|configured| {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::system)?;
        runtime.block_on(async { configured.run(start, Signals::install().map_err(Failure::system)?).await })
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nobody is left to be told when standard error is closed.
            let _ = writeln!(std::io::stderr(), "{}", failure.message);
            ExitCode::from(failure.code)
        }
    }
}

/// Why a process ends, and with which exit code.
#[derive(Debug)]
struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    fn config(message: impl std::fmt::Display) -> Self {
        Self { code: EXIT_CONFIG, message: message.to_string() }
    }

    fn system(error: std::io::Error) -> Self {
        Error::internal(error).into()
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let context = error.internal_context().map(|context| format!(" ({context})")).unwrap_or_default();
        Self { code: EXIT_FAILURE, message: format!("{error}{context}") }
    }
}

/// A valid configuration.
struct Configured<C> {
    observe: Observe,
    warnings: tutti_config::Warnings,
    config: C,
    server: ServerConfig,
    general: GeneralConfig,
    mesh: MeshConfig,
    program: Program,
    all: tutti_config::Config,
}

fn configure<C>(
    args: &Args,
    program: Program,
    env: Env,
    read: impl FnOnce(&Reader) -> C,
) -> Result<Configured<C>, Failure> {
    let all = args.loader(env).load().map_err(Failure::config)?;
    let reader = all.reader();
    let general = GeneralConfig::read(&reader);
    let server = ServerConfig::read(&reader);
    let mesh = program.calls.map(|calls| MeshConfig::read(&reader, calls)).unwrap_or_default();
    let observe = Observe::read(&reader, program.name, &general, &server);
    let config = read(&reader);
    if general.log_file.is_some() {
        reader.warn("general.log_file is accepted but has no effect yet: logs go to standard error");
    }
    let warnings = reader.finish().map_err(Failure::config)?;
    let only_peers = program.callers(&mesh) == Callers::Peers;
    check_bind(server.listen, only_peers, server.allow_insecure_bind).map_err(Failure::config)?;
    if let Some(address) = server.http_listen {
        check_bind(address, false, server.allow_insecure_bind).map_err(Failure::config)?;
    }
    if let Some(address) = server.admin_listen {
        // It tells nothing secret: where the mesh can tell its own from strangers, the network is taken to be the mesh's.
        check_bind(address, mesh.proves_peers(), server.allow_insecure_bind).map_err(Failure::config)?;
    }
    Ok(Configured { observe, warnings, config, server, general, mesh, program, all })
}

impl<C> Configured<C> {
    /// How to serve. Files that can't be used for TLS are a mistake of the configuration.
    fn serve_options(&self) -> Result<ServeOptions, Failure> {
        let Self { server, mesh, program, .. } = self;
        let own = server.tls.as_ref().or(mesh.tls.as_ref().map(|tls| &tls.own));
        let ca = mesh.tls.as_ref().map(|tls| tls.ca.clone());
        let files = own.map(|own| TlsFiles { cert: own.cert.clone(), key: own.key.clone(), ca });
        Ok(ServeOptions {
            default_timeout: server.request_timeout,
            grace: server.shutdown_grace,
            max_concurrent_calls: server.max_concurrent_calls,
            max_connection_age: server.max_connection_age,
            callers: program.callers(mesh),
            secret: MeshSecret::of(mesh),
            tls: files.map(ServerTls::new).transpose().map_err(Failure::config)?,
        })
    }

    async fn run<F>(self, start: impl FnOnce(Context<C>) -> F, mut signals: Signals) -> Result<(), Failure>
    where
        F: Future<Output = Result<Running>>,
    {
        let options = self.serve_options()?;
        let grace = options.grace;
        let Self { observe, warnings, config, server, general, mesh, program, all } = self;
        let observed = observe.start().await?;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        // Before any serious work, so that a taken port is known at once.
        let listening = bind(server.listen).await?;
        let address = listening.address;
        let http_listen = server.http_listen;
        let readiness = observed.admin.readiness.clone();
        let context = Context { config, server, general, mesh, all, readiness: readiness.clone(), address };
        // Starting may wait, for instance for a store: probes are answered meanwhile, and a signal ends that too.
        let Running { mut services, stop } = tokio::select! {
            started = start(context) => started?,
            never = waiting::serve(&listening, program.services, options.clone(), &readiness) => match never? {},
            () = signals.next() => return Ok(()),
        };
        let door = match http_listen.filter(|_| services.has_http()) {
            Some(address) => services.take_http().zip(Some(bind(address).await?)),
            None => None,
        };
        observed.admin.started(services.readiness());
        tracing::info!(%address, services = services.names().join(" "), "listening");
        let shutdown = CancellationToken::new();
        let grpc = serve(listening, services, options.clone(), shutdown.clone());
        let serving = Box::pin(async {
            let Some((http, listening)) = door else { return grpc.await };
            tracing::info!(address = %listening.address, "listening for HTTP");
            tokio::try_join!(grpc, serve_http(listening, http, options, shutdown.clone())).map(drop)
        });
        let admin = observed.admin.clone();
        let ending = async {
            let served = serving.await;
            stop(grace).await;
            observed.stop(grace).await;
            served
        };
        tokio::pin!(ending);
        tokio::select! {
            ended = &mut ending => return Ok(ended?),
            () = signals.next() => tracing::info!("stopping; running calls may end within {grace:?}"),
        }
        admin.stopping();
        shutdown.cancel();
        tokio::select! {
            ended = &mut ending => Ok(ended?),
            () = signals.next() => Err(Failure { code: EXIT_FAILURE, message: "stopped at once by a second signal".into() }),
        }
    }
}

/// The signals that ask a process to end.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on they no longer kill the process.
    fn install() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => (),
            _ = self.interrupt.recv() => (),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: Program = Program::whole("tutti");

    fn args(dir: &std::path::Path, config: &str) -> Args {
        std::fs::write(dir.join("config.toml"), config).unwrap();
        Args {
            config_dir: Some(dir.to_owned()),
            listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
            admin_listen: None,
            data_dir: Some(dir.join("data")),
            allow_insecure_bind: false,
        }
    }

    fn refusal(args: &Args) -> Failure {
        configure(args, WHOLE, Env::default(), |_| ()).err().unwrap()
    }

    #[test]
    fn all_problems_come_together_with_their_lines() {
        let dir = tempfile::tempdir().unwrap();
        let args = args(dir.path(), "[general]\nlog_format = 7\n\n[server]\nshutdown_grace = \"soon\"\n");
        let failure = refusal(&args);
        assert_eq!(failure.code, EXIT_CONFIG);
        assert!(failure.message.contains("config.toml:2"), "{}", failure.message);
        assert!(failure.message.contains("config.toml:5"), "{}", failure.message);
    }

    #[test]
    fn a_public_address_needs_the_flag() {
        let dir = tempfile::tempdir().unwrap();
        let mut args = args(dir.path(), "");
        args.listen = Some(SocketAddr::from(([0, 0, 0, 0], 0)));
        assert_eq!(refusal(&args).code, EXIT_CONFIG);
        args.allow_insecure_bind = true;
        assert!(configure(&args, WHOLE, Env::default(), |_| ()).is_ok());
    }

    #[test]
    fn a_public_address_is_fine_where_only_peers_may_call() {
        let dir = tempfile::tempdir().unwrap();
        let mut args = args(dir.path(), "[mesh]\nsecret_file = \"mesh.key\"\n");
        std::fs::write(dir.path().join("mesh.key"), "0123456789abcdef").unwrap();
        args.listen = Some(SocketAddr::from(([0, 0, 0, 0], 0)));
        let configure = |program| configure(&args, program, Env::default(), |_| ());
        let below = configure(Program::peer("usage-ledger", &[])).ok().unwrap().serve_options().ok().unwrap();
        assert_eq!((below.callers, below.secret.is_some()), (Callers::Peers, true));
        assert_eq!(configure(Program::door("router", &[])).err().unwrap().code, EXIT_CONFIG);
    }

    #[test]
    fn metrics_and_probes_may_be_public_where_peers_prove_themselves() {
        let dir = tempfile::tempdir().unwrap();
        let public = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut args = args(dir.path(), "");
        args.admin_listen = Some(public);
        assert!(refusal(&args).message.contains("refusing to listen on 0.0.0.0:0"));
        std::fs::write(dir.path().join("mesh.key"), "0123456789abcdef").unwrap();
        std::fs::write(dir.path().join("config.toml"), "[mesh]\nsecret_file = \"mesh.key\"\n").unwrap();
        for program in [Program::peer("usage-ledger", &[]), Program::door("router", &[])] {
            assert!(configure(&args, program, Env::default(), |_| ()).is_ok(), "{}", program.name);
        }
        std::fs::write(dir.path().join("config.toml"), "[server]\nallow_insecure_bind = true\n").unwrap();
        assert!(configure(&args, WHOLE, Env::default(), |_| ()).is_ok());
    }

    #[test]
    fn flags_win_over_files() {
        let dir = tempfile::tempdir().unwrap();
        let args = args(dir.path(), "[server]\nlisten = \"127.0.0.1:9\"\ndata_dir = \"/elsewhere\"\n");
        let configured = configure(&args, WHOLE, Env::default(), |_| ()).ok().unwrap();
        assert_eq!(configured.server.listen.port(), 0);
        assert_eq!(configured.server.data_dir, dir.path().join("data"));
    }

    #[tokio::test]
    async fn a_service_that_cannot_start_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let configured = configure(&args(dir.path(), ""), WHOLE, Env::default(), |_| ()).ok().unwrap();
        let start = async |_| Err(Error::new(tutti_error::Reason::StoreUnavailable, "the disk is full"));
        let failure = configured.run(start, Signals::install().unwrap()).await.unwrap_err();
        assert_eq!((failure.code, failure.message.as_str()), (EXIT_FAILURE, "the disk is full"));
    }
}
