//! What was decided, counted.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::Decision;

/// Numbers since the start of a limiter, for whoever publishes metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls that were allowed.
    pub allowed: u64,
    /// Calls that were told to wait.
    pub waits: u64,
    /// Of both, those that this process decided by its share, because Redis did not answer in time.
    pub by_share: u64,
    /// Charges and corrections that Redis did not take within the budget.
    pub timeouts: u64,
    /// Charges and corrections that failed otherwise: a refused or broken connection, an error of Redis.
    pub failures: u64,
    /// How often Redis was given up, until it answered again.
    pub outages: u64,
    /// Processes seen sharing the limits, at the last look; 1 in process.
    pub replicas: u64,
}

/// The numbers while they grow.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    allowed: AtomicU64,
    waits: AtomicU64,
    pub(crate) by_share: AtomicU64,
    pub(crate) timeouts: AtomicU64,
    pub(crate) failures: AtomicU64,
    pub(crate) outages: AtomicU64,
}

impl Tally {
    pub(crate) fn decided(&self, decision: &Decision) {
        increment(if decision.is_allowed() { &self.allowed } else { &self.waits });
    }

    pub(crate) fn read(&self, replicas: u64) -> Counts {
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        Counts {
            allowed: read(&self.allowed),
            waits: read(&self.waits),
            by_share: read(&self.by_share),
            timeouts: read(&self.timeouts),
            failures: read(&self.failures),
            outages: read(&self.outages),
            replicas,
        }
    }
}

pub(crate) fn increment(number: &AtomicU64) {
    number.fetch_add(1, Ordering::Relaxed);
}
