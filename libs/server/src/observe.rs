//! How a process is observed: its log, its traces, and the port for metrics and probes.

use std::{net::SocketAddr, time::Duration};

use tokio_util::task::AbortOnDropHandle;
use tutti_config::{GeneralConfig, LogFormat, Reader, ServerConfig, TelemetryConfig};
use tutti_error::{Error, Result};
use tutti_telemetry::{Metrics, Options, Telemetry, TraceOptions};

use crate::{
    admin::{self, Admin},
    bind,
};

/// What was configured.
#[derive(Debug)]
pub(crate) struct Observe {
    options: Options,
    admin: Option<SocketAddr>,
}

impl Observe {
    /// Reads `[telemetry]`; `name` is what traces call the process.
    pub(crate) fn read(reader: &Reader, name: &str, general: &GeneralConfig, server: &ServerConfig) -> Self {
        let telemetry = TelemetryConfig::read(reader);
        let traces = telemetry.otlp_endpoint.map(|endpoint| TraceOptions {
            endpoint,
            service_name: name.to_owned(),
            sample_ratio: telemetry.sample_ratio,
            queue: telemetry.max_queued_spans,
            capture_content: telemetry.capture_content,
            redact: telemetry.redact,
        });
        let log_format = match general.log_format {
            LogFormat::Text => tutti_telemetry::LogFormat::Text,
            LogFormat::Json => tutti_telemetry::LogFormat::Json,
        };
        let options = Options { log_level: general.log_level.clone(), log_format, traces };
        Self { options, admin: server.admin_listen }
    }

    /// Starts it all, before the services: what they wait for is logged, and probes are answered meanwhile.
    ///
    /// # Errors
    /// INTERNAL when spans can't be sent as configured, or the admin port is taken.
    pub(crate) async fn start(self) -> Result<Observed> {
        let telemetry = tutti_telemetry::start(&self.options).map_err(Error::internal)?;
        let mut observed = Observed { telemetry, admin: Admin::default(), _port: None };
        if let Some(address) = self.admin {
            let listening = bind(address).await?;
            tracing::info!(address = %listening.address, "metrics and probes");
            observed.admin.scrape = Metrics::install();
            let serving = admin::serve(listening, observed.admin.clone());
            // Ends with what is returned.
            #[allow(clippy::disallowed_methods)]
            let port = tokio::spawn(async move {
                if let Err(error) = serving.await {
                    tracing::error!(%error, "no metrics and probes from now on");
                }
            });
            observed._port = Some(AbortOnDropHandle::new(port));
        }
        Ok(observed)
    }
}

/// A process that is observed until this is stopped.
#[derive(Debug)]
pub(crate) struct Observed {
    telemetry: Telemetry,
    pub(crate) admin: Admin,
    _port: Option<AbortOnDropHandle<()>>,
}

impl Observed {
    /// Sends the last spans, at most for `grace`.
    pub(crate) async fn stop(self, grace: Duration) {
        self.telemetry.stop(grace).await;
    }
}
