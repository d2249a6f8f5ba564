//! `grpc.health.v1`: a status for each service, and one for the process under the empty name.

use futures::future::join_all;
use tokio_util::sync::CancellationToken;
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::Readiness;

/// Says of every service whether it is ready until `shutdown`, and from then on that nothing is served.
#[derive(Debug)]
pub(crate) struct Health {
    reporter: HealthReporter,
    services: Vec<(&'static str, Readiness)>,
}

impl Health {
    /// With the first statuses said.
    pub(crate) async fn new(reporter: HealthReporter, services: Vec<(&'static str, Readiness)>) -> Self {
        let health = Self { reporter, services };
        for (name, readiness) in &health.services {
            health.say(name, readiness.is_ready()).await;
        }
        health
    }

    /// Ends when everybody who asks is told NOT_SERVING.
    pub(crate) async fn follow(self, shutdown: CancellationToken) {
        let followers = self.services.iter().map(|(name, readiness)| self.follow_one(name, readiness));
        shutdown.run_until_cancelled(join_all(followers)).await;
        shutdown.cancelled().await;
        for (name, _) in &self.services {
            self.say(name, false).await;
        }
        self.say("", false).await;
    }

    async fn follow_one(&self, name: &str, readiness: &Readiness) {
        let mut changes = readiness.watch();
        loop {
            let is_ready = changes.is_ready();
            self.say(name, is_ready).await;
            if !changes.changed().await {
                break;
            }
        }
    }

    async fn say(&self, name: &str, is_ready: bool) {
        let status = if is_ready { ServingStatus::Serving } else { ServingStatus::NotServing };
        self.reporter.set_service_status(name, status).await;
    }
}
