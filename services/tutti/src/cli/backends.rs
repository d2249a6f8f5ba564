//! `tutti backends`.

use tutti_proto::{
    gateway::v1::{BackendHealth, BackendStatus, BreakerState},
    router::v1::{ListBackendsRequest, router_service_client::RouterServiceClient},
};

use super::{Connection, Failure, show, table::table};

/// `tutti backends`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    connection: Connection,
    /// Ask each provider now, with a cheap call
    #[arg(long)]
    probe: bool,
}

/// Lists them.
pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let mut client = RouterServiceClient::new(args.connection.channel()?);
    let request = args.connection.request(ListBackendsRequest { probe: args.probe });
    let listed = client.list_backends(request).await.map_err(|s| args.connection.failure(&s))?.into_inner();
    show(render(&listed.backends, &listed.default_backend))
}

/// Backends as a table, the default one marked.
pub(crate) fn render(backends: &[BackendStatus], default: &str) -> String {
    let rows: Vec<_> = backends
        .iter()
        .map(|b| {
            let mark = if b.name == default { "*" } else { "" };
            [format!("{}{mark}", b.name), b.provider.clone(), b.model.clone(), b.context_window.to_string(), state(b)]
        })
        .collect();
    table(["backend", "provider", "model", "window", "state"], &rows)
}

/// How a backend is, in a few words.
fn state(backend: &BackendStatus) -> String {
    if !backend.usable {
        return format!("not usable: {}", backend.unusable_because);
    }
    let breaker = backend.breaker.as_ref();
    if let Some(open) = breaker.filter(|breaker| breaker.state() == BreakerState::Open) {
        let seconds = open.open_for.as_ref().map_or(0, |left| left.seconds + 1);
        return format!("left alone for {seconds} s after {} failures: {}", open.failed, backend.last_error);
    }
    let simulated = if backend.simulator { "simulator, " } else { "" };
    match backend.health() {
        BackendHealth::Unspecified => format!("{simulated}not asked yet"),
        BackendHealth::Healthy => format!("{simulated}healthy"),
        BackendHealth::Unhealthy => format!("{simulated}unhealthy: {}", backend.last_error),
    }
}
