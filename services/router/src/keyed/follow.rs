//! What this replica knows of a call: the last of its events, and how it ended. All readers of a call on one replica
//! share this; what is no longer here is in the store.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::watch;
use tutti_error::{Error, Result};
use tutti_proto::router::v1::ChatStreamResponse;
use tutti_types::{RequestId, Scope, TurnId};

use crate::domain::{
    keyed::{Call, State},
    run::Lost,
};

/// Events that are kept for readers who are nearly up to date.
const MAX_EVENTS: usize = 256;

/// One call.
#[derive(Debug)]
pub(crate) struct Follow {
    pub(crate) scope: Scope,
    pub(crate) id: TurnId,
    pub(crate) request_id: RequestId,
    /// Microseconds since 1970.
    pub(crate) created_at: i64,
    known: Mutex<Known>,
    changed: watch::Sender<()>,
}

#[derive(Debug)]
struct Known {
    tail: VecDeque<ChatStreamResponse>,
    /// Number of the last event.
    recorded: u64,
    owner: Owner,
    end: Option<Result<()>>,
    readers: usize,
    /// When the last reader left.
    left: Instant,
    /// It is to end because nobody reads it.
    deserted: bool,
    /// The fencing number of the run here, and what tells it that it has lost the call.
    run: Option<(i64, Lost)>,
}

/// Who runs a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// This replica.
    Here,
    /// Another one, which lives.
    Elsewhere,
    /// One that died, with this fencing number.
    Dead(i64),
    /// One that died: this replica is trying to take its place.
    Changing,
}

/// What there is for a reader.
#[derive(Debug)]
pub(crate) enum News {
    /// The next events, at least one.
    Events(Vec<ChatStreamResponse>),
    /// The next events are in the store.
    Stored,
    /// There are no more.
    End(Result<()>),
    /// Nothing yet.
    Wait(Owner),
}

impl Follow {
    /// A call that this replica runs.
    pub(crate) fn own(scope: &Scope, (id, request_id): (TurnId, RequestId), created_at: i64) -> Self {
        Self::new(scope, (id, request_id), (created_at, 0), Owner::Here, None)
    }

    /// A call as the store has it.
    ///
    /// # Errors
    /// INTERNAL when its failure was not written here.
    pub(crate) fn stored(scope: &Scope, call: &Call) -> Result<Self> {
        let (owner, end) = match &call.state {
            State::Running { alive: true } => (Owner::Elsewhere, None),
            State::Running { alive: false } => (Owner::Dead(call.fencing), None),
            State::Answered => (Owner::Elsewhere, Some(Ok(()))),
            State::Failed(failure) => (Owner::Elsewhere, Some(Err(Error::decode(failure)?))),
        };
        Ok(Self::new(scope, (call.id, call.request_id), (call.created_at, call.recorded), owner, end))
    }

    fn new(
        scope: &Scope,
        (id, request_id): (TurnId, RequestId),
        (created_at, recorded): (i64, u64),
        owner: Owner,
        end: Option<Result<()>>,
    ) -> Self {
        let known = Known {
            tail: VecDeque::new(),
            recorded,
            owner,
            end,
            readers: 0,
            left: Instant::now(),
            deserted: false,
            run: None,
        };
        let changed = watch::Sender::new(());
        Self { scope: scope.clone(), id, request_id, created_at, known: Mutex::new(known), changed }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Nothing in here panics half-way.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What tells of every change from now on.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// What there is after this event.
    pub(crate) fn after(&self, seq: u64) -> News {
        let known = self.known();
        if known.recorded > seq {
            let first = known.tail.front().map(|event| event.seq);
            return match first {
                Some(first) if first <= seq + 1 => {
                    News::Events(known.tail.iter().filter(|event| event.seq > seq).cloned().collect())
                }
                _ => News::Stored,
            };
        }
        match &known.end {
            Some(end) => News::End(end.clone()),
            None => News::Wait(known.owner),
        }
    }

    /// How the call ended, if it has; else who runs it.
    pub(crate) fn end(&self) -> Result<Result<()>, Owner> {
        let known = self.known();
        known.end.clone().ok_or(known.owner)
    }

    /// Whether the call has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.known().end.is_some()
    }

