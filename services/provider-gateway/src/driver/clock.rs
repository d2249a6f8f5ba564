//! How long an attempt may wait for what.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use tutti_config::Timeouts;
use tutti_error::Reason;
use tutti_types::Deadline;

use crate::error::Failure;

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// A whole answer: nothing is expected before it is complete.
    Whole,
    /// The first piece of a streamed answer.
    FirstToken,
    /// The next piece.
    Next,
}

/// The bounds of one attempt. Whichever is first says why the wait ended.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    started: Instant,
    deadline: Deadline,
    timeouts: Timeouts,
}

impl Clock {
    /// Starts now.
    pub(crate) fn start(timeouts: &Timeouts, deadline: Deadline) -> Self {
        Self { started: Instant::now(), deadline, timeouts: timeouts.clone() }
    }

    /// Since the attempt began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Waits for `future`, as long as `wait` allows. The timer for the next piece begins here, so it never runs while
    /// our own reader holds the stream back.
    pub(crate) async fn wait<T>(&self, wait: Wait, future: impl Future<Output = T>) -> Result<T, Failure> {
        let bounds = self.bounds(wait, Instant::now());
        let nearest = bounds.into_iter().flatten().min_by_key(|(at, _)| *at);
        let Some((at, reason)) = nearest else { return Ok(future.await) };
        tokio::time::timeout_at(at.into(), future).await.map_err(|_| self.failure(reason))
    }

    /// Whether there is time left at all.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        let now = Instant::now();
        let over = self.bounds(Wait::Whole, now).into_iter().flatten().filter(|(at, _)| *at <= now);
        match over.min_by_key(|(at, _)| *at) {
            Some((_, reason)) => Err(self.failure(reason)),
            None => Ok(()),
        }
    }

    fn bounds(&self, wait: Wait, now: Instant) -> [Option<(Instant, Reason)>; 3] {
        let of_wait = match wait {
            Wait::Whole => None,
            Wait::FirstToken => Some((self.started + self.timeouts.first_token, Reason::FirstTokenTimeout)),
            Wait::Next => Some((now + self.timeouts.idle, Reason::IdleTimeout)),
        };
        let total = (self.started + self.timeouts.total, Reason::TotalTimeout);
        [Some((self.deadline.instant(), Reason::DeadlineExceeded)), of_wait, Some(total)]
    }

    fn failure(&self, reason: Reason) -> Failure {
        let message = match reason {
            Reason::FirstTokenTimeout => {
                format!("nothing of the answer came within {:?}", self.timeouts.first_token)
            }
            Reason::IdleTimeout => format!("the answer paused for longer than {:?}", self.timeouts.idle),
            Reason::TotalTimeout => format!("the answer took longer than {:?}", self.timeouts.total),
            _ => "the deadline passed before the answer was complete".to_owned(),
        };
        Failure::new(reason, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeouts() -> Timeouts {
        let seconds = Duration::from_secs;
        Timeouts { connect: seconds(1), first_token: seconds(5), idle: seconds(3), total: seconds(10) }
    }

    async fn reason(clock: &Clock, wait: Wait) -> Reason {
        clock.wait(wait, std::future::pending::<()>()).await.unwrap_err().error.reason
    }

    #[tokio::test(start_paused = true)]
    async fn the_nearest_bound_says_why() {
        let far = Deadline::after(Duration::from_secs(100));
        let clock = Clock::start(&timeouts(), far);
        assert_eq!(reason(&clock, Wait::FirstToken).await, Reason::FirstTokenTimeout);
        let clock = Clock::start(&timeouts(), far);
        assert_eq!(reason(&clock, Wait::Next).await, Reason::IdleTimeout);
        let clock = Clock::start(&timeouts(), far);
        assert_eq!(reason(&clock, Wait::Whole).await, Reason::TotalTimeout);
        let near = Deadline::after(Duration::from_secs(1));
        let clock = Clock::start(&timeouts(), near);
        assert_eq!(reason(&clock, Wait::Next).await, Reason::DeadlineExceeded);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_ready_is_taken_even_when_the_time_is_over() {
        let clock = Clock::start(&timeouts(), Deadline::after(Duration::ZERO));
        assert_eq!(clock.wait(Wait::Next, std::future::ready(7)).await.unwrap(), 7);
    }
}
