//! How an attempt fails.

use tutti_error::{Error, Reason};
use tutti_providers::ProviderError;

use crate::domain::breaker::Ending;

/// What a failed attempt may have cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spent {
    /// The provider was never reached: the hold is released.
    Nothing,
    /// The provider refused: settled with no tokens.
    Zero,
    /// It worked on it: settled with what it told, else with our estimate.
    Something,
}

/// An attempt that failed.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    /// Why, classed.
    pub(crate) error: ProviderError,
    /// What it may have cost.
    pub(crate) spent: Spent,
    /// The answer came whole, but is not of the form that was asked for: the model's doing, not its provider's.
    is_of_form: bool,
}

impl Failure {
    /// A failure of the exchange after the request was sent.
    pub(crate) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { error: ProviderError::new(reason, message), spent: Spent::Something, is_of_form: false }
    }

    /// A whole answer that is not what was asked for.
    pub(crate) fn of_form(why: impl Into<String>) -> Self {
        Self { is_of_form: true, ..Self::new(Reason::MalformedOutput, why) }
    }

    /// No connection.
    pub(crate) fn unreached(reason: Reason, message: impl Into<String>) -> Self {
        Self { error: ProviderError::new(reason, message), spent: Spent::Nothing, is_of_form: false }
    }

    /// The provider answered with an HTTP status that is no success.
    pub(crate) fn refused(error: ProviderError) -> Self {
        Self { error, spent: Spent::Zero, is_of_form: false }
    }

    /// What an adapter made of the bytes of a 200.
    pub(crate) fn of_answer(error: ProviderError) -> Self {
        // Answers that broke were worked on; an error in the place of an answer is a refusal.
        let broke = matches!(
            error.reason,
            Reason::MalformedOutput | Reason::Truncated | Reason::EmptyOutput | Reason::ContentFiltered
        );
        Self { error, spent: if broke { Spent::Something } else { Spent::Zero }, is_of_form: false }
    }

    /// Whether the same call may go well at the same backend a little later. An answer of the wrong form is the router's
    /// to have made again: it does so for streams too.
    pub(crate) fn may_pass(&self) -> bool {
        self.error.is_retryable() && !self.is_of_form
    }

    /// What a circuit breaker makes of it. What a caller can bring about by its request counts for nothing, lest one
    /// closes a backend to the others: answers of the wrong form, empty ones, credentials, refusals, deadlines.
    pub(crate) fn ending(&self) -> Ending {
        match self.error.reason {
            Reason::MalformedOutput if self.is_of_form => Ending::Nothing,
            Reason::ProviderRateLimited
            | Reason::ProviderError
            | Reason::ConnectionFailed
            | Reason::ConnectTimeout
            | Reason::FirstTokenTimeout
            | Reason::IdleTimeout
            | Reason::TotalTimeout
            | Reason::Truncated
            | Reason::MalformedOutput => Ending::Failed,
            _ => Ending::Nothing,
        }
    }

    /// Whether it says something about the backend rather than about the request or the caller.
    pub(crate) fn speaks_of_backend(&self) -> bool {
        !matches!(
            self.error.reason,
            Reason::ProviderRejected
                | Reason::UnknownModel
                | Reason::ContextTooLong
                | Reason::ContentFiltered
                | Reason::Unsupported
                | Reason::Cancelled
                | Reason::DeadlineExceeded
        )
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        failure.error.into()
    }
}
