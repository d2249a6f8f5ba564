//! A turn as one of the runs of a call with an idempotency key, which an owner that died may have begun before.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use tutti_error::Result;
use tutti_proto::llm::v1::Attempt;
use tutti_types::TurnId;

/// Appends that an owner may have made to a session's log before it died. The next one numbers its own above them.
const APPENDS: u32 = 10_000;

/// What a turn knows of its call. The default is a turn of its own: nothing is kept of it.
#[derive(Clone)]
pub(crate) struct Run {
    /// Of the turn: the same for all runs of a call.
    pub(crate) id: TurnId,
    /// Which run it is, from 0.
    pub(crate) number: u32,
    /// What is known of attempts of the runs before.
    pub(crate) earlier: Vec<Attempt>,
    /// Attempts that the runs before may have sent, those that are known among them.
    pub(crate) spent: u32,
    /// Where it is noted, beforehand, what is going to be paid.
    pub(crate) journal: Option<Arc<dyn Journal>>,
    /// Another owner has taken the call over: nothing that this run does counts any more.
    pub(crate) lost: Lost,
}

impl Default for Run {
    fn default() -> Self {
        let (id, lost) = (TurnId::generate(), Lost::default());
        Self { id, number: 0, earlier: Vec::new(), spent: 0, journal: None, lost }
    }
}

impl Run {
    /// Number of the first append of tool rounds and answer to the session's log; the question's is 0 in every run.
    pub(crate) fn first_append(&self) -> u32 {
        self.number.saturating_mul(APPENDS) + 1
    }
}

/// Whether a run has lost its call.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lost(Arc<AtomicBool>);

impl Lost {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// What is noted of a call while it runs, so that whoever takes it over pays no more than its bounds allow.
#[async_trait]
pub(crate) trait Journal: Send + Sync {
    /// Notes that a generation begins, after which so many attempts may have been sent by all runs. Durable when this
    /// returns.
    ///
    /// # Errors
    /// STORE_UNAVAILABLE; SERVICE_UNAVAILABLE when another owner has taken the call over.
    async fn generating(&self, attempts: u32) -> Result<()>;

    /// Makes sure that the call is still the own one.
    ///
    /// # Errors
    /// As [`Journal::generating`].
    async fn check(&self) -> Result<()>;

    /// Notes an attempt of the generation; it is written with what is written next.
    fn sending(&self, attempt: &Attempt);
}
