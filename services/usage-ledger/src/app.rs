//! The composition root: store, writer, expiry, services.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::MissedTickBehavior;
use tutti_config::StorageConfig;
use tutti_error::Result;
use tutti_server::{Readiness, Services, Tasks};
use tutti_types::time::unix_micros;

use crate::{
    Config,
    changes::expire_holds,
    group_commit::{GroupCommit, Statistics},
    grpc,
    store::{PostgresStore, SqliteStore, Store},
};

/// The ledger, running.
#[derive(Debug)]
pub struct App {
    store: Arc<dyn Store>,
    writer: GroupCommit,
    tasks: Tasks,
    readiness: Readiness,
}

impl App {
    /// Opens the books, in `<data_dir>/ledger.db` or Postgres, and starts. Waits for a Postgres that is away; `readiness` knows
    /// when it is, now and later.
    ///
    /// # Errors
    /// STORE_UNAVAILABLE when the folder or the database can't be used; the message says why.
    pub async fn start(config: Config, data_dir: &Path, readiness: &Readiness) -> Result<Self> {
        let store: Arc<dyn Store> = match &config.storage {
            StorageConfig::Sqlite => Arc::new(SqliteStore::open(data_dir).await?),
            StorageConfig::Postgres(postgres) => Arc::new(PostgresStore::open(postgres, readiness).await?),
        };
        Ok(Self { readiness: readiness.clone(), ..Self::with_store(&config, store) })
    }

    /// Starts on a store that is open.
    pub fn with_store(config: &Config, store: Arc<dyn Store>) -> Self {
        let tasks = Tasks::default();
        let writer = GroupCommit::start(Arc::clone(&store), config.limits, &tasks);
        tasks.spawn(expire(Arc::clone(&store), config.expiry_interval, tasks.stopping().clone()));
        Self { store, writer, tasks, readiness: Readiness::default() }
    }

    /// `tutti.ledger.v1.LedgerService`.
    pub fn services(&self) -> Services {
        grpc::services(Arc::clone(&self.store), self.writer.clone()).ready_when(&self.readiness)
    }

    /// What the group commit wrote so far.
    pub fn statistics(&self) -> Statistics {
        self.writer.statistics()
    }

    /// Writes what is queued, then closes the store. Takes at most about `grace`.
    pub async fn stop(self, grace: Duration) {
        if !self.tasks.end(grace).await {
            tracing::warn!("the ledger was still writing after the grace period");
        }
        self.store.close().await;
    }
}

/// Looks for expired holds now and then: the first time at once, for those that expired while nobody was running.
async fn expire(store: Arc<dyn Store>, interval: Duration, stopping: tokio_util::sync::CancellationToken) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stopping.cancelled() => return,
            _ = ticks.tick() => (),
        }
        match expire_holds(store.as_ref(), unix_micros(SystemTime::now())).await {
            Ok(0) => (),
            Ok(expired) => tracing::warn!(expired, "settlements never came; the worst case is assumed"),
            Err(error) => tracing::warn!(%error, "expired holds could not be looked for; trying again"),
        }
    }
}
