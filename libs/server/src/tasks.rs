//! The owner of a component's background tasks.

use std::{future::Future, time::Duration};

use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument as _;

/// Background tasks with an owner that ends them: they see [`Tasks::stopping`], and [`Tasks::end`] waits for them.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stopping: CancellationToken,
}

impl Tasks {
    /// Runs a task until it ends by itself; it should watch [`Tasks::stopping`] if it is long. It belongs to the call
    /// that it was started in, if any: to its trace, and its log lines.
    pub fn spawn<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tracker.spawn(task.in_current_span());
    }

    /// Cancelled when the owner begins to end.
    pub fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    /// Tells the tasks to stop and waits for them, at most `grace`. True when all have ended.
    pub async fn end(&self, grace: Duration) -> bool {
        self.stopping.cancel();
        self.tracker.close();
        tokio::time::timeout(grace, self.tracker.wait()).await.is_ok()
    }
}
