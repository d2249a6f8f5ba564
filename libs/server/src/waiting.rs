//! A process that waits for what it depends on before it can start: it answers probes, and refuses calls.

use std::convert::Infallible;

use tokio_util::sync::CancellationToken;
use tonic_health::{ServingStatus, server::health_reporter};
use tutti_error::{Error, Reason, Result};

use crate::{
    Listening, Readiness, ServeOptions, Services,
    serve::{run, transport},
};

/// As soon as something is lost, and until it is dropped: the process lives, none of its `services` is there yet, and
/// every call is refused with STORE_UNAVAILABLE. A start that waits for nothing never gets here: its callers wait in
/// the listener's queue for a moment.
///
/// # Errors
/// INTERNAL when the transport fails.
pub(crate) async fn serve(
    listening: &Listening,
    services: &[&'static str],
    options: ServeOptions,
    readiness: &Readiness,
) -> Result<Infallible> {
    readiness.until_lost().await;
    let (reporter, health) = health_reporter();
    for name in services {
        reporter.set_service_status(name, ServingStatus::NotServing).await;
    }
    let network = Services::default().with(health).refusing_others(refusal);
    let transport = transport(options.max_connection_age).accept_http1(true);
    // Whoever asked for the service's health meanwhile asks again over a new connection.
    let never = CancellationToken::new();
    run(transport, listening.again()?, network, never.clone().cancelled_owned(), (options, never)).await?;
    Err(Error::internal("the listener ended while the process was waiting"))
}

/// What callers get: the log and `/readyz` say more.
fn refusal() -> Error {
    Error::new(Reason::StoreUnavailable, "the service is starting and its store is away; try again")
}
