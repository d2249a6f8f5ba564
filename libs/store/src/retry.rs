//! What fails for a moment is tried again; what hangs is given up.

use std::{future::Future, time::Duration};

use sqlx::error::DatabaseError;
use tutti_error::{Error, Reason, Result};

use crate::unavailable;

/// How often a transaction is tried that others got in the way of.
const ATTEMPTS: u32 = 6;
/// The first pause is at most this long, each further one at most twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// A store that does not answer within this is as good as away. Far above what any statement of ours takes.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a transaction came to nothing.
#[derive(Debug)]
pub enum Failure {
    /// The store failed.
    Store(sqlx::Error),
    /// What was asked can't be done, whoever tries again.
    Refused(Error),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

/// Runs a whole transaction, from its beginning to its commit, and once more when it was sacrificed to another one
/// (serialisation failure, deadlock): a few times, after pauses of random length, so that the two don't meet again.
///
/// Nothing else is tried again: after a lost connection nobody knows whether the commit was made.
///
/// # Errors
/// The refusal; STORE_UNAVAILABLE, also after 10 s without an answer.
pub async fn retry<T, F>(doing: &'static str, mut transaction: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T, Failure>>,
{
    let mut pause = FIRST_PAUSE;
    for attempt in 1.. {
        match tokio::time::timeout(PATIENCE, transaction()).await {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(Failure::Refused(error))) => return Err(error),
            Ok(Err(Failure::Store(error))) if attempt < ATTEMPTS && is_sacrifice(&error) => {
                tracing::debug!(cause = %error, attempt, "trying again to {doing}");
            }
            Ok(Err(Failure::Store(error))) => return Err(unavailable(doing)(error)),
            Err(_) => break,
        }
        tokio::time::sleep(pause.mul_f64(rand::random::<f64>())).await;
        pause *= 2;
    }
    Err(no_answer(doing))
}

/// Waits for one step of a transaction, but not for ever.
///
/// # Errors
/// STORE_UNAVAILABLE, also after 10 s without an answer.
pub async fn within<T>(doing: &'static str, step: impl Future<Output = sqlx::Result<T>>) -> Result<T> {
    match tokio::time::timeout(PATIENCE, step).await {
        Ok(done) => done.map_err(unavailable(doing)),
        Err(_) => Err(no_answer(doing)),
    }
}

fn no_answer(doing: &'static str) -> Error {
    tracing::error!("store did not answer within {PATIENCE:?} to {doing}");
    Error::new(Reason::StoreUnavailable, format!("the store did not answer in time to {doing}; try again"))
}

/// Whether the transaction was rolled back in favour of another one.
fn is_sacrifice(error: &sqlx::Error) -> bool {
    const SERIALIZATION_FAILURE: &str = "40001";
    const DEADLOCK_DETECTED: &str = "40P01";
    let code = error.as_database_error().and_then(DatabaseError::code);
    code.is_some_and(|code| code == SERIALIZATION_FAILURE || code == DEADLOCK_DETECTED)
}

#[cfg(test)]
mod tests {
    use std::{borrow::Cow, cell::Cell, fmt};

    use super::*;

    #[derive(Debug)]
    struct Sqlstate(&'static str);

    impl fmt::Display for Sqlstate {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl std::error::Error for Sqlstate {}

    impl DatabaseError for Sqlstate {
        fn message(&self) -> &str {
            self.0
        }
        fn code(&self) -> Option<Cow<'_, str>> {
            Some(self.0.into())
        }
        fn as_error(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
            self
        }
        fn as_error_mut(&mut self) -> &mut (dyn std::error::Error + Send + Sync + 'static) {
            self
        }
        fn into_error(self: Box<Self>) -> Box<dyn std::error::Error + Send + Sync + 'static> {
            self
        }
        fn kind(&self) -> sqlx::error::ErrorKind {
            sqlx::error::ErrorKind::Other
        }
    }

    fn failing(code: &'static str) -> Failure {
        Failure::Store(sqlx::Error::Database(Box::new(Sqlstate(code))))
    }

    /// Fails with `code` until the last of `times` attempts. The answer and how often it was tried.
    async fn tried(code: &'static str, times: u32) -> (Result<u32>, u32) {
        let attempts = Cell::new(0);
        let result = retry("test", || {
            attempts.set(attempts.get() + 1);
            let answer = if attempts.get() == times { Ok(times) } else { Err(failing(code)) };
            async { answer }
        });
        (result.await, attempts.get())
    }

    #[tokio::test(start_paused = true)]
    async fn sacrificed_transactions_are_tried_again_but_not_for_ever() {
        for code in ["40001", "40P01"] {
            let (result, attempts) = tried(code, 3).await;
            assert_eq!((result.unwrap(), attempts), (3, 3));
            let (result, attempts) = tried(code, 1000).await;
            assert_eq!((result.unwrap_err().reason(), attempts), (Reason::StoreUnavailable, ATTEMPTS));
        }
        let (result, attempts) = tried("23505", 3).await;
        assert_eq!((result.unwrap_err().reason(), attempts), (Reason::StoreUnavailable, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_are_handed_on_and_silence_ends() {
        let refused = retry("test", async || Err::<(), _>(Failure::from(Error::invalid("f", "why")))).await;
        assert_eq!(refused.unwrap_err().reason(), Reason::InvalidRequest);
        let silent = retry("test", std::future::pending::<Result<(), Failure>>).await;
        assert_eq!(silent.unwrap_err().reason(), Reason::StoreUnavailable);
        let silent = within("test", std::future::pending::<sqlx::Result<()>>()).await;
        assert_eq!(silent.unwrap_err().reason(), Reason::StoreUnavailable);
    }
}
