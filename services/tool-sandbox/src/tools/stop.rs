//! What ends a call early.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tutti_error::Reason;
use tutti_types::Deadline;

use crate::domain::Failure;

/// The four ways in which a call is ended from outside.
#[derive(Debug, Clone)]
pub(crate) struct Stop {
    /// The caller went away.
    pub(crate) cancelled: CancellationToken,
    /// The process shuts down.
    pub(crate) stopping: CancellationToken,
    /// The caller's deadline.
    pub(crate) deadline: Deadline,
    /// The tool's own timeout, and when it is over.
    pub(crate) timeout: (Duration, Deadline),
}

impl Stop {
    /// Waits until the call must end, and says why.
    pub(crate) async fn wait(&self) -> Failure {
        let (timeout, over) = self.timeout;
        tokio::select! {
            biased;
            () = sleep_until(Instant::from_std(over.instant())) => {
                Failure::new(Reason::ToolTimeout, format!("the tool ran longer than its timeout of {timeout:?} and was ended"))
            }
            () = sleep_until(Instant::from_std(self.deadline.instant())) => {
                Failure::new(Reason::DeadlineExceeded, "the caller's deadline passed")
            }
            () = self.cancelled.cancelled() => cancelled(),
            () = self.stopping.cancelled() => Failure::new(Reason::ShuttingDown, "the tool sandbox is shutting down"),
        }
    }
}

pub(super) fn cancelled() -> Failure {
    Failure::new(Reason::Cancelled, "the caller went away")
}
