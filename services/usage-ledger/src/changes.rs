//! The changes of the books, each within a transaction of the store.

use async_trait::async_trait;
use tutti_error::Result;
use tutti_types::{AttemptId, Scope};

use crate::{
    domain::{Micros, Record, Refusal, Release, Reservation, Reserved, Settled, Settlement},
    store::{Commit, Store, Transaction},
};

/// How many holds expire in one transaction, so that callers never wait long behind it.
const EXPIRY_BATCH: u32 = 256;

/// A change of one attempt.
#[async_trait]
pub trait Change: Clone + Send + Sync + 'static {
    /// What the caller gets.
    type Answer: Send + 'static;

    /// Whether the change is still wanted when its caller no longer waits. What happened is always recorded; what
    /// was only going to happen is not.
    const OUTLIVES_CALLER: bool;

    /// The attempt it changes.
    fn attempt(&self) -> AttemptId;

    /// Makes the change. A refusal leaves the transaction as it was.
    ///
    /// # Errors
    /// STORE_UNAVAILABLE: the transaction is lost.
    async fn make(
        self,
        transaction: &mut dyn Transaction,
        scope: &Scope,
        now: Micros,
    ) -> Result<Result<Self::Answer, Refusal>>;
}

#[async_trait]
impl Change for Reservation {
    type Answer = Reserved;
    // Its caller will not send the attempt.
    const OUTLIVES_CALLER: bool = false;

    fn attempt(&self) -> AttemptId {
        self.attempt_id
    }

    async fn make(
        self,
        transaction: &mut dyn Transaction,
        scope: &Scope,
        now: Micros,
    ) -> Result<Result<Reserved, Refusal>> {
        let record = Record::reserve(self, &scope.principal, now);
        if transaction.insert(scope, &record).await? {
            return Ok(Ok(Reserved { held: record.held, existing: false }));
        }
        let existing = transaction.find(scope, record.attempt_id()).await?;
        let held = existing.map_or(record.held, |existing| existing.held);
        Ok(Ok(Reserved { held, existing: true }))
    }
}

#[async_trait]
impl Change for Settlement {
    type Answer = Settled;
    const OUTLIVES_CALLER: bool = true;

    fn attempt(&self) -> AttemptId {
        self.attempt_id
    }

    async fn make(
        self,
        transaction: &mut dyn Transaction,
        scope: &Scope,
        now: Micros,
    ) -> Result<Result<Settled, Refusal>> {
        let attempt = self.attempt_id;
        let Some(mut record) = transaction.find(scope, attempt).await? else {
            return Ok(Err(Refusal::UnknownAttempt(attempt)));
        };
        let settled = record.settle(self, now);
        if !settled.existing {
            transaction.update(scope, &record).await?;
        }
        Ok(Ok(settled))
    }
}

#[async_trait]
impl Change for Release {
    /// Whether it was released before.
    type Answer = bool;
    const OUTLIVES_CALLER: bool = true;

    fn attempt(&self) -> AttemptId {
        self.attempt_id
    }

    async fn make(
        self,
        transaction: &mut dyn Transaction,
        scope: &Scope,
        now: Micros,
    ) -> Result<Result<bool, Refusal>> {
        let Some(mut record) = transaction.find(scope, self.attempt_id).await? else {
            return Ok(Err(Refusal::UnknownAttempt(self.attempt_id)));
        };
        let released = record.release(self.reason, now);
        if released == Ok(false) {
            transaction.update(scope, &record).await?;
        }
        Ok(released)
    }
}

/// Turns every hold that has expired into an assumption of its worst case. How many there were.
///
/// # Errors
/// STORE_UNAVAILABLE; what was committed before stays.
pub async fn expire_holds(store: &dyn Store, now: Micros) -> Result<u64> {
    let mut expired = 0;
    for org in store.orgs_with_due_holds(now).await? {
        let scope = Scope { org, ..Scope::default() };
        loop {
            let of_batch = expire_batch(store, &scope, now).await?;
            expired += u64::from(of_batch);
            if of_batch < EXPIRY_BATCH {
                break;
            }
        }
    }
    Ok(expired)
}

async fn expire_batch(store: &dyn Store, scope: &Scope, now: Micros) -> Result<u32> {
    let mut transaction = store.begin().await?;
    let mut expired = 0;
    for mut record in transaction.due_holds(scope, now, EXPIRY_BATCH).await? {
        if record.expire(now) {
            transaction.update(scope, &record).await?;
            expired += 1;
        }
    }
    // It only changes what it has locked, so that nobody can be in the way; were it otherwise, the next round does it.
    let durable = transaction.commit().await? == Commit::Durable;
    Ok(if durable { expired } else { 0 })
}
