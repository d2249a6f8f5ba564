//! What a process depends on, as its health shows it.

use std::{collections::BTreeMap, fmt::Display, sync::Arc};

use tokio::sync::watch;

use crate::Metrics;

/// Whether what a service depends on can be reached. Its health is NOT_SERVING while one of these can't, so that callers
/// and orchestrators turn to other replicas; that of the process (the service named "") stays SERVING, for it lives.
///
/// Clones share their state: who keeps the store has one, the server another.
#[derive(Debug, Clone)]
pub struct Readiness {
    /// Why each can't be reached, for those that run the process: with addresses, without secrets.
    lost: Arc<watch::Sender<BTreeMap<String, String>>>,
}

impl Default for Readiness {
    fn default() -> Self {
        Self { lost: Arc::new(watch::Sender::new(BTreeMap::new())) }
    }
}

impl Readiness {
    /// A dependency, for instance `ledger store`, can't be reached: `why` goes to the log, once until it is back, and
    /// to `/readyz`, each time anew.
    pub fn lost(&self, dependency: &str, why: impl Display) {
        let first = self.lost.send_if_modified(|lost| lost.insert(dependency.to_owned(), why.to_string()).is_none());
        if first {
            set_up(dependency, 0.0);
            tracing::warn!(dependency, "not ready: {why}");
        }
    }

    /// It can be reached again.
    pub fn restored(&self, dependency: &str) {
        if self.lost.send_if_modified(|lost| lost.remove(dependency).is_some()) {
            set_up(dependency, 1.0);
            tracing::info!(dependency, "can be reached again");
        }
    }

    /// Whether all can be reached.
    pub fn is_ready(&self) -> bool {
        self.lost.borrow().is_empty()
    }

    /// What can't be reached, each with the reason: `ledger store: Postgres at … is away`.
    pub fn reasons(&self) -> Vec<String> {
        self.lost.borrow().iter().map(|(dependency, why)| format!("{dependency}: {why}")).collect()
    }

    /// Ends when something is lost, at once if it is already.
    pub async fn until_lost(&self) {
        // The sender lives as long as we do.
        let _ = self.lost.subscribe().wait_for(|lost| !lost.is_empty()).await;
    }

    /// Changes whenever [`Readiness::is_ready`] may have.
    pub fn watch(&self) -> Changes {
        Changes(self.lost.subscribe())
    }
}

fn set_up(dependency: &str, value: f64) {
    metrics::gauge!(Metrics::DEPENDENCY_UP, "dependency" => dependency.to_owned()).set(value);
}

/// The changes of a [`Readiness`].
#[derive(Debug)]
pub struct Changes(watch::Receiver<BTreeMap<String, String>>);

impl Changes {
    /// Whether all can be reached, as of now; the next change is one after this.
    pub fn is_ready(&mut self) -> bool {
        self.0.borrow_and_update().is_empty()
    }

    /// Waits for a change. False when there will be none any more.
    pub async fn changed(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn reasons_are_kept_until_what_was_lost_is_back() {
        let readiness = Readiness::default();
        let mut changes = readiness.watch();
        assert!(changes.is_ready());
        let shown = Metrics::of(|| readiness.lost("ledger store", "refused"));
        assert!(shown.contains("tutti_dependency_up{dependency=\"ledger store\"} 0"), "{shown}");
        readiness.lost("ledger store", "silent");
        readiness.lost("memory store", "refused");
        readiness.until_lost().await;
        assert!(changes.changed().await && !changes.is_ready() && !readiness.is_ready());
        assert_eq!(readiness.reasons(), ["ledger store: silent", "memory store: refused"]);
        readiness.restored("memory store");
        let shown = Metrics::of(|| readiness.restored("ledger store"));
        assert!(shown.contains("tutti_dependency_up{dependency=\"ledger store\"} 1"), "{shown}");
        assert!(changes.is_ready() && readiness.reasons().is_empty());
    }
}
