//! The composition root: everything the gateway is made of, put together once.

use std::{path::Path, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use tutti_client::Channel;
use tutti_error::{Error, Reason, Result};
use tutti_layers::MAX_MESSAGE_BYTES;
use tutti_proto::gateway::v1::gateway_service_server::GatewayServiceServer;
use tutti_server::{Services, Tasks};

use crate::{
    backends::Backends,
    clients::ledger::{Ledger, LedgerClient},
    config::Config,
    domain::catalogue::Catalogue,
    grpc::Grpc,
    resilience::{Changes, Limits, rotation},
    settle::Settler,
    spool::Spool,
};

/// The folder of the spool in the data folder.
const SPOOL: &str = "gateway-spool";

/// The provider gateway, running.
#[derive(Debug)]
pub struct App {
    gateway: Arc<Gateway>,
}

/// What all calls share.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) backends: Backends,
    /// Of the backends' state.
    pub(crate) changes: Changes,
    pub(crate) catalogue: Catalogue,
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) settler: Settler,
    pub(crate) limits: Limits,
    pub(crate) tasks: Tasks,
    /// Cancelled when the server lets its last calls end: streams without an end of their own end then.
    pub(crate) draining: CancellationToken,
}

impl App {
    /// Starts the gateway. The process must have installed a rustls provider before.
    ///
    /// # Errors
    /// STORE_UNAVAILABLE when the spool in `data_dir` can't be used; INTERNAL when TLS can't be set up.
    pub async fn start(config: Config, data_dir: &Path, ledger: Channel) -> Result<Self> {
        Self::start_with(&config, data_dir, Arc::new(LedgerClient::new(ledger))).await
    }

    /// Starts the gateway with any ledger.
    ///
    /// # Errors
    /// As [`App::start`].
    pub async fn start_with(config: &Config, data_dir: &Path, ledger: Arc<dyn Ledger>) -> Result<Self> {
        let catalogue = Catalogue::with(&config.models).map_err(Error::internal)?;
        let changes = Changes::new();
        let backends = Backends::new(config, &changes)?;
        let dir = data_dir.join(SPOOL);
        let spool = tokio::task::spawn_blocking(move || Spool::open(&dir)).await.map_err(Error::internal)?;
        let spool = spool.map_err(|error| {
            let dir = data_dir.join(SPOOL);
            Error::new(Reason::StoreUnavailable, format!("the spool folder {} can't be used: {error}", dir.display()))
        })?;
        let tasks = Tasks::default();
        let draining = CancellationToken::new();
        let limits = Limits::start(config.redis.as_ref(), &tasks)?;
        let settler = Settler::start(Arc::clone(&ledger), spool, &tasks);
        let gateway = Arc::new(Gateway { backends, changes, catalogue, ledger, settler, limits, tasks, draining });
        if let Some(source) = &config.source {
            gateway.tasks.spawn(rotation::follow(Arc::clone(&gateway), source.clone()));
        }
        Ok(Self { gateway })
    }

    /// The generated server.
    pub fn services(&self) -> Services {
        let server = GatewayServiceServer::new(Grpc::new(Arc::clone(&self.gateway)))
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        Services::default().with(server).draining(&self.gateway.draining)
    }

    /// Ends the gateway after the last call: what is still to be settled is told to the ledger, or kept on disk for the
    /// next process. The ledger should still be there.
    pub async fn stop(self, grace: Duration) {
        self.gateway.draining.cancel();
        if !self.gateway.tasks.end(grace).await {
            tracing::warn!("settlements were still on their way; their holds will expire into assumed records");
        }
        self.gateway.limits.stop().await;
    }
}
