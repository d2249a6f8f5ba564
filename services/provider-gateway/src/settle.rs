//! Tells the ledger how attempts ended, off the caller's path: retried, and spooled to disk while the ledger is away.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use backon::{ExponentialBuilder, Retryable as _};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures::{StreamExt as _, stream};
use prost::Message as _;
use tokio::sync::{
    Notify,
    mpsc::{Receiver, Sender, channel},
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span};
use tutti_error::{Error, Reason, Result};
use tutti_layers::CallContext;
use tutti_proto::ledger::v1::{ReleaseRequest, SettleRequest};
use tutti_server::Tasks;
use tutti_telemetry::Current;
use tutti_types::{Deadline, Scope};

use crate::{
    clients::ledger::Ledger,
    spool::{Kind, Record, Spool},
};

/// What waits in memory; more goes to disk at once.
const QUEUE: usize = 4096;
/// Settlements on the way to the ledger at a time.
const CONCURRENT: usize = 32;
/// For one call of the ledger.
const TIMEOUT: Duration = Duration::from_secs(10);
/// For the last call of a process that stops.
const LAST_TIMEOUT: Duration = Duration::from_secs(1);
/// Between two tries to empty the spool.
const REPLAY_EVERY: Duration = Duration::from_secs(1);

/// One thing to tell the ledger.
#[derive(Debug, Clone)]
pub(crate) struct Ending {
    /// Whose attempt it was.
    pub(crate) scope: Scope,
    /// What became of it.
    pub(crate) what: What,
    /// The attempt's place in its trace, unless that is forgotten.
    pub(crate) place: Option<Current>,
}

/// What became of an attempt.
#[derive(Debug, Clone)]
pub(crate) enum What {
    /// It used something.
    Settle(Box<SettleRequest>),
    /// It was never sent.
    Release(ReleaseRequest),
    /// Nobody knows whether there is a hold at all: ended if the ledger is there, else left to expire. Not spooled, so
    /// that calls refused while the ledger is away don't fill the disk.
    ReleaseIfHeld(ReleaseRequest),
}

/// Takes endings without ever blocking the caller or failing.
#[derive(Debug, Clone)]
pub(crate) struct Settler {
    queue: Sender<Ending>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    ledger: Arc<dyn Ledger>,
    spool: Arc<Spool>,
    /// The last call failed for want of a ledger: no use to try each ending several times.
    away: AtomicBool,
    /// There may be something to replay.
    replay: Notify,
    stopping: CancellationToken,
}

impl Settler {
    /// Starts the two tasks: one delivers, one replays what the spool holds, beginning with what earlier processes left.
    pub(crate) fn start(ledger: Arc<dyn Ledger>, spool: Spool, tasks: &Tasks) -> Self {
        let (queue, endings) = channel(QUEUE);
        let stopping = tasks.stopping().clone();
        let shared = Arc::new(Shared {
            ledger,
            spool: Arc::new(spool),
            away: AtomicBool::new(false),
            replay: Notify::new(),
            stopping,
        });
        tasks.spawn(deliver_all(Arc::clone(&shared), endings));
        tasks.spawn(replay_all(Arc::clone(&shared)));
        Self { queue, shared }
    }

    /// Hands an ending over.
    pub(crate) fn submit(&self, ending: Ending) {
        // Full or stopped: the disk takes it. That blocks this thread for one sync, and is rare by construction.
        if let Err(refused) = self.queue.try_send(ending) {
            keep(&self.shared.spool, &refused.into_inner());
        }
    }
}

/// Delivers until the owner stops, then what is left in the queue.
async fn deliver_all(shared: Arc<Shared>, endings: Receiver<Ending>) {
    let stopping = shared.stopping.clone();
    let endings = stream::unfold((endings, stopping), |(mut endings, stopping)| async move {
        let next = tokio::select! {
            next = endings.recv() => next,
            () = stopping.cancelled() => {
                endings.close();
                endings.recv().await
            }
        };
        next.map(|ending| (ending, (endings, stopping)))
    });
    endings.for_each_concurrent(CONCURRENT, |ending| shared.deliver(ending)).await;
}

async fn replay_all(shared: Arc<Shared>) {
    while !shared.stopping.is_cancelled() {
        if shared.on_disk(|spool| !spool.is_empty()).await == Some(true)
            && let Err(error) = shared.replay().await
        {
            tracing::debug!(%error, "the spool waits for the ledger");
        }
        tokio::select! {
            () = shared.stopping.cancelled() => return,
            () = shared.replay.notified() => {}
            // Only needed while something waits; cheap when nothing does.
            () = tokio::time::sleep(REPLAY_EVERY) => {}
        }
    }
}

