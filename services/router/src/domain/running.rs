//! The turns that are running, so that they can be cancelled.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tutti_error::{Error, Reason, Result};
use tutti_types::{RequestId, Scope};

/// By tenant and request.
type Key = (String, RequestId);

/// The running turns of this process.
#[derive(Clone, Default)]
pub(crate) struct Running(Arc<Turns>);

#[derive(Default)]
struct Turns {
    by_key: Mutex<HashMap<Key, CancellationToken>>,
    /// One has ended.
    ended: Notify,
}

/// A place among the running turns, given back when dropped.
pub(crate) struct Place {
    running: Running,
    key: Key,
    /// Cancelled when the caller asks for it.
    pub(crate) cancelled: CancellationToken,
}

impl Running {
    /// Enters a turn; `field` is the name of the id in the request.
    ///
    /// # Errors
    /// INVALID_REQUEST when a request of that id is running.
    pub(crate) fn enter(&self, scope: &Scope, id: RequestId, field: String) -> Result<Place> {
        let key = (scope.org.clone(), id);
        let cancelled = CancellationToken::new();
        match self.lock().entry(key.clone()) {
            Entry::Occupied(_) => return Err(Error::invalid(field, "a request of this id is running")),
            Entry::Vacant(vacant) => vacant.insert(cancelled.clone()),
        };
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
        self.lock().values().for_each(CancellationToken::cancel);
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
