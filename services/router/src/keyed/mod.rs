//! Calls with an idempotency key: run once, recorded, and read by anybody who comes with the same key and request, on any
//! replica, while they run and for as long as they are kept.
//!
//! ```text
//!  begin ── claim the key ──┬─ new: a run of its own (run), which records events, then shows them
//!                           └─ taken: a reader of that call (reader), here or elsewhere
//!  a replica's knowledge of a call (follow) is fed by its own run, or by asking the store (watch)
//! ```
//!
//! Events are shown after they were written, so that no reader has seen what another one will not.

mod follow;
mod reader;
mod run;
mod watch;

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use tutti_error::{Error, Reason, Result};
use tutti_layers::CallContext;
use tutti_proto::router::v1::ChatStreamResponse;
use tutti_server::Tasks;
use tutti_types::{RequestId, Scope, TurnId, time};

pub(crate) use self::reader::Reader;
use self::{
    follow::{Follow, Owner},
    run::Job,
};
use crate::{
    app::Desk,
    config::Idempotency,
    domain::{
        ask::Ask,
        keyed::{Batch, Call, Held, NewCall, body_hash, conflict},
    },
    store::{CallStore, Claimed},
};

/// By tenant and call.
type Name = (String, TurnId);

/// The calls with a key that this replica runs or reads.
pub(crate) struct Keyed {
    store: Arc<dyn CallStore>,
    settings: Idempotency,
    follows: Mutex<HashMap<Name, Arc<Follow>>>,
    tasks: Tasks,
    /// There may be calls of this replica in the store that nobody here runs.
    suspects: AtomicBool,
}

impl Keyed {
    pub(crate) fn new(store: Arc<dyn CallStore>, settings: Idempotency, tasks: Tasks) -> Self {
        Self { store, settings, follows: Mutex::default(), tasks, suspects: AtomicBool::new(false) }
    }

    fn follows(&self) -> MutexGuard<'_, HashMap<Name, Arc<Follow>>> {
        // Nothing in here panics half-way.
        self.follows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Events after this one, from the store: at least the next.
    async fn stored(&self, follow: &Follow, after: u64) -> Result<Vec<ChatStreamResponse>> {
        let batches = self.store.events(&follow.scope, follow.id, after).await?;
        let mut events = Vec::new();
        for batch in &batches {
            events.extend(batch.after(after)?);
        }
        if events.is_empty() {
            return Err(forgotten());
        }
        Ok(events)
    }

    /// The last event, from the store.
    async fn last(&self, follow: &Follow) -> Result<Option<ChatStreamResponse>> {
        let batch: Option<Batch> = self.store.last(&follow.scope, follow.id).await?;
        Ok(batch.map(|batch| batch.after(0)).transpose()?.and_then(|mut events| events.pop()))
    }

    /// Forgets what nobody here needs any more.
    fn forget(&self, follow: &Follow) {
        self.follows().remove(&name(follow));
    }

    /// Ends all use of the store.
    pub(crate) async fn close(&self) {
        self.store.close().await;
    }
}

impl Desk {
    /// Makes a call, or finds the one that its key stands for.
    ///
    /// # Errors
    /// IDEMPOTENCY_CONFLICT when the key stands for another request; STORE_UNAVAILABLE.
    pub(crate) async fn begin(self: &Arc<Self>, context: &CallContext, arrived: Instant, ask: Ask) -> Result<Reader> {
        let created_at = time::unix_micros(SystemTime::now());
        let call = NewCall {
            id: TurnId::generate(),
            key: ask.chat.idempotency_key.clone(),
            request_id: ask.id,
            body_hash: body_hash(&ask.chat),
            created_at,
        };
        // Known here before others can find it in the store.
        let follow = Arc::new(Follow::own(&context.scope, (call.id, call.request_id), created_at));
        follow.enter();
        self.keyed.follows().insert(name(&follow), follow.clone());
        let mut unclaimed = Unclaimed { keyed: &self.keyed, follow: &follow, claim: Claim::Unknown };
        let ttl = i64::try_from(self.keyed.settings.ttl.as_micros()).unwrap_or(i64::MAX);
        let claimed = self.keyed.store.claim(&context.scope, &call, created_at.saturating_sub(ttl)).await?;
        unclaimed.claim = if matches!(claimed, Claimed::New(_)) { Claim::Made } else { Claim::NotMade };
        drop(unclaimed);
        match claimed {
            Claimed::New(held) => {
                let reader = Reader::new(self.clone(), (follow.clone(), 0), context, Some(ask.clone()));
                self.start(Job { follow, held, ask, context: context.clone(), arrived, before: None });
                Ok(reader)
            }
            Claimed::Taken(found) if found.body_hash != call.body_hash => Err(conflict()),
            Claimed::Taken(found) => {
                let follow = self.follow(&context.scope, &found)?;
                Ok(Reader::new(self.clone(), (follow, 0), context, Some(ask)))
            }
        }
    }

