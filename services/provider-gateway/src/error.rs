//! How an attempt fails.

use tutti_error::{Error, Reason};
use tutti_providers::ProviderError;

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
}

impl Failure {
    /// A failure of the exchange after the request was sent.
    pub(crate) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { error: ProviderError::new(reason, message), spent: Spent::Something }
    }

    /// No connection.
    pub(crate) fn unreached(reason: Reason, message: impl Into<String>) -> Self {
        Self { error: ProviderError::new(reason, message), spent: Spent::Nothing }
    }

    /// The provider answered with an HTTP status that is no success.
    pub(crate) fn refused(error: ProviderError) -> Self {
        Self { error, spent: Spent::Zero }
    }

    /// What an adapter made of the bytes of a 200.
    pub(crate) fn of_answer(error: ProviderError) -> Self {
        // Answers that broke were worked on; an error in the place of an answer is a refusal.
        let broke = matches!(
            error.reason,
            Reason::MalformedOutput | Reason::Truncated | Reason::EmptyOutput | Reason::ContentFiltered
        );
        Self { error, spent: if broke { Spent::Something } else { Spent::Zero } }
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
