//! What one turn used, tried and said so far.

use std::time::{Duration, Instant};

use tutti_error::{Error, Reason};
use tutti_proto::{
    gateway::v1::GenerateResponse,
    llm::v1::{Attempt, AttemptOutcome, Message, Usage},
    sandbox::v1::ToolResult,
};
use tutti_types::time;

use super::{route::Taken, run::Run};

/// The sums of a turn.
#[derive(Debug)]
pub(crate) struct Tally {
    /// When the request arrived.
    pub(crate) arrived: Instant,
    /// From the arrival to the first piece of output.
    pub(crate) first_output: Option<Duration>,
    /// All attempts, in order.
    pub(crate) attempts: Vec<Attempt>,
    /// Calls and results of finished tool rounds.
    pub(crate) rounds: Vec<Message>,
    pub(crate) tool_results: Vec<ToolResult>,
    pub(crate) warnings: Vec<String>,
    /// Tool rounds that were run.
    pub(crate) tool_rounds: u32,
    /// Attempts that nobody knows more of than that they may have been made: by calls that were lost on their way and sent
    /// again, and by runs before this one.
    pub(crate) lost: u32,
    used: Usage,
    /// The running generation's attempts with what they used, as the gateway tells them; the last one is under way.
    running: Vec<Attempt>,
}

impl Tally {
    /// The sums of a run whose call may have been run before.
    pub(crate) fn new(arrived: Instant, run: &Run) -> Self {
        let known = u32::try_from(run.earlier.len()).unwrap_or(u32::MAX);
        let mut used = Usage::default();
        add_all(&mut used, &run.earlier);
        Self {
            arrived,
            first_output: None,
            attempts: run.earlier.iter().map(cut_short).collect(),
            rounds: Vec::new(),
            tool_results: Vec::new(),
            warnings: Vec::new(),
            tool_rounds: 0,
            lost: run.spent.saturating_sub(known),
            used,
            running: Vec::new(),
        }
    }

    /// Usage over the whole turn, the running generation included.
    pub(crate) fn usage(&self) -> Usage {
        let mut sum = self.used;
        add_all(&mut sum, &self.running);
        sum
    }

    /// The running generation sends this attempt, or tells how one ended that is followed by another.
    pub(crate) fn attempting(&mut self, attempt: Attempt) {
        match self.running.last_mut().filter(|last| last.attempt_id == attempt.attempt_id) {
            Some(last) => *last = attempt,
            None => self.running.push(attempt),
        }
    }

    /// The usage so far of the attempt under way.
    pub(crate) fn using(&mut self, usage: Usage) {
        match self.running.last_mut() {
            Some(last) => last.usage = Some(usage),
            None => self.running.push(Attempt { usage: Some(usage), ..Default::default() }),
        }
    }

    /// Marks the first piece of output.
    pub(crate) fn output(&mut self) {
        if self.first_output.is_none() {
            self.first_output = Some(self.arrived.elapsed());
        }
    }

    /// Attempts that were sent, or may have been.
    pub(crate) fn sent(&self) -> u32 {
        let sent = self.attempts.iter().filter(|a| a.outcome() != AttemptOutcome::Skipped).count();
        u32::try_from(sent).unwrap_or(u32::MAX).saturating_add(self.lost)
    }

    /// A generation went well. `began` is when it was asked for.
    pub(crate) fn succeeded(&mut self, response: &GenerateResponse, began: Duration) {
        self.running.clear();
        add(&mut self.used, &response.usage.unwrap_or_default());
        if response.attempts.is_empty() {
            self.attempts.push(Attempt {
                backend: response.backend.clone(),
                provider: response.provider.clone(),
                model: response.model.clone(),
                outcome: AttemptOutcome::Ok.into(),
                usage: response.usage,
                ..Default::default()
            });
        }
        self.attempts.extend(response.attempts.iter().cloned());
        if self.first_output.is_none() {
            // Not streamed: the gateway saw the first piece.
            let after = response.time_to_first_token.as_ref().map(time::from_wire);
            self.first_output = Some(after.map_or_else(|| self.arrived.elapsed(), |after| began + after));
        }
    }

