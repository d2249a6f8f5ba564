//! Group commit: changes of concurrent calls share one transaction, so that a slow disk is waited for once for all
//! of them. A change is answered after its transaction is durable.
//!
//! There is no timer: while one transaction is made durable, the changes that come in the meantime queue up for the
//! next. An idle ledger commits a single change at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};
use tutti_error::{Error, Reason, Result};
use tutti_layers::CallContext;
use tutti_server::Tasks;
use tutti_telemetry::Metrics;
use tutti_types::{AttemptId, Scope, time::unix_micros};

use crate::{
    changes::Change,
    domain::{Micros, Refusal},
    store::{Commit, Store, Transaction},
};

/// When a caller that was refused should try again: a few commits later.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// How often a transaction is made anew that another replica was in the way of. It takes the same attempt, reserved for
/// the first time by both at the same moment, for that to happen once.
const ATTEMPTS: usize = 5;

/// Bounds of the group commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Changes that may wait for their transaction.
    pub queue: usize,
    /// Changes of one transaction.
    pub batch: usize,
}

/// What was written so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Transactions that became durable.
    pub commits: u64,
    /// Changes in them, refused ones included.
    pub changes: u64,
}

#[derive(Debug, Default)]
struct Counters {
    commits: AtomicU64,
    changes: AtomicU64,
}

/// The one way to change the books. Cheap to clone.
#[derive(Debug, Clone)]
pub struct GroupCommit {
    queue: mpsc::Sender<Box<dyn Pending>>,
    counters: Arc<Counters>,
}

impl GroupCommit {
    /// Starts the task that writes. When `tasks` end, it writes what is queued and refuses what comes later.
    pub fn start(store: Arc<dyn Store>, limits: Limits, tasks: &Tasks) -> Self {
        let (queue, waiting) = mpsc::channel(limits.queue.max(1));
        let counters = Arc::new(Counters::default());
        let writer = Writer { store, waiting, batch: limits.batch.max(1), counters: Arc::clone(&counters) };
        let stopping = tasks.stopping().clone();
        tasks.spawn(async move { writer.run(stopping).await });
        Self { queue, counters }
    }

    /// Makes a change, durable when this returns.
    ///
    /// # Errors
    /// The change's refusal (UNKNOWN_ATTEMPT, INVALID_REQUEST); OVERLOADED when too many changes wait;
    /// DEADLINE_EXCEEDED when the call's deadline came first: a settlement or release is recorded nevertheless, a
    /// reservation unless it was being written; STORE_UNAVAILABLE; SHUTTING_DOWN.
    pub async fn make<C: Change>(&self, call: &CallContext, change: C) -> Result<C::Answer> {
        let (reply, answer) = oneshot::channel();
        let queued = Queued { scope: call.scope.clone(), change, answer: None, reply };
        self.queue.try_send(Box::new(queued)).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => {
                Error::new(Reason::Overloaded, "too many changes wait for the ledger; try again")
                    .retry_after(RETRY_AFTER)
            }
            mpsc::error::TrySendError::Closed(_) => shutting_down(),
        })?;
        match timeout_at(Instant::from_std(call.deadline.instant()), answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(shutting_down()),
            Err(_) => Err(Error::new(Reason::DeadlineExceeded, "the deadline passed while the ledger was writing")),
        }
    }

    /// What was written so far.
    pub fn statistics(&self) -> Statistics {
        Statistics {
            commits: self.counters.commits.load(Ordering::Relaxed),
            changes: self.counters.changes.load(Ordering::Relaxed),
        }
    }
}

fn shutting_down() -> Error {
    Error::new(Reason::ShuttingDown, "the ledger is shutting down; try again").retry_after(RETRY_AFTER)
}

/// A change that waits, whatever its type.
#[async_trait]
trait Pending: Send {
    /// Whether nobody needs it any more.
    fn is_abandoned(&self) -> bool;
    /// What it changes.
    fn attempt(&self) -> (&Scope, AttemptId);
    /// Makes it and keeps its answer back.
    async fn make(&mut self, transaction: &mut dyn Transaction, now: Micros) -> Result<()>;
    /// Gives the answer, now that the fate of the transaction is known.
    fn answer(self: Box<Self>, committed: Result<()>);
}

struct Queued<C: Change> {
    scope: Scope,
    change: C,
    answer: Option<Result<C::Answer, Refusal>>,
    reply: oneshot::Sender<Result<C::Answer>>,
}

#[async_trait]
impl<C: Change> Pending for Queued<C> {
    fn is_abandoned(&self) -> bool {
        !C::OUTLIVES_CALLER && self.reply.is_closed()
    }

    fn attempt(&self) -> (&Scope, AttemptId) {
        (&self.scope, self.change.attempt())
    }

    async fn make(&mut self, transaction: &mut dyn Transaction, now: Micros) -> Result<()> {
        // A copy: the transaction may have to be made anew.
        self.answer = Some(self.change.clone().make(transaction, &self.scope, now).await?);
        Ok(())
    }

    fn answer(self: Box<Self>, committed: Result<()>) {
        let answer = match (committed, self.answer) {
            (Ok(()), Some(answer)) => answer.map_err(Error::from),
            (Err(error), _) => Err(error),
            (Ok(()), None) => Err(Error::internal("a change was committed that was never made")),
        };
        // The caller may be gone.
        let _ = self.reply.send(answer);
    }
}

struct Writer {
    store: Arc<dyn Store>,
    waiting: mpsc::Receiver<Box<dyn Pending>>,
    batch: usize,
    counters: Arc<Counters>,
}

impl Writer {
    async fn run(mut self, stopping: tokio_util::sync::CancellationToken) {
        let mut batch = Vec::with_capacity(self.batch);
        loop {
            let received = tokio::select! {
                received = self.waiting.recv_many(&mut batch, self.batch) => received,
                () = stopping.cancelled(), if !self.waiting.is_closed() => {
                    self.waiting.close();
                    continue;
                }
            };
            if received == 0 {
                return;
            }
            batch.retain(|pending| !pending.is_abandoned());
            if batch.is_empty() {
                continue;
            }
            let committed = self.commit(&mut batch).await;
            for pending in batch.drain(..) {
                pending.answer(committed.clone());
            }
        }
    }

    async fn commit(&self, batch: &mut [Box<dyn Pending>]) -> Result<()> {
        for _ in 0..ATTEMPTS {
            if self.try_commit(batch).await? == Commit::Durable {
                self.counters.commits.fetch_add(1, Ordering::Relaxed);
                self.counters.changes.fetch_add(batch.len() as u64, Ordering::Relaxed);
                #[expect(clippy::cast_precision_loss, reason = "a batch is far below 2^53")]
                metrics::histogram!(Metrics::BATCH).record(batch.len() as f64);
                return Ok(());
            }
        }
        Err(Error::new(Reason::StoreUnavailable, "other replicas were in the way of the ledger; try again"))
    }

    async fn try_commit(&self, batch: &mut [Box<dyn Pending>]) -> Result<Commit> {
        let now = unix_micros(SystemTime::now());
        let mut transaction = self.store.begin().await?;
        let attempts: Vec<_> = batch.iter().map(|pending| pending.attempt()).collect();
        transaction.expect(&attempts).await?;
        for pending in &mut *batch {
            pending.make(transaction.as_mut(), now).await?;
        }
        transaction.commit().await
    }
}
