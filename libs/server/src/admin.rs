//! The port for those who run the process: metrics, and whether it lives and is ready. Plain HTTP, without callers' data.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{Router, extract::State, routing::get};
use http::StatusCode;
use tokio_util::sync::CancellationToken;
use tutti_error::{Error, Result};
use tutti_telemetry::Scrape;

use crate::{Listening, Readiness};

/// Between two foldings of new values into the histograms.
const UPKEEP: Duration = Duration::from_secs(5);

/// What the port tells. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Admin {
    /// The metrics.
    pub(crate) scrape: Option<Scrape>,
    /// What the start waits for.
    pub(crate) readiness: Readiness,
    /// Set once the services have started, with what each depends on.
    started: Arc<OnceLock<Vec<(&'static str, Readiness)>>>,
    /// Cancelled when the process begins to stop.
    stopping: CancellationToken,
}

impl Admin {
    /// The services have started; what each depends on decides from now on.
    pub(crate) fn started(&self, services: Vec<(&'static str, Readiness)>) {
        let _ = self.started.set(services);
    }

    /// The process begins to stop.
    pub(crate) fn stopping(&self) {
        self.stopping.cancel();
    }

    /// What keeps the process from being ready: nothing when it is.
    fn missing(&self) -> Vec<String> {
        if self.stopping.is_cancelled() {
            return vec!["stopping".to_owned()];
        }
        let said = |name: &str, reasons: Vec<String>| [name.to_owned()].into_iter().chain(reasons).collect::<Vec<_>>();
        match self.started.get() {
            None => vec![said("starting", self.readiness.reasons()).join(": ")],
            Some(services) => {
                let unready = services.iter().filter(|(_, readiness)| !readiness.is_ready());
                unready.map(|(name, readiness)| said(name, readiness.reasons()).join(": ")).collect()
            }
        }
    }
}

/// Serves `/metrics`, `/livez` and `/readyz` until it is dropped.
///
/// # Errors
/// INTERNAL when the listener fails.
pub(crate) async fn serve(listening: Listening, admin: Admin) -> Result<()> {
    let scrape = admin.scrape.clone();
    let upkeep = async {
        let mut ticks = tokio::time::interval(UPKEEP);
        loop {
            ticks.tick().await;
            if let Some(scrape) = &scrape {
                scrape.upkeep();
            }
        }
    };
    tokio::select! {
        served = axum::serve(listening.listener, router(admin)) => served.map_err(|error| Error::internal(format!("the admin port failed: {error}"))),
        () = upkeep => Ok(()),
    }
}

fn router(admin: Admin) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(async || "live\n"))
        .route("/readyz", get(ready))
        .with_state(admin)
}

async fn metrics(State(admin): State<Admin>) -> ([(&'static str, &'static str); 1], String) {
    let text = admin.scrape.as_ref().map(Scrape::render).unwrap_or_default();
    ([("content-type", "text/plain; version=0.0.4; charset=utf-8")], text)
}

async fn ready(State(admin): State<Admin>) -> (StatusCode, String) {
    let missing = admin.missing();
    if missing.is_empty() {
        return (StatusCode::OK, "ready\n".into());
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", missing.join("; ")))
}

#[cfg(test)]
mod tests {
    use http::Request;
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    use super::*;

    async fn asked(admin: &Admin, path: &str) -> (u16, String) {
        let request = Request::builder().uri(path).body(axum::body::Body::empty()).unwrap();
        let response = router(admin.clone()).oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_process_lives_before_it_is_ready_and_after() {
        let admin = Admin::default();
        assert_eq!(asked(&admin, "/readyz").await, (503, "not ready: starting\n".into()));
        admin.readiness.lost("ledger store", "away");
        assert_eq!(asked(&admin, "/readyz").await, (503, "not ready: starting: ledger store: away\n".into()));
        let readiness = Readiness::default();
        admin.started(vec![("tutti.ledger.v1.LedgerService", readiness.clone())]);
        assert_eq!(asked(&admin, "/readyz").await, (200, "ready\n".into()));
        readiness.lost("ledger store", "gone");
        let unready = "not ready: tutti.ledger.v1.LedgerService: ledger store: gone\n";
        assert_eq!(asked(&admin, "/readyz").await, (503, unready.into()));
        readiness.restored("ledger store");
        admin.stopping();
        assert_eq!(asked(&admin, "/readyz").await, (503, "not ready: stopping\n".into()));
        assert_eq!(asked(&admin, "/livez").await.0, 200);
    }
}