    /// Reads a call from the event after this one on.
    ///
    /// # Errors
    /// UNKNOWN_REQUEST when no call with a key has that id; STORE_UNAVAILABLE.
    pub(crate) async fn attach(
        self: &Arc<Self>,
        context: &CallContext,
        request: RequestId,
        after: u64,
    ) -> Result<Reader> {
        let found = self.keyed.store.find(&context.scope, request).await?;
        let unknown =
            || Error::new(Reason::UnknownRequest, format!("no request {request} with an idempotency key is kept"));
        let follow = self.follow(&context.scope, &found.ok_or_else(unknown)?)?;
        Ok(Reader::new(self.clone(), (follow, after), context, None))
    }

    /// Cancels a running request, wherever it runs.
    ///
    /// # Errors
    /// UNKNOWN_REQUEST when none of that id runs here, or with a key anywhere; STORE_UNAVAILABLE.
    pub(crate) async fn cancel(&self, scope: &Scope, request: RequestId) -> Result<()> {
        let Err(unknown) = self.running.cancel(scope, request) else { return Ok(()) };
        if self.keyed.store.cancel(scope, request).await? { Ok(()) } else { Err(unknown) }
    }

    /// What this replica knows of a call in the store, with one more reader; a running one is watched from now on.
    fn follow(self: &Arc<Self>, scope: &Scope, call: &Call) -> Result<Arc<Follow>> {
        let stored = Arc::new(Follow::stored(scope, call)?);
        stored.enter();
        if stored.has_ended() {
            return Ok(stored);
        }
        match self.keyed.follows().entry(name(&stored)) {
            Entry::Occupied(known) => {
                // With the names locked, so that it isn't forgotten in between.
                known.get().enter();
                return Ok(known.get().clone());
            }
            Entry::Vacant(vacant) => vacant.insert(stored.clone()),
        };
        self.watch(stored.clone());
        Ok(stored)
    }

    /// Takes the place of an owner who died, unless another one does.
    fn take_over(self: &Arc<Self>, follow: &Arc<Follow>, ask: &Ask, context: &CallContext) {
        let Some(fencing) = follow.begin_change() else { return };
        let (desk, follow, ask, context) = (self.clone(), follow.clone(), ask.clone(), context.clone());
        self.keyed.tasks.clone().spawn(async move {
            match desk.keyed.store.take_over(&follow.scope, follow.id, fencing).await {
                Ok(Some((held, before))) => {
                    tracing::info!(request_id = %follow.request_id, "a call whose router died is run anew");
                    follow.owned_by(Owner::Here);
                    let job = Job { follow, held, ask, context, arrived: Instant::now(), before: Some(before) };
                    desk.run(job).await;
                }
                // Another replica was faster, or the store is away: who watches the call will see.
                Ok(None) | Err(_) => follow.owned_by(Owner::Elsewhere),
            }
        });
    }

    /// Runs a call; it belongs to nobody's request.
    fn start(self: &Arc<Self>, job: Job) {
        let desk = self.clone();
        self.keyed.tasks.spawn(async move { desk.run(job).await });
    }
}

/// A call whose claim is being made. Dropped without one, it is forgotten here, and what may have become of it in the store
/// is looked after.
struct Unclaimed<'a> {
    keyed: &'a Keyed,
    follow: &'a Follow,
    claim: Claim,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Claim {
    Unknown,
    NotMade,
    Made,
}

impl Drop for Unclaimed<'_> {
    fn drop(&mut self) {
        if self.claim != Claim::Made {
            self.keyed.forget(self.follow);
        }
        if self.claim == Claim::Unknown {
            self.keyed.suspects.store(true, Ordering::Relaxed);
        }
    }
}

fn name(follow: &Follow) -> Name {
    (follow.scope.org.clone(), follow.id)
}

fn forgotten() -> Error {
    Error::new(Reason::UnknownRequest, "the recorded call is no longer kept")
}

/// How long a reader elsewhere may be silent before its call is taken for unread: it says that it reads several times in
/// the grace.
fn presence(grace: Duration) -> Duration {
    (grace / 4).clamp(Duration::from_millis(20), Duration::from_secs(5))
}

/// The right to write to a call of this replica.
fn held(org: &str, id: TurnId, fencing: i64) -> Held {
    Held { scope: Scope { org: org.to_owned(), ..Scope::default() }, id, fencing }
}

#[cfg(test)]
mod takeover_tests;
#[cfg(test)]
mod tests;
