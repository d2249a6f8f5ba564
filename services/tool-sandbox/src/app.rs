//! The composition of the service.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tutti_config::StorageConfig;
use tutti_error::{Error, Result};
use tutti_server::{Readiness, Services, Tasks};
use tutti_types::time;

use crate::{
    Config,
    domain::Category,
    engine::{Engine, Workspaces},
    grpc,
    store::{AuditStore, PostgresStore, SqliteStore},
    tools::Registry,
};

/// How long an idempotency key stands for its call, at least.
const CLAIM_LIFE: Duration = Duration::from_secs(24 * 3600);
/// How often those that are older are forgotten.
const PURGE_EVERY: Duration = Duration::from_secs(600);

/// The running service.
#[derive(Debug)]
pub struct App {
    engine: Arc<Engine>,
    registry: Arc<Registry>,
    store: Arc<dyn AuditStore>,
    tasks: Tasks,
    readiness: Readiness,
}

impl App {
    /// Opens the books and the workspaces. Waits for a Postgres that is away; `readiness` knows when it is, now and
    /// later.
    ///
    /// # Errors
    /// STORE_UNAVAILABLE; WORKSPACE_UNAVAILABLE when a configured folder can't be opened.
    pub async fn start(config: Config, data_dir: &Path, readiness: &Readiness) -> Result<Self> {
        let registry = Arc::new(Registry::built_in(&config)?);
        for entry in registry.all() {
            if entry.definition.category == Category::Execute && entry.disabled_because.is_none() {
                tracing::warn!(
                    tool = entry.definition.name,
                    "NO ISOLATION: tools.allow_unsandboxed is on, so this tool runs programs with all rights of this \
                     process: its files, its network, its processes; run it only where that is harmless"
                );
            }
        }
        // The store first: it makes the data folder for the owner alone.
        let store: Arc<dyn AuditStore> = match &config.storage {
            StorageConfig::Sqlite => Arc::new(SqliteStore::open(data_dir).await?),
            StorageConfig::Postgres(postgres) => Arc::new(PostgresStore::open(postgres, readiness).await?),
        };
        let (configured, data_dir) = (config.workspaces.clone(), data_dir.to_owned());
        let opening = tokio::task::spawn_blocking(move || Workspaces::open(&configured, &data_dir));
        let workspaces = opening.await.map_err(Error::internal)??;
        let tasks = Tasks::default();
        tasks.spawn(purge(store.clone(), tasks.clone()));
        let engine = Engine::new(config, registry.clone(), workspaces, store.clone(), tasks.clone());
        Ok(Self { engine: Arc::new(engine), registry, store, tasks, readiness: readiness.clone() })
    }

    /// The gRPC services.
    pub fn services(&self) -> Services {
        grpc::services(&self.engine, &self.registry, &self.store).ready_when(&self.readiness)
    }

    /// Ends running calls, with all they started, and closes the books. Takes at most `grace`, and what the books need.
    pub async fn stop(self, grace: Duration) {
        if !self.tasks.end(grace).await {
            tracing::warn!("tool calls were still running after the grace period");
        }
        self.store.close().await;
    }
}

/// Forgets old idempotency keys, at once and then every now and then.
async fn purge(store: Arc<dyn AuditStore>, tasks: Tasks) {
    loop {
        let before = time::unix_micros(SystemTime::now() - CLAIM_LIFE);
        match store.purge_claims(before).await {
            // There may be more.
            Ok(purged) if purged > 0 && !tasks.stopping().is_cancelled() => continue,
            Ok(_) => (),
            Err(error) => tracing::warn!(%error, "old idempotency keys could not be forgotten"),
        }
        tokio::select! {
            () = tokio::time::sleep(PURGE_EVERY) => (),
            () = tasks.stopping().cancelled() => return,
        }
    }
}
