//! `tutti health`: whether services and backends answer. Exits with an error when one does not.

use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tutti_proto::{
    gateway::v1::BackendHealth,
    router::v1::{ListBackendsRequest, router_service_client::RouterServiceClient},
};

use super::{Connection, Failure, backends, show, table::table};

/// The services that a whole mesh serves.
const SERVICES: [&str; 5] = [
    "tutti.router.v1.RouterService",
    "tutti.gateway.v1.GatewayService",
    "tutti.memory.v1.SessionService",
    "tutti.sandbox.v1.ToolService",
    "tutti.ledger.v1.LedgerService",
];

/// `tutti health`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    connection: Connection,
}

/// Asks everybody.
pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let channel = args.connection.channel()?;
    let mut health = HealthClient::new(channel.clone());
    let mut rows = Vec::new();
    let mut ill = Vec::new();
    for service in SERVICES {
        let asked = args.connection.request(HealthCheckRequest { service: service.to_owned() });
        let state = match health.check(asked).await {
            Ok(answer) if answer.get_ref().status() == ServingStatus::Serving => "serving",
            Ok(_) => "not serving",
            Err(status) if status.code() == Code::NotFound => "not served at this address",
            Err(status) => return Err(args.connection.failure(&status)),
        };
        if state == "not serving" {
            ill.push(service.to_owned());
        }
        rows.push([service.to_owned(), state.to_owned()]);
    }
    show(table(["service", "state"], &rows))?;

    let mut router = RouterServiceClient::new(channel);
    let asked = args.connection.request(ListBackendsRequest { probe: true });
    let listed = router.list_backends(asked).await.map_err(|s| args.connection.failure(&s))?.into_inner();
    show("\n")?;
    show(backends::render(&listed.backends, &listed.default_backend))?;
    ill.extend(
        listed.backends.iter().filter(|b| b.usable && b.health() == BackendHealth::Unhealthy).map(|b| b.name.clone()),
    );
    if ill.is_empty() { Ok(()) } else { Err(Failure(format!("not healthy: {}", ill.join(", ")))) }
}