    /// A generation failed; `partial` is what its `done` said. Gives its last attempt.
    pub(crate) fn failed(&mut self, taken: &Taken, error: &Error, partial: Option<&GenerateResponse>) -> Attempt {
        let of_done = partial.map(|p| p.attempts.as_slice()).unwrap_or_default();
        // Trailers may hold fewer than were made.
        let known = if of_done.len() > error.attempted().len() { of_done } else { error.attempted() };
        let mut attempts = known.to_vec();
        let mut running = std::mem::take(&mut self.running);
        if attempts.is_empty() {
            // What was told of the attempt under way is an estimate: had it ended, it would know better.
            let last = running.pop_if(|last| last.outcome() == AttemptOutcome::Unspecified);
            attempts = running;
            attempts.push(unlisted(last, taken, error, partial.and_then(|p| p.usage)));
        }
        let mut used = Usage::default();
        add_all(&mut used, &attempts);
        let whole = partial.and_then(|p| p.usage);
        if let Some(whole) = whole.filter(|whole| whole.cost_nano_usd > used.cost_nano_usd) {
            used = whole;
        }
        add(&mut self.used, &used);
        let last = attempts.last().cloned().unwrap_or_default();
        self.attempts.append(&mut attempts);
        last
    }
}

/// An attempt that the gateway does not list: we ended it (`running` is what was told of it), it never got to a provider,
/// or the gateway went away.
fn unlisted(running: Option<Attempt>, taken: &Taken, error: &Error, used: Option<Usage>) -> Attempt {
    let outcome = match error.reason() {
        Reason::BackendNotUsable | Reason::CircuitOpen | Reason::BackendRateLimited => AttemptOutcome::Skipped,
        Reason::Cancelled | Reason::ShuttingDown => AttemptOutcome::Cancelled,
        _ => AttemptOutcome::Failed,
    };
    let told = running.unwrap_or_else(|| Attempt {
        provider: taken.backend.provider.clone(),
        model: taken.asked_model().to_owned(),
        ..Default::default()
    });
    Attempt {
        backend: taken.backend.name.clone(),
        outcome: outcome.into(),
        reason: error.reason().into(),
        message: error.to_string(),
        usage: Some(used.or(told.usage).unwrap_or_default()),
        ..told
    }
}

fn add_all(sum: &mut Usage, attempts: &[Attempt]) {
    attempts.iter().filter_map(|attempt| attempt.usage.as_ref()).for_each(|usage| add(sum, usage));
}

/// An attempt of a run whose router died, as far as it was told of.
fn cut_short(attempt: &Attempt) -> Attempt {
    let mut attempt = attempt.clone();
    if attempt.outcome() == AttemptOutcome::Unspecified {
        attempt.set_outcome(AttemptOutcome::Failed);
        attempt.set_reason(Reason::ServiceUnavailable);
        attempt.message = "the router that made it died".into();
    }
    attempt
}

fn add(sum: &mut Usage, more: &Usage) {
    sum.input_tokens = sum.input_tokens.saturating_add(more.input_tokens);
    sum.cache_read_tokens = sum.cache_read_tokens.saturating_add(more.cache_read_tokens);
    sum.cache_write_tokens = sum.cache_write_tokens.saturating_add(more.cache_write_tokens);
    sum.output_tokens = sum.output_tokens.saturating_add(more.output_tokens);
    sum.reasoning_tokens = sum.reasoning_tokens.saturating_add(more.reasoning_tokens);
    sum.cost_nano_usd = sum.cost_nano_usd.saturating_add(more.cost_nano_usd);
    sum.estimated |= more.estimated;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_told_of_in_a_stream_are_kept_when_nothing_else_lists_them() {
        let attempt = |id: &str, outcome: AttemptOutcome, cost_nano_usd| Attempt {
            attempt_id: id.into(),
            outcome: outcome.into(),
            usage: Some(Usage { cost_nano_usd, ..Default::default() }),
            ..Default::default()
        };
        let mut tally = Tally::new(Instant::now(), &Run::default());
        tally.attempting(attempt("a", AttemptOutcome::Unspecified, 7));
        tally.attempting(attempt("a", AttemptOutcome::Failed, 3));
        tally.attempting(attempt("b", AttemptOutcome::Unspecified, 7));
        tally.using(Usage { cost_nano_usd: 9, ..Default::default() });
        assert_eq!(tally.usage().cost_nano_usd, 12);
        let taken = Taken {
            backend: super::super::fakes::backend("claude"),
            model: String::new(),
            persona: None,
            persona_named: false,
            own_cap: false,
            budget: 0,
            why: String::new(),
        };
        let cancelled = Error::new(Reason::Cancelled, "enough");
        let last = tally.failed(&taken, &cancelled, None);
        assert_eq!((last.attempt_id.as_str(), last.outcome()), ("b", AttemptOutcome::Cancelled));
        let listed: Vec<_> = tally.attempts.iter().map(|a| (a.attempt_id.as_str(), a.outcome())).collect();
        assert_eq!(listed, [("a", AttemptOutcome::Failed), ("b", AttemptOutcome::Cancelled)]);
        assert_eq!((tally.usage().cost_nano_usd, tally.sent()), (12, 2));
    }
}
