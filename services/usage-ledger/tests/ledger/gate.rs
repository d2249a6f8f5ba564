//! A store whose disk is stuck while its gate is shut.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Semaphore;
use tutti_error::{Error, Reason, Result};
use tutti_types::Scope;
use usage_ledger::{
    domain::{Cursor, Dimension, Filter, Group, Micros, Page},
    store::{Store, Transaction},
};

#[derive(Debug)]
pub(crate) struct Gate {
    store: Arc<dyn Store>,
    /// One permit for each transaction that may begin; closed when all fail.
    permits: Semaphore,
    /// One permit for each that has come to the gate.
    waiting: Semaphore,
}

impl Gate {
    pub(crate) fn shut(store: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self { store, permits: Semaphore::new(0), waiting: Semaphore::new(0) })
    }

    /// Lets all pass from now on.
    pub(crate) fn open(&self) {
        self.permits.add_permits(1 << 20);
    }

    /// Fails all from now on.
    pub(crate) fn break_down(&self) {
        self.permits.close();
    }

    /// Waits until one more transaction stands before the gate.
    pub(crate) async fn reached(&self) {
        self.waiting.acquire().await.unwrap().forget();
    }

    async fn pass(&self) -> Result<()> {
        self.waiting.add_permits(1);
        match self.permits.acquire().await {
            Ok(permit) => {
                permit.forget();
                Ok(())
            }
            Err(_) => Err(Error::new(Reason::StoreUnavailable, "the disk is broken")),
        }
    }
}

#[async_trait]
impl Store for Gate {
    async fn begin(&self) -> Result<Box<dyn Transaction>> {
        self.pass().await?;
        self.store.begin().await
    }

    async fn orgs_with_due_holds(&self, now: Micros) -> Result<Vec<String>> {
        self.store.orgs_with_due_holds(now).await
    }

    async fn usage(&self, scope: &Scope, filter: &Filter, by: &[Dimension], limit: u32) -> Result<Vec<Group>> {
        self.pass().await?;
        self.store.usage(scope, filter, by, limit).await
    }

    async fn list(&self, scope: &Scope, filter: &Filter, size: u32, after: Option<Cursor>) -> Result<Page> {
        self.pass().await?;
        self.store.list(scope, filter, size, after).await
    }

    async fn close(&self) {
        self.store.close().await;
    }
}
