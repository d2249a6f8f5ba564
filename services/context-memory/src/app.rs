//! The composition root: store, handlers, generated servers.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio_util::sync::CancellationToken;
use tutti_config::StorageConfig;
use tutti_error::Result;
use tutti_layers::MAX_MESSAGE_BYTES;
use tutti_proto::memory::v1::session_service_server::SessionServiceServer;
use tutti_server::{Readiness, Services, Tasks};
use tutti_types::time;

use crate::{
    Config,
    grpc::Sessions,
    store::{PostgresStore, SqliteStore, Store},
};

/// An open turn without an append for so long has been abandoned: its router died. Longer than any answer takes.
const ABANDONED: Duration = Duration::from_secs(3600);
/// How often abandoned turns are looked for.
const LOOK: Duration = Duration::from_secs(300);

/// A running context-memory.
pub struct App {
    config: Config,
    store: Arc<dyn Store>,
    tasks: Tasks,
    readiness: Readiness,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("config", &self.config).finish_non_exhaustive()
    }
}

impl App {
    /// Opens the store, in the data folder or in Postgres, which it waits for; `readiness` knows when it is away, now
    /// and later. Turns that nobody will close are marked as incomplete: with an embedded router all that are open, else
    /// those of a certain age.
    ///
    /// # Errors
    /// STORE_UNAVAILABLE when the folder is in use, can't be written, or holds a newer schema, and when the database
    /// refuses us or does not hold the schema that this version knows.
    pub async fn start(config: Config, data_dir: &Path, readiness: &Readiness) -> Result<Self> {
        let (store, shared): (Arc<dyn Store>, bool) = match &config.storage {
            StorageConfig::Sqlite => (Arc::new(SqliteStore::open(data_dir).await?), false),
            StorageConfig::Postgres(postgres) => (Arc::new(PostgresStore::open(postgres, readiness).await?), true),
        };
        // What other processes share may have turns of theirs.
        close_abandoned(&*store, if config.embedded && !shared { Duration::ZERO } else { ABANDONED }).await?;
        let tasks = Tasks::default();
        tasks.spawn(keep_closing(Arc::clone(&store), tasks.stopping().clone()));
        Ok(Self { config, store, tasks, readiness: readiness.clone() })
    }

    /// The generated servers.
    pub fn services(&self) -> Services {
        let sessions = Sessions { store: Arc::clone(&self.store), caps: self.config.caps };
        let server = SessionServiceServer::new(sessions)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        Services::default().with(server).ready_when(&self.readiness)
    }

    /// Closes the store, at most within `grace`.
    pub async fn stop(self, grace: Duration) {
        let close = async {
            self.tasks.end(grace).await;
            self.store.close().await;
        };
        if tokio::time::timeout(grace, close).await.is_err() {
            tracing::warn!("the memory store was still busy at the end of the grace period");
        }
    }
}

async fn close_abandoned(store: &dyn Store, age: Duration) -> Result<()> {
    let closed = store.close_abandoned(time::unix_micros(SystemTime::now() - age)).await?;
    if closed > 0 {
        tracing::info!(closed, "open turns that nobody goes on with were marked as incomplete");
    }
    Ok(())
}

async fn keep_closing(store: Arc<dyn Store>, stopping: CancellationToken) {
    loop {
        tokio::select! {
            () = stopping.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        if let Err(error) = close_abandoned(&*store, ABANDONED).await {
            tracing::warn!(%error, "abandoned turns could not be closed");
        }
    }
}
