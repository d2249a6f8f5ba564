//! Rate limits: one truth for all replicas in Redis, or in process.
//!
//! A [`Limiter`] answers at once whether a call may be made now, and if not, how long to wait. Several windows hold at
//! the same time, each in requests or in tokens; tokens are taken by an estimate and put right afterwards. [`Local`]
//! counts in this process; [`Redis`] counts for all replicas, and never takes longer than its budget: without Redis
//! each replica keeps to its share.
//!
//! The algorithm is GCRA, a leaky bucket that stores one time stamp a window: see [`Window`] for what it promises.

mod counts;
mod gcra;
mod local;
mod redis;
mod window;

use std::{fmt::Debug, time::Duration};

use async_trait::async_trait;

pub use counts::Counts;
pub use local::Local;
pub use redis::{InvalidUrl, Redis, RedisOptions};
pub use window::{Amount, Correction, InvalidWindow, Unit, Window};

/// What a limiter says to a call that wants to be made now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It may be made, and is charged.
    Allowed {
        /// What could still be taken at once: in each unit the least of its windows, [`u64::MAX`] without one.
        remaining: Amount,
    },
    /// It may not be made, and nothing is charged. After this time it may, if nobody else comes first.
    Wait(Duration),
}

impl Decision {
    /// Whether the call may be made.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed { .. })
    }
}

/// Decides how much may be done in a time, for each key by itself.
///
/// A key names what is limited, for instance a backend or a caller; it holds one window of each unit and length. All
/// calls for a key should give the same windows; a changed limit applies from the next call.
///
/// Neither method fails or waits for long: an adapter whose shared state is away answers by itself.
#[async_trait]
pub trait Limiter: Debug + Send + Sync {
    /// Takes `cost` from all `windows` of `key`, or from none of them.
    async fn take(&self, key: &str, cost: Amount, windows: &[Window]) -> Decision;

    /// Puts right what an earlier [`take`](Limiter::take) charged: adds what was spent beyond it, gives back what was
    /// not spent. Never refused; what was overspent makes later calls wait.
    async fn correct(&self, key: &str, correction: Correction, windows: &[Window]);

    /// Forgets what `key` owes, as if nothing had been taken.
    async fn reset(&self, key: &str);

    /// What has been decided since the start, for metrics.
    fn counts(&self) -> Counts;

    /// The last call was made: leaves those who share the limits, at once instead of when its last sign of life is too
    /// old.
    async fn stop(&self) {}
}
