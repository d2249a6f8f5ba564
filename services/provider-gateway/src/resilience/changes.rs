//! Tells those who watch the backends that there is something to look at.

use tokio::sync::watch;

/// Shared by everything whose state is watched. Nothing is queued: whoever is slow sees the newest state once.
#[derive(Debug, Clone)]
pub(crate) struct Changes(watch::Sender<u64>);

impl Changes {
    /// Nobody watches yet.
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(0))
    }

    /// Something has changed.
    pub(crate) fn tell(&self) {
        self.0.send_modify(|version| *version = version.wrapping_add(1));
    }

    /// Notices all that changes from now on.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}