    /// A run begins here.
    pub(crate) fn begin(&self, fencing: i64, lost: Lost) {
        self.known().run = Some((fencing, lost));
    }

    /// The run here, if there is one: its fencing number, and what tells it that it has lost the call.
    pub(crate) fn running(&self) -> Option<(i64, Lost)> {
        let known = self.known();
        let is_running = known.end.is_none() && known.owner == Owner::Here;
        known.run.clone().filter(|_| is_running)
    }

    /// Whether this replica runs it.
    pub(crate) fn runs_here(&self) -> bool {
        let known = self.known();
        known.end.is_none() && known.owner == Owner::Here
    }

    /// The last event, unless it is in the store only.
    pub(crate) fn last(&self) -> Option<ChatStreamResponse> {
        self.known().tail.back().cloned()
    }

    /// Number of the last event.
    pub(crate) fn recorded(&self) -> u64 {
        self.known().recorded
    }

    /// Adds events that are in the store; those that are here already are left out.
    pub(crate) fn push(&self, events: Vec<ChatStreamResponse>) {
        let mut known = self.known();
        for event in events {
            if event.seq == known.recorded + 1 {
                known.recorded = event.seq;
                known.tail.push_back(event);
            }
        }
        while known.tail.len() > MAX_EVENTS {
            known.tail.pop_front();
        }
        drop(known);
        self.tell();
    }

    /// The events up to this number are in the store.
    pub(crate) fn skip_to(&self, recorded: u64) {
        let mut known = self.known();
        if known.recorded < recorded {
            known.recorded = recorded;
            known.tail.clear();
        }
        drop(known);
        self.tell();
    }

    /// The call has ended: with its answer, or so.
    pub(crate) fn finish(&self, end: Result<()>) {
        self.known().end.get_or_insert(end);
        self.tell();
    }

    /// Somebody else runs it now, or nobody.
    pub(crate) fn owned_by(&self, owner: Owner) {
        let mut known = self.known();
        if known.owner == owner {
            return;
        }
        known.owner = owner;
        drop(known);
        self.tell();
    }

    /// What the store says of the owner, which this replica knows better when it is the owner itself.
    pub(crate) fn seen(&self, owner: Owner) {
        let mut known = self.known();
        if matches!(known.owner, Owner::Here | Owner::Changing) || known.owner == owner {
            return;
        }
        known.owner = owner;
        drop(known);
        self.tell();
    }

    /// Sets about taking the place of an owner who died; `None` when another one of this replica does already.
    pub(crate) fn begin_change(&self) -> Option<i64> {
        let mut known = self.known();
        let Owner::Dead(fencing) = known.owner else { return None };
        known.owner = Owner::Changing;
        Some(fencing)
    }

    /// A reader comes, and leaves when it is dropped.
    pub(crate) fn enter(&self) {
        self.known().readers += 1;
    }

    /// A reader left.
    pub(crate) fn leave(&self) {
        let mut known = self.known();
        known.readers = known.readers.saturating_sub(1);
        known.left = Instant::now();
    }

    /// Since when nobody reads it here; `None` while somebody does.
    pub(crate) fn unread(&self) -> Option<Duration> {
        let known = self.known();
        (known.readers == 0).then(|| known.left.elapsed())
    }

    /// Nobody reads it any more: it is to end.
    pub(crate) fn desert(&self) {
        self.known().deserted = true;
    }

    /// Whether it was to end because nobody read it.
    pub(crate) fn is_deserted(&self) -> bool {
        self.known().deserted
    }

    fn tell(&self) {
        self.changed.send_replace(());
    }
}
