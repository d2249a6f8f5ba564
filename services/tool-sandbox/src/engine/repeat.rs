//! Trying again what failed for the moment only.

use std::time::Duration;

use crate::{domain::Outcome, tools::Stop};

/// How often at most.
const RETRIES: u32 = 3;
/// The pause before the first; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(20);

/// Runs until it succeeds, fails for good, was tried three times more, or the call ends. The last outcome, and how often
/// it was tried again. Only for what is safe to repeat.
pub(super) async fn repeated<F>(stop: &Stop, run: impl Fn() -> F) -> (Outcome, u32)
where
    F: Future<Output = Outcome>,
{
    let mut retries = 0;
    loop {
        let outcome = run().await;
        let is_transient = outcome.failure.as_ref().is_some_and(|failure| failure.is_transient);
        if !is_transient || retries == RETRIES {
            return (outcome, retries);
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE * 2_u32.pow(retries)) => retries += 1,
            failure = stop.wait() => return (failure.into(), retries),
        }
    }
}
