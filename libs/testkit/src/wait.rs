//! Waiting for a condition instead of sleeping.

use std::{
    fmt::Debug,
    future::Future,
    panic::Location,
    time::{Duration, Instant},
};

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(5);

/// What a condition may answer: whether it holds, and what it found.
pub trait Outcome {
    /// What the wait returns.
    type Value;

    /// The value once the condition holds, else what the failure message says of the last look.
    ///
    /// # Errors
    /// The condition does not hold yet; the text is empty when there is nothing to say.
    fn outcome(self) -> Result<Self::Value, String>;
}

impl Outcome for bool {
    type Value = ();

    fn outcome(self) -> Result<(), String> {
        self.then_some(()).ok_or_else(String::new)
    }
}

impl<T> Outcome for Option<T> {
    type Value = T;

    fn outcome(self) -> Result<T, String> {
        self.ok_or_else(String::new)
    }
}

impl<T, E: Debug> Outcome for Result<T, E> {
    type Value = T;

    fn outcome(self) -> Result<T, String> {
        self.map_err(|error| format!("; at last: {error:?}"))
    }
}

/// Waits until `condition` answers `true`, `Some(value)` or `Ok(value)`, looking every 5 ms, and returns the value.
///
/// With tokio's clock paused the wait costs no real time.
///
/// # Panics
/// When the condition doesn't hold within `deadline`; the message names the caller's line and the last error. A look
/// that itself never ends is cut there too.
#[track_caller]
pub fn wait_for<C, F>(deadline: Duration, mut condition: C) -> impl Future<Output = <F::Output as Outcome>::Value>
where
    C: FnMut() -> F,
    F: Future,
    F::Output: Outcome,
{
    let caller = Location::caller();
    async move {
        let mut last = String::new();
        let poll = async {
            loop {
                match condition().await.outcome() {
                    Ok(value) => return value,
                    Err(seen) => last = seen,
                }
                tokio::time::sleep(POLL).await;
            }
        };
        match tokio::time::timeout(deadline, poll).await {
            Ok(value) => value,
            Err(_) => panic!("{}", missed(caller, deadline, &last)),
        }
    }
}

/// [`wait_for`] without a runtime: blocks the thread.
///
/// # Panics
/// When the condition doesn't hold within `deadline`.
#[track_caller]
pub fn wait_for_blocking<O: Outcome>(deadline: Duration, mut condition: impl FnMut() -> O) -> O::Value {
    let caller = Location::caller();
    let start = Instant::now();
    loop {
        match condition().outcome() {
            Ok(value) => return value,
            Err(last) if start.elapsed() >= deadline => panic!("{}", missed(caller, deadline, &last)),
            Err(_) => std::thread::park_timeout(POLL),
        }
    }
}

fn missed(caller: &Location<'_>, deadline: Duration, last: &str) -> String {
    format!("the condition at {}:{} did not hold within {deadline:?}{last}", caller.file(), caller.line())
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, future::ready};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn returns_what_the_condition_found() {
        let looks = Cell::new(0);
        let look = || {
            looks.set(looks.get() + 1);
            looks.get()
        };
        assert_eq!(wait_for(Duration::from_secs(1), || ready((look() == 3).then_some("found"))).await, "found");
        assert_eq!(looks.get(), 3);
        wait_for(Duration::from_secs(1), async || true).await;
        assert_eq!(wait_for_blocking(Duration::from_secs(1), || Ok::<_, ()>(look())), 4);
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "did not hold within 2s; at last: \"refused\"")]
    async fn a_missed_deadline_names_the_last_error() {
        wait_for(Duration::from_secs(2), async || Err::<(), _>("refused")).await;
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "wait.rs")]
    async fn a_look_that_never_ends_is_cut() {
        wait_for(Duration::from_secs(2), std::future::pending::<bool>).await;
    }

    #[test]
    #[should_panic(expected = "did not hold within 1ms")]
    fn the_blocking_wait_ends_too() {
        wait_for_blocking(Duration::from_millis(1), || false);
    }
}
