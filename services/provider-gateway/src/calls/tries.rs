//! The tries of one call at its backend: attempts one after the other, each closed before the next is opened.

use std::{sync::Arc, time::Duration};

use tutti_error::{Error, Reason, Result};
use tutti_proto::llm::v1 as wire;
use tutti_types::NanoUsd;

use crate::{
    app::Gateway,
    attempt::Attempt,
    domain::retry::{self, Verdict},
    error::Failure,
    plan::Plan,
};

/// What was tried so far.
#[derive(Debug)]
pub(super) struct Tries {
    plan: Arc<Plan>,
    ended: Vec<wire::Attempt>,
    /// How many of them only found that their credential was refused, and were followed by one with another.
    switched: u32,
    /// Why the last one failed.
    last: Option<Error>,
}

impl Tries {
    /// None yet.
    pub(super) fn new(plan: Arc<Plan>) -> Self {
        Self { plan, ended: Vec::new(), switched: 0, last: None }
    }

    /// Opens the next attempt.
    ///
    /// # Errors
    /// Those of [`Attempt::open`], with the attempts before it. Where it was stopped here, because the ones before
    /// it opened the breaker for instance, their failure.
    pub(super) async fn open(&self, gateway: &Gateway) -> Result<Attempt> {
        Attempt::open(gateway, &self.plan).await.map_err(|error| {
            let error = match (&self.last, error.retry_delay()) {
                (Some(last), Some(wait)) if is_ours(error.reason()) => last.clone().retry_after(wait),
                _ => error,
            };
            error.attempts(self.ended.clone())
        })
    }

    /// The attempts that ended, in order.
    pub(super) fn ended(&self) -> &[wire::Attempt] {
        &self.ended
    }

    /// The last attempt went well: all of them.
    pub(super) fn succeeded(mut self, closed: wire::Attempt) -> Vec<wire::Attempt> {
        self.ended.push(closed);
        self.ended
    }

    /// An attempt failed before anything of it was delivered. Gives the wait before the next one.
    ///
    /// # Errors
    /// The failure, with all attempts, when there is no next one; where it might go well later, it says when.
    pub(super) fn failed(&mut self, attempt: &mut Attempt, failure: Failure) -> Result<Duration> {
        self.ended.push(attempt.close_failed(&failure));
        let verdict = self.verdict(&failure, attempt.may_switch());
        self.last = Some(failure.clone().into());
        if let Verdict::Again(wait) = verdict {
            tracing::info!(
                backend = self.plan.backend.config.name,
                attempt = self.ended.len(),
                reason = failure.error.reason.as_str_name(),
                wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
                "trying again"
            );
            return Ok(wait);
        }
        let error = Error::from(failure).attempts(self.ended.clone());
        Err(match verdict {
            Verdict::Later(wait) => error.retry_after(wait),
            Verdict::Again(_) | Verdict::Enough => error,
        })
    }

    /// An attempt failed after some of it was delivered: nobody can take over.
    pub(super) fn broken(&mut self, attempt: &mut Attempt, failure: Failure) -> Error {
        self.ended.push(attempt.close_failed(&failure));
        Error::from(failure).attempts(self.ended.clone()).after_output()
    }

    /// `others`: it failed for its credential, and there is another.
    fn verdict(&mut self, failure: &Failure, others: bool) -> Verdict {
        let plan = &self.plan;
        let made = u32::try_from(self.ended.len()).unwrap_or(u32::MAX);
        let left = plan.context.attempts.left().unwrap_or(u32::MAX);
        if !plan.affords(self.spent()) {
            return Verdict::Enough;
        }
        if others && !failure.may_pass() && left > 0 {
            self.switched += 1;
            return Verdict::Again(Duration::ZERO);
        }
        if !failure.may_pass() {
            return Verdict::Enough;
        }
        let tried = made - self.switched;
        // Another credential need not wait for this one's limit.
        let asked = if others { Some(Duration::ZERO) } else { failure.error.retry_after };
        let most = tried.saturating_add(left);
        let time = plan.context.deadline.remaining();
        retry::after_failure(&plan.backend.config.resilience.retry, (tried, most), asked, time, rand::random())
    }

    fn spent(&self) -> NanoUsd {
        let costs = self.ended.iter().filter_map(|attempt| attempt.usage).map(|usage| usage.cost_nano_usd);
        NanoUsd(costs.fold(0, i64::saturating_add))
    }
}

/// Whether an attempt was stopped by our own means before it began.
fn is_ours(reason: Reason) -> bool {
    matches!(reason, Reason::CircuitOpen | Reason::BackendRateLimited | Reason::RateLimited)
}
