//! The only mapping between [`Error`] and [`tonic::Status`], in both directions.

use std::time::Duration;

use prost::Message as _;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use tutti_proto::llm::v1::{Attempt, AttemptOutcome};

use crate::{DOMAIN, Error, Reason};

/// The trailer that carries the attempts of a failed call, one `tutti.llm.v1.Attempt` each.
const ATTEMPTS: &str = "tutti-attempts-bin";
/// Bound of all details of one status. Larger headers are refused by some HTTP/2 stacks.
const MAX_DETAILS: usize = 4096;
/// Bound of a public message.
const MAX_MESSAGE: usize = 1024;

/// The gRPC code of a reason: the table of `design/architecture.md`, rule 4.
pub fn code_of(reason: Reason, after_output: bool) -> Code {
    use Reason as R;
    match reason {
        R::InvalidRequest | R::MessageTooLarge | R::ProviderRejected | R::ContextTooLong | R::InvalidToolArguments => {
            Code::InvalidArgument
        }
        R::UnknownBackend
        | R::UnknownModel
        | R::UnknownPersona
        | R::UnknownSession
        | R::UnknownTool
        | R::UnknownRequest
        | R::UnknownAttempt
        | R::UnknownWorkspace => Code::NotFound,
        R::IdempotencyConflict => Code::AlreadyExists,
        R::BudgetExceeded
        | R::RateLimited
        | R::BackendRateLimited
        | R::Overloaded
        | R::ToolRoundsExceeded
        | R::AttemptsExceeded => Code::ResourceExhausted,
        R::BackendNotUsable
        | R::Unsupported
        | R::ProviderAuth
        | R::ProviderBilling
        | R::ContentFiltered
        | R::ApprovalRequired
        | R::ToolDisabled => Code::FailedPrecondition,
        R::PermissionDenied | R::PathOutsideWorkspace => Code::PermissionDenied,
        R::IdleTimeout | R::TotalTimeout | R::Truncated | R::MalformedOutput | R::ProviderError if after_output => {
            Code::DataLoss
        }
        R::AllBackendsFailed
        | R::CircuitOpen
        | R::ProviderRateLimited
        | R::ProviderError
        | R::ConnectionFailed
        | R::ConnectTimeout
        | R::FirstTokenTimeout
        | R::IdleTimeout
        | R::TotalTimeout
        | R::Truncated
        | R::MalformedOutput
        | R::EmptyOutput
        | R::WorkspaceUnavailable
        | R::StoreUnavailable
        | R::ServiceUnavailable
        | R::ShuttingDown => Code::Unavailable,
        R::Cancelled => Code::Cancelled,
        R::DeadlineExceeded => Code::DeadlineExceeded,
        R::Unauthenticated => Code::Unauthenticated,
        R::Unspecified | R::ToolFailed | R::ToolTimeout | R::ToolOutputLimit | R::Internal => Code::Internal,
    }
}

/// The reason as it stands in `ErrorInfo.reason`: without the enum's prefix.
fn public_name(reason: Reason) -> &'static str {
    let name = reason.as_str_name();
    name.strip_prefix("ERROR_REASON_").unwrap_or(name)
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let mut code = code_of(error.reason(), error.is_after_output());
        // All backends refused our credentials: trying again can't help.
        if error.reason() == Reason::AllBackendsFailed && all_for_bad_credentials(error.attempted()) {
            code = Code::FailedPrecondition;
        }
        if code == Code::Internal {
            tracing::error!(
                reason = public_name(error.reason()),
                context = error.internal_context(),
                "{}",
                error.message()
            );
        }
        let mut details = ErrorDetails::new();
        let metadata: Vec<_> = error.0.metadata.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        details.set_error_info(
            public_name(error.reason()),
            DOMAIN,
            metadata.into_iter().collect::<std::collections::HashMap<_, _>>(),
        );
        if let Some(delay) = error.retry_delay() {
            details.set_retry_info(Some(delay));
        }
        for (field, why) in error.fields().iter().take(16) {
            details.add_bad_request_violation(field, why);
        }
        let message = cut(&error.to_string(), MAX_MESSAGE);
        let mut status = Status::with_error_details(code, message, details);
        add_attempts(&mut status, error.attempted());
        status
    }
}

