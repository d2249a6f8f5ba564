//! The turns that are running, so that they can be cancelled.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tutti_error::{Error, Reason, Result};
use tutti_types::{RequestId, Scope};

/// When to ask again: another replica is there, or this one is back.
const RETRY: Duration = Duration::from_secs(1);

/// By tenant and request.
type Key = (String, RequestId);

/// The running turns of this process.
#[derive(Clone, Default)]
pub(crate) struct Running(Arc<Turns>);

#[derive(Default)]
struct Turns {
    by_key: Mutex<HashMap<Key, CancellationToken>>,
    /// The process is ending. Set under the lock, so that no turn enters after the last look.
    ending: AtomicBool,
    /// One has ended.
    ended: Notify,
}

/// A place among the running turns, given back when dropped.
pub(crate) struct Place {
    running: Running,
    key: Key,
    /// Cancelled when the caller asks for it, and when the process ends.
    pub(crate) cancelled: CancellationToken,
}

impl Place {
    /// Why the turn was cancelled.
    pub(crate) fn why(&self) -> Error {
        if self.running.0.ending.load(Ordering::Relaxed) {
            return shutting_down();
        }
        Error::new(Reason::Cancelled, "the request was cancelled")
    }
}

fn shutting_down() -> Error {
    Error::new(Reason::ShuttingDown, "the router is shutting down; ask again").retry_after(RETRY)
}

impl Running {
    /// Enters a turn; `field` is the name of the id in the request.
    ///
    /// # Errors
    /// INVALID_REQUEST when a request of that id is running; SHUTTING_DOWN.
    pub(crate) fn enter(&self, scope: &Scope, id: RequestId, field: String) -> Result<Place> {
        let key = (scope.org.clone(), id);
        let cancelled = CancellationToken::new();
        let mut turns = self.lock();
        if self.0.ending.load(Ordering::Relaxed) {
            return Err(shutting_down());
        }
        match turns.entry(key.clone()) {
            Entry::Occupied(_) => return Err(Error::invalid(field, "a request of this id is running")),
            Entry::Vacant(vacant) => vacant.insert(cancelled.clone()),
        };
        drop(turns);
        Ok(Place { running: self.clone(), key, cancelled })
    }

    /// Cancels a running turn.
    ///
    /// # Errors
    /// UNKNOWN_REQUEST when none of that id is running.
    pub(crate) fn cancel(&self, scope: &Scope, id: RequestId) -> Result<()> {
        match self.lock().get(&(scope.org.clone(), id)) {
            Some(token) => token.cancel(),
            None => return Err(Error::new(Reason::UnknownRequest, format!("no request {id} is running"))),
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, CancellationToken>> {
        self.0.by_key.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cancels all turns and waits until they have ended.
    pub(crate) async fn end(&self) {
        {
            let turns = self.lock();
            self.0.ending.store(true, Ordering::Relaxed);
            turns.values().for_each(CancellationToken::cancel);
        }
        loop {
            // Taken before looking, so that an end in between is not missed.
            let ended = self.0.ended.notified();
            if self.lock().is_empty() {
                return;
            }
            ended.await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.running.lock().remove(&self.key);
        self.running.0.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_own_org_cancels_and_only_while_it_runs() {
        let (running, scope, id) = (Running::default(), Scope::default(), RequestId::generate());
        let place = running.enter(&scope, id, "request_id".into()).unwrap();
        assert_eq!(running.enter(&scope, id, "request_id".into()).err().unwrap().fields()[0].0, "request_id");
        let other = Scope { org: "other".into(), ..Scope::default() };
        assert_eq!(running.cancel(&other, id).unwrap_err().reason(), Reason::UnknownRequest);
        running.cancel(&scope, id).unwrap();
        running.cancel(&scope, id).unwrap();
        assert!(place.cancelled.is_cancelled());
        drop(place);
        assert_eq!(running.cancel(&scope, id).unwrap_err().reason(), Reason::UnknownRequest);
    }
}
