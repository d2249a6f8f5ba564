//! The composition root: store, handlers, generated servers.

use std::{path::Path, sync::Arc, time::Duration};

use tutti_error::Result;
use tutti_layers::MAX_MESSAGE_BYTES;
use tutti_proto::memory::v1::session_service_server::SessionServiceServer;
use tutti_server::Services;

use crate::{
    Config,
    grpc::Sessions,
    store::{SqliteStore, Store},
};

/// A running context-memory.
pub struct App {
    config: Config,
    store: Arc<dyn Store>,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("config", &self.config).finish_non_exhaustive()
    }
}

impl App {
    /// Opens the store in the data folder.
    ///
    /// # Errors
    /// STORE_UNAVAILABLE when the folder is in use, can't be written, or holds a newer schema.
    pub async fn start(config: Config, data_dir: &Path) -> Result<Self> {
        let store = Arc::new(SqliteStore::open(data_dir).await?);
        Ok(Self { config, store })
    }

    /// The generated servers.
    pub fn services(&self) -> Services {
        let sessions = Sessions { store: Arc::clone(&self.store), caps: self.config.caps };
        Services::default().with(
            SessionServiceServer::new(sessions)
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_MESSAGE_BYTES),
        )
    }

    /// Closes the store, at most within `grace`.
    pub async fn stop(self, grace: Duration) {
        if tokio::time::timeout(grace, self.store.close()).await.is_err() {
            tracing::warn!("the memory store was still busy at the end of the grace period");
        }
    }
}