fn all_for_bad_credentials(attempts: &[Attempt]) -> bool {
    // Attempts of earlier rounds may have gone well.
    let mut failed = attempts.iter().filter(|a| a.outcome() != AttemptOutcome::Ok).peekable();
    failed.peek().is_some()
        && failed
            .all(|a| matches!(a.reason(), Reason::ProviderAuth | Reason::ProviderBilling | Reason::BackendNotUsable))
}

/// Puts the attempts into trailers, the latest first to go when space runs out.
pub(crate) fn add_attempts(status: &mut Status, attempts: &[Attempt]) {
    let mut left = MAX_DETAILS.saturating_sub(status.details().len());
    for attempt in attempts {
        let mut short = attempt.clone();
        short.message = cut(&short.message, 200);
        let bytes = short.encode_to_vec();
        // Base64 on the wire.
        let cost = bytes.len().div_ceil(3) * 4;
        if cost > left {
            break;
        }
        left -= cost;
        status.metadata_mut().append_bin(ATTEMPTS, tonic::metadata::MetadataValue::from_bytes(&bytes));
    }
}

fn cut(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let mut end = max;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

/// The attempts that a failed call lists in its trailers.
pub fn attempts_of(status: &Status) -> Vec<Attempt> {
    status
        .metadata()
        .get_all_bin(ATTEMPTS)
        .iter()
        .filter_map(|value| Attempt::decode(value.to_bytes().ok()?).ok())
        .collect()
}

/// The reason that a status of the mesh names; `None` for a foreign one.
pub fn reason_of(status: &Status) -> Option<Reason> {
    let info = status.get_details_error_info()?;
    if info.domain != DOMAIN {
        return None;
    }
    Reason::from_str_name(&format!("ERROR_REASON_{}", info.reason))
}

/// Reads a status of another service of the mesh back into an error, so that it passes through a hop unchanged.
///
/// `peer` is the service's name, for statuses that did not come from its code (connection lost, transport limits).
pub fn from_status(status: &Status, peer: &str) -> Error {
    let details = status.get_error_details();
    let Some(reason) = reason_of(status) else {
        return foreign(status, peer);
    };
    let fields = details.bad_request().map(|b| b.field_violations.clone()).unwrap_or_default();
    let mut text = status.message().to_owned();
    if let Some(first) = fields.first() {
        // `Display` appends the fields; what stands before the first is the message alone.
        let tail = format!("; {}: ", first.field);
        if let Some(at) = text.find(&tail) {
            text.truncate(at);
        }
    }
    let mut error = Error::new(reason, text).attempts(attempts_of(status));
    for violation in fields {
        error = error.field(violation.field, violation.description);
    }
    if let Some(delay) = details.retry_info().and_then(|r| r.retry_delay) {
        error = error.retry_after(delay);
    }
    if let Some(info) = details.error_info() {
        for (key, value) in &info.metadata {
            error = error.metadata(key, value);
        }
    }
    if status.code() == Code::DataLoss {
        error = error.after_output();
    }
    error
}

fn foreign(status: &Status, peer: &str) -> Error {
    let context = format!("{peer} answered {:?}: {}", status.code(), status.message());
    match status.code() {
        // tonic's own timeout answers CANCELLED, and so does a reset by a dying peer; a caller's own cancel never comes here.
        Code::Cancelled => Error::new(Reason::Cancelled, "the call was cancelled").context(context),
        Code::DeadlineExceeded => Error::new(Reason::DeadlineExceeded, "the deadline passed").context(context),
        Code::Unavailable | Code::Unknown => {
            Error::new(Reason::ServiceUnavailable, format!("the {peer} service can't be reached; try again"))
                .context(context)
                .retry_after(Duration::from_secs(1))
        }
        Code::OutOfRange | Code::ResourceExhausted => {
            Error::new(Reason::MessageTooLarge, format!("a message to or from {peer} is too large")).context(context)
        }
        _ => Error::internal(context),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_round_trips_with_its_details() {
        let error = Error::invalid("messages[0].role", "is required")
            .retry_after(Duration::from_millis(1500))
            .metadata("nearest", "claude");
        let status = Status::from(error);
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(reason_of(&status), Some(Reason::InvalidRequest));
        let back = from_status(&status, "router");
        assert_eq!(back.reason(), Reason::InvalidRequest);
        assert_eq!(back.message(), "the request is not valid");
        assert_eq!(back.fields(), [("messages[0].role".to_owned(), "is required".to_owned())]);
        assert_eq!(back.retry_delay(), Some(Duration::from_millis(1500)));
    }

    #[test]
    fn after_output_turns_unavailable_into_data_loss() {
        assert_eq!(code_of(Reason::Truncated, false), Code::Unavailable);
        assert_eq!(code_of(Reason::Truncated, true), Code::DataLoss);
        let status = Status::from(Error::new(Reason::Truncated, "cut").after_output());
        assert!(from_status(&status, "gateway").is_after_output());
    }

    #[test]
    fn all_bad_credentials_is_a_failed_precondition() {
        let attempt = |reason: Reason| Attempt { reason: reason.into(), ..Default::default() };
        let error = |reasons: &[Reason]| {
            Error::new(Reason::AllBackendsFailed, "all failed").attempts(reasons.iter().map(|r| attempt(*r)).collect())
        };
        assert_eq!(Status::from(error(&[Reason::ProviderAuth, Reason::ProviderAuth])).code(), Code::FailedPrecondition);
        assert_eq!(Status::from(error(&[Reason::ProviderAuth, Reason::ProviderError])).code(), Code::Unavailable);
        // What went well in an earlier round changes nothing.
        let went_well = Attempt { outcome: AttemptOutcome::Ok.into(), ..Default::default() };
        let later = vec![went_well.clone(), attempt(Reason::ProviderAuth)];
        let error = |attempts| Error::new(Reason::AllBackendsFailed, "all failed").attempts(attempts);
        assert_eq!(Status::from(error(later)).code(), Code::FailedPrecondition);
        assert_eq!(Status::from(error(vec![went_well])).code(), Code::Unavailable);
    }

    #[test]
    fn internal_context_stays_inside() {
        let status = Status::from(Error::internal("password is hunter2"));
        assert!(!format!("{status:?}").contains("hunter2"));
    }

    #[test]
    fn many_attempts_keep_the_details_small() {
        let attempts = (0..200)
            .map(|n| Attempt { attempt_id: format!("a{n}"), message: "x".repeat(5000), ..Default::default() })
            .collect();
        let status = Status::from(Error::new(Reason::AllBackendsFailed, "all failed").attempts(attempts));
        let kept = attempts_of(&status);
        assert!(!kept.is_empty() && kept.len() < 200);
        let size: usize = kept.iter().map(|a| a.encoded_len().div_ceil(3) * 4).sum();
        assert!(size + status.details().len() <= MAX_DETAILS, "{size}");
    }

    #[test]
    fn unknown_names_come_with_the_nearest() {
        let error = Error::unknown(Reason::UnknownBackend, "backend", "claud", ["openai", "claude", "ollama"]);
        assert_eq!(error.message(), "unknown backend \"claud\"; did you mean \"claude\"?");
        let error = Error::unknown(Reason::UnknownModel, "model", "gpt-4oo", ["gpt-4o", "gpt-4o"]);
        assert_eq!(error.message(), "unknown model \"gpt-4oo\"; did you mean \"gpt-4o\"?");
    }
}
