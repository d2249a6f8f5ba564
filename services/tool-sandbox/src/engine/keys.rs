//! Idempotency keys of calls that run in this process: the second caller of a key waits for the first.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::OwnedMutexGuard;
use tutti_error::{Error, Reason, Result};

use crate::{
    domain::{Claim, Failure},
    tools::Stop,
};

type Name = (String, String);

/// The keys in use.
#[derive(Debug, Clone, Default)]
pub(super) struct Keys(Arc<Mutex<HashMap<Name, Slot>>>);

#[derive(Debug)]
struct Slot {
    body_hash: Vec<u8>,
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Those who hold it or wait for it.
    users: usize,
}

/// A place at a key: first in the queue, then held. Given back when dropped.
#[derive(Debug)]
pub(super) struct Held {
    keys: Keys,
    name: Name,
    turn: Option<OwnedMutexGuard<()>>,
}

impl Keys {
    /// Waits until nobody else runs a call with that key.
    ///
    /// # Errors
    /// IDEMPOTENCY_CONFLICT when the key stands for another body; why the call ends, when it does first.
    pub(super) async fn hold(&self, org: &str, claim: &Claim, stop: &Stop) -> Result<Held> {
        let name = (org.to_owned(), claim.key.clone());
        let turn = {
            let mut slots = self.slots();
            let slot = slots.entry(name.clone()).or_insert_with(|| Slot {
                body_hash: claim.body_hash.clone(),
                turn: Arc::default(),
                users: 0,
            });
            if slot.body_hash != claim.body_hash {
                return Err(conflict());
            }
            slot.users += 1;
            slot.turn.clone()
        };
        let mut held = Held { keys: self.clone(), name, turn: None };
        tokio::select! {
            turn = turn.lock_owned() => held.turn = Some(turn),
            failure = stop.wait() => return Err(gave_up(&failure)),
        }
        Ok(held)
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<Name, Slot>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.turn = None;
        let mut slots = self.keys.slots();
        if let Some(slot) = slots.get_mut(&self.name) {
            slot.users -= 1;
            if slot.users == 0 {
                slots.remove(&self.name);
            }
        }
    }
}

/// The call ended before the one did that it waited for.
pub(super) fn gave_up(failure: &Failure) -> Error {
    let message = format!("while waiting for the call that runs with the same idempotency key: {}", failure.message);
    Error::new(failure.reason, message)
}

/// The same key came with another body.
pub(super) fn conflict() -> Error {
    Error::new(Reason::IdempotencyConflict, "the idempotency key was used for another tool call; use a new one")
}
