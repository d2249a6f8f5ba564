//! The domain's refusals as errors of the edge.

use tutti_error::{Error, Reason};

use crate::domain::Refusal;

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::UnknownAttempt(_) => Self::new(Reason::UnknownAttempt, refusal.to_string()),
            Refusal::AlreadySettled(_) => Self::invalid("attempt_id", refusal.to_string()),
        }
    }
}
