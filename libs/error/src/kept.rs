//! Errors that are kept, so that those who ask later are told the same.

use prost::Message as _;
use tonic::{Code, Status, metadata::MetadataMap};
use tutti_proto::llm::v1::Attempt;

use crate::{Error, Result, attempts_of, from_status, status};

/// A status without its transport.
#[derive(Clone, PartialEq, prost::Message)]
struct Kept {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    /// `google.rpc.Status`.
    #[prost(bytes = "vec", tag = "3")]
    details: Vec<u8>,
    #[prost(message, repeated, tag = "4")]
    attempts: Vec<Attempt>,
}

impl Error {
    /// The error as its caller sees it, for [`Error::decode`]. What only the log may see is left out.
    pub fn encode(&self) -> Vec<u8> {
        let status = Status::from(self.clone());
        let kept = Kept {
            code: status.code().into(),
            message: status.message().to_owned(),
            details: status.details().to_vec(),
            attempts: attempts_of(&status),
        };
        kept.encode_to_vec()
    }

    /// The error that was encoded.
    ///
    /// # Errors
    /// INTERNAL when nothing of ours was.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let kept = Kept::decode(bytes).map_err(Self::internal)?;
        let (code, details) = (Code::from(kept.code), kept.details.into());
        let mut status = Status::with_details_and_metadata(code, kept.message, details, MetadataMap::new());
        status::add_attempts(&mut status, &kept.attempts);
        Ok(from_status(&status, "router"))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tutti_proto::llm::v1::AttemptOutcome;

    use super::*;
    use crate::Reason;

    #[test]
    fn a_kept_error_says_the_same() {
        let mut attempt = Attempt { attempt_id: "a".into(), backend: "b".into(), ..Default::default() };
        attempt.set_outcome(AttemptOutcome::Failed);
        let error = Error::new(Reason::Truncated, "cut")
            .field("messages[0].text", "is odd")
            .retry_after(Duration::from_millis(1500))
            .metadata("nearest", "claude")
            .attempts(vec![attempt.clone()])
            .after_output();
        let back = Error::decode(&error.encode()).unwrap();
        assert_eq!((back.reason(), back.message(), back.is_after_output()), (Reason::Truncated, "cut", true));
        assert_eq!((back.retry_delay(), back.attempted()), (Some(Duration::from_millis(1500)), [attempt].as_slice()));
        let (one, other) = (Status::from(error), Status::from(back));
        assert_eq!((one.code(), one.message(), one.details()), (other.code(), other.message(), other.details()));
        assert!(Error::decode(b"\xff\xff").is_err());
    }
}
