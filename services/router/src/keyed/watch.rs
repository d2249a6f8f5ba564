//! What is looked at again and again while there are calls with a key: those of other replicas that are read here, and
//! the own ones that others want to end.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant, SystemTime},
};

use tutti_error::{Error, Reason, Result};
use tutti_types::time;

use super::{
    Keyed,
    follow::{Follow, Owner},
    forgotten, held, name, presence,
};
use crate::{
    app::Desk,
    domain::{
        keyed::{Ending, Owned, Progress, State},
        run::Lost,
    },
};

/// How often a call of another replica is looked at: what its readers wait at most, besides the store.
const LOOK: Duration = Duration::from_millis(30);
/// How often the own calls are looked at.
const TICK: Duration = Duration::from_millis(250);
/// How often old calls are forgotten.
const PURGE_EVERY: Duration = Duration::from_secs(600);

impl Desk {
    /// Feeds what this replica knows of a call that another one runs, as long as somebody here reads it.
    pub(super) fn watch(self: &Arc<Self>, follow: Arc<Follow>) {
        let desk = self.clone();
        self.keyed.tasks.spawn(async move {
            tokio::select! {
                () = desk.keyed.watch(&follow) => (),
                () = desk.keyed.tasks.stopping().cancelled() => follow.finish(Err(ending())),
            }
        });
    }

    /// Looks after the own calls until the process ends: those that are to end, that nobody reads, that are too old.
    pub(crate) fn look_after_calls(self: &Arc<Self>) {
        let desk = self.clone();
        self.keyed.tasks.spawn(async move { desk.look_after_all().await });
    }

    async fn look_after_all(&self) {
        let stopping = self.keyed.tasks.stopping().clone();
        let mut purged: Option<Instant> = None;
        loop {
            if purged.is_none_or(|purged| purged.elapsed() >= PURGE_EVERY) {
                self.keyed.purge().await;
                purged = Some(Instant::now());
            }
            let suspects = self.keyed.suspects.swap(false, Ordering::Relaxed);
            if (suspects || self.keyed.runs_any()) && self.look_after_own().await.is_err() {
                self.keyed.suspects.store(true, Ordering::Relaxed);
            }
            tokio::select! {
                () = tokio::time::sleep(TICK) => (),
                () = stopping.cancelled() => return,
            }
        }
    }

    async fn look_after_own(&self) -> Result<()> {
        let mut missing = self.keyed.runs();
        for owned in self.keyed.store.owned().await? {
            missing.retain(|(follow, ..)| follow.id != owned.id);
            let known = self.keyed.follows().get(&(owned.org.clone(), owned.id)).cloned();
            match known {
                None => self.keyed.free(&owned).await?,
                Some(follow) if owned.cancelled => drop(self.running.cancel(&follow.scope, follow.request_id)),
                Some(follow) if self.keyed.is_deserted(&follow, &owned) => {
                    tracing::info!(request_id = %follow.request_id, "nobody reads this call any more");
                    follow.desert();
                    drop(self.running.cancel(&follow.scope, follow.request_id));
                }
                Some(_) => {}
            }
        }
        for (follow, fencing, lost) in missing {
            // It may as well have just ended.
            let call = self.keyed.store.look(&follow.scope, follow.id, false).await?;
            if call.is_none_or(|call| call.fencing != fencing) {
                tracing::warn!(request_id = %follow.request_id, "another router has taken this call over");
                lost.set();
                drop(self.running.cancel(&follow.scope, follow.request_id));
            }
        }
        Ok(())
    }
}

impl Keyed {
    async fn watch(&self, follow: &Follow) {
        let mut told: Option<Instant> = None;
        while self.is_read(follow) {
            // Also: this replica has taken it over.
            if follow.runs_here() || follow.has_ended() {
                return;
            }
            let reading = told.is_none_or(|told| told.elapsed() >= presence(self.settings.resume_grace));
            match self.look(follow, reading).await {
                Ok(()) if reading => told = Some(Instant::now()),
                Ok(()) => {}
                Err(error) if error.reason() == Reason::UnknownRequest => follow.finish(Err(error)),
                // The store is away: its readers have deadlines.
                Err(error) => tracing::debug!(%error, "a call can't be looked at"),
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Whether anybody here reads a call. If not, it is forgotten here, and whoever comes next begins anew.
    fn is_read(&self, follow: &Follow) -> bool {
        let mut follows = self.follows();
        let is_read = follow.unread().is_none();
        if !is_read {
            follows.remove(&name(follow));
        }
        is_read
    }

    async fn look(&self, follow: &Follow, reading: bool) -> Result<()> {
        let call = self.store.look(&follow.scope, follow.id, reading).await?.ok_or_else(forgotten)?;
        while follow.recorded() < call.recorded {
            follow.push(self.stored(follow, follow.recorded()).await?);
        }
        match &call.state {
            State::Running { alive: true } => follow.seen(Owner::Elsewhere),
            State::Running { alive: false } => follow.seen(Owner::Dead(call.fencing)),
            State::Answered => self.over(follow, Ok(())),
            State::Failed(failure) => self.over(follow, Err(Error::decode(failure)?)),
        }
        Ok(())
    }

    /// A call has ended: its readers are told, and those who come later find it in the store.
    pub(super) fn over(&self, follow: &Follow, end: Result<()>) {
        follow.finish(end);
        self.forget(follow);
    }

    /// Whether nobody has read a call for longer than the grace, anywhere.
    fn is_deserted(&self, follow: &Follow, owned: &Owned) -> bool {
        let grace = self.settings.resume_grace;
        // A reader elsewhere speaks up now and then only.
        follow.unread().is_some_and(|unread| unread > grace) && owned.unread > grace + presence(grace)
    }

    /// The runs of this replica.
    fn runs(&self) -> Vec<(Arc<Follow>, i64, Lost)> {
        let running = |follow: &Arc<Follow>| follow.running().map(|(fencing, lost)| (follow.clone(), fencing, lost));
        self.follows().values().filter_map(running).collect()
    }

    fn runs_any(&self) -> bool {
        self.follows().values().any(|follow| follow.runs_here())
    }

    /// Frees the key of a call that is this replica's and that nobody here runs: its claim was not waited for.
    async fn free(&self, owned: &Owned) -> Result<()> {
        let failure = Error::new(Reason::ServiceUnavailable, "the call was never begun; ask again").encode();
        let held = held(&owned.org, owned.id, owned.fencing);
        self.store.write(&held, &Progress::default(), Some(&Ending::Released(failure))).await.map(drop)
    }

    /// Forgets calls that are too old.
    async fn purge(&self) {
        loop {
            match self.store.purge(time::unix_micros(SystemTime::now() - self.settings.ttl)).await {
                // There may be more.
                Ok(purged) if purged > 0 && !self.tasks.stopping().is_cancelled() => {}
                Ok(_) => return,
                Err(error) => return tracing::warn!(%error, "old calls could not be forgotten"),
            }
        }
    }
}

fn ending() -> Error {
    Error::new(Reason::ShuttingDown, "the router is shutting down; ask again").retry_after(Duration::from_secs(1))
}