impl Shared {
    async fn deliver(&self, ending: Ending) {
        let retries = if self.away.load(Ordering::Relaxed) { 0 } else { 4 };
        let backoff = ExponentialBuilder::default().with_min_delay(Duration::from_millis(50)).with_max_times(retries);
        let trying = (|| self.send(&ending, TIMEOUT)).retry(backoff.with_jitter()).when(is_transient);
        let sent = tokio::select! {
            sent = trying => sent,
            () = self.stopping.cancelled() => self.send(&ending, LAST_TIMEOUT).await,
        };
        match sent {
            Ok(()) => {
                if self.away.swap(false, Ordering::Relaxed) {
                    self.replay.notify_one();
                }
            }
            Err(error) if is_transient(&error) => {
                if !self.away.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "the ledger can't be reached; settlements go to disk until it is back");
                }
                self.on_disk(move |spool| keep(spool, &ending)).await;
            }
            Err(error) => drop(self.on_disk(move |spool| refused(spool, &ending, &error)).await),
        }
    }

    async fn send(&self, ending: &Ending, timeout: Duration) -> Result<()> {
        let context = CallContext::new(ending.scope.clone(), Deadline::after(timeout));
        let call = async {
            match &ending.what {
                What::Settle(request) => self.ledger.settle(request.as_ref().clone(), &context).await,
                What::Release(request) | What::ReleaseIfHeld(request) => {
                    self.ledger.release(request.clone(), &context).await
                }
            }
        };
        let span = ending.place.as_ref().map_or_else(Span::none, |place| tutti_telemetry::resume("settle", place));
        let late = |_| Err(Error::new(Reason::DeadlineExceeded, "the ledger did not answer in time"));
        tokio::time::timeout(timeout, call).instrument(span).await.unwrap_or_else(late)
    }

    /// Works with the disk on a thread that may block. `None` when the process is ending.
    async fn on_disk<T: Send + 'static>(&self, work: impl FnOnce(&Spool) -> T + Send + 'static) -> Option<T> {
        let spool = Arc::clone(&self.spool);
        tokio::task::spawn_blocking(move || work(&spool)).await.ok()
    }

    async fn read_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Spool) -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let broken = |why: String| Error::internal(format!("the spool can't be read: {why}"));
        let done = self.on_disk(work).await.ok_or_else(|| broken("interrupted".into()))?;
        done.map_err(|error| broken(error.to_string()))
    }

    /// Delivers what is on disk, until the ledger is away again.
    async fn replay(&self) -> Result<()> {
        for segment in self.read_disk(Spool::sealed).await? {
            let path = segment.clone();
            for record in self.read_disk(move |spool| spool.read(&path)).await? {
                let Some(ending) = ending(&record) else {
                    self.on_disk(move |spool| reject(spool, &record, "not a message of the ledger")).await;
                    continue;
                };
                match self.send(&ending, TIMEOUT).await {
                    Ok(()) => {}
                    Err(error) if is_transient(&error) => return Err(error),
                    Err(error) => drop(self.on_disk(move |spool| refused(spool, &ending, &error)).await),
                }
            }
            self.read_disk(move |spool| spool.remove(&segment)).await?;
        }
        self.away.store(false, Ordering::Relaxed);
        Ok(())
    }
}

/// Writes an ending to disk.
fn keep(spool: &Spool, ending: &Ending) {
    let Some(record) = record(ending) else { return };
    if let Err(error) = spool.append(&record) {
        // The hold will expire into an assumed record.
        tracing::error!(%error, ?ending, "a settlement can't be spooled and is lost");
    }
}

/// The ledger will not take it, now or later.
fn refused(spool: &Spool, ending: &Ending, error: &Error) {
    match record(ending) {
        Some(record) if matches!(ending.what, What::Settle(_)) => reject(spool, &record, &error.to_string()),
        // A hold that isn't there, or is settled already, needs no release.
        _ => tracing::debug!(%error, "a release was not needed"),
    }
}

fn reject(spool: &Spool, record: &Record, why: &str) {
    let line = serde_json::to_string(record).unwrap_or_default();
    if let Err(error) = spool.reject(&line, why) {
        tracing::error!(%error, why, line, "a settlement is lost");
    }
}

/// `None` for what is not kept.
fn record(ending: &Ending) -> Option<Record> {
    let (kind, bytes) = match &ending.what {
        What::Settle(request) => (Kind::Settle, request.encode_to_vec()),
        What::Release(request) => (Kind::Release, request.encode_to_vec()),
        What::ReleaseIfHeld(_) => return None,
    };
    let Scope { org, principal } = ending.scope.clone();
    Some(Record { kind, org, principal, message: STANDARD.encode(bytes) })
}

fn ending(record: &Record) -> Option<Ending> {
    let bytes = STANDARD.decode(&record.message).ok()?;
    let what = match record.kind {
        Kind::Settle => What::Settle(Box::new(SettleRequest::decode(bytes.as_slice()).ok()?)),
        Kind::Release => What::Release(ReleaseRequest::decode(bytes.as_slice()).ok()?),
    };
    let scope = Scope { org: record.org.clone(), principal: record.principal.clone() };
    Some(Ending { scope, what, place: None })
}

/// Whether the same call may go well later.
fn is_transient(error: &Error) -> bool {
    !matches!(
        error.reason(),
        Reason::InvalidRequest | Reason::UnknownAttempt | Reason::IdempotencyConflict | Reason::MessageTooLarge
    )
}
