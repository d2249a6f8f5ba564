//! What a service depends on, as its health shows it.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::watch;

/// Whether a service's dependencies can be reached. Its health is NOT_SERVING while one of them can't, so that callers
/// and orchestrators turn to other replicas; that of the process (the service named "") stays SERVING, for it lives.
///
/// Clones share their state: the store's keeper has one, the server another.
#[derive(Debug, Clone)]
pub struct Readiness {
    lost: Arc<watch::Sender<BTreeSet<&'static str>>>,
}

impl Default for Readiness {
    fn default() -> Self {
        Self { lost: Arc::new(watch::Sender::new(BTreeSet::new())) }
    }
}

impl Readiness {
    /// A dependency can't be reached: `why` goes to the log, once until it is back.
    pub fn lost(&self, dependency: &'static str, why: impl std::fmt::Display) {
        if self.lost.send_if_modified(|lost| lost.insert(dependency)) {
            tracing::warn!(dependency, "not ready: {why}");
        }
    }

    /// It can be reached again.
    pub fn restored(&self, dependency: &'static str) {
        if self.lost.send_if_modified(|lost| lost.remove(dependency)) {
            tracing::info!(dependency, "can be reached again");
        }
    }

    /// Whether all can be reached.
    pub fn is_ready(&self) -> bool {
        self.lost.borrow().is_empty()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<BTreeSet<&'static str>> {
        self.lost.subscribe()
    }
}
