//! The one error of the mesh's edges, its stable reasons, and the only place that builds a [`tonic::Status`].
//!
//! Inside, a module has its own `thiserror` enum; at the edge it becomes an [`Error`]: a [`Reason`] of the closed list
//! in `error_reason.proto`, a public message (what happened, what the caller can do; nothing secret) and, apart from
//! it, an internal context that only reaches the log. The reason alone decides the gRPC code ([`code_of`]).

mod kept;
mod status;

use std::{collections::BTreeSet, fmt, time::Duration};

pub use status::{attempts_of, code_of, from_status, reason_of};
use tutti_proto::llm::v1::Attempt;
pub use tutti_proto::llm::v1::ErrorReason as Reason;

/// The domain of `google.rpc.ErrorInfo` in every error of the mesh.
pub const DOMAIN: &str = "tutti";

/// `Result` with the edge error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error as a caller sees it, with what the log needs besides.
#[derive(Debug, Clone)]
pub struct Error(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    reason: Reason,
    message: String,
    internal: Option<String>,
    retry_after: Option<Duration>,
    fields: Vec<(String, String)>,
    metadata: Vec<(String, String)>,
    attempts: Vec<Attempt>,
    after_output: bool,
}

impl Error {
    /// An error with its reason and public message: lower case, no full stop, no secrets.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            reason,
            message: message.into(),
            internal: None,
            retry_after: None,
            fields: Vec::new(),
            metadata: Vec::new(),
            attempts: Vec::new(),
            after_output: false,
        }))
    }

    /// A malformed request; `field` in the form `messages[0].role`.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Reason::InvalidRequest, "the request is not valid").field(field, message)
    }

    /// A fault of ours: the public text says no more than that, the log gets `context`.
    pub fn internal(context: impl fmt::Display) -> Self {
        Self::new(Reason::Internal, "an internal error; the log has more under this request id").context(context)
    }

    /// A name that isn't known, with the nearest of those that are.
    pub fn unknown<'a>(reason: Reason, what: &str, name: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        // Several backends may have the same model: each name once.
        let known: BTreeSet<&str> = known.into_iter().collect();
        let mut near: Vec<(&str, f64)> =
            known.into_iter().map(|k| (k, similarity(name, k))).filter(|(_, score)| *score > 0.0).collect();
        near.sort_by(|a, b| b.1.total_cmp(&a.1));
        near.truncate(3);
        let mut message = format!("unknown {what} \"{name}\"");
        if !near.is_empty() {
            let names: Vec<_> = near.iter().map(|(k, _)| format!("\"{k}\"")).collect();
            message.push_str(&format!("; did you mean {}?", names.join(", ")));
        }
        Self::new(reason, message)
    }

    /// Adds what only the log may see.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.0.internal = Some(match self.0.internal.take() {
            Some(old) => format!("{context}: {old}"),
            None => context.to_string(),
        });
        self
    }

    /// Names a field that is wrong, and why. Sent as `BadRequest`.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>, message: impl Into<String>) -> Self {
        self.0.fields.push((field.into(), message.into()));
        self
    }

    /// Says when to try again. Sent as `RetryInfo`.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.0.retry_after = Some(delay);
        self
    }

    /// Adds a detail to `ErrorInfo.metadata`.
    #[must_use]
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.metadata.push((key.into(), value.into()));
        self
    }

    /// Adds the attempts that led here. Sent along, shortened to keep the details below 4 KiB.
    #[must_use]
    pub fn attempts(mut self, attempts: Vec<Attempt>) -> Self {
        self.0.attempts = attempts;
        self
    }

    /// Marks a failure that came after the first token: what would be UNAVAILABLE becomes DATA_LOSS.
    #[must_use]
    pub fn after_output(mut self) -> Self {
        self.0.after_output = true;
        self
    }

    /// The stable reason.
    pub fn reason(&self) -> Reason {
        self.0.reason
    }

    /// The public message.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What only the log may see.
    pub fn internal_context(&self) -> Option<&str> {
        self.0.internal.as_deref()
    }

    /// When to try again.
    pub fn retry_delay(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The fields that are wrong, and why.
    pub fn fields(&self) -> &[(String, String)] {
        &self.0.fields
    }

    /// The attempts that led here.
    pub fn attempted(&self) -> &[Attempt] {
        &self.0.attempts
    }

    /// Whether some output had been delivered before.
    pub fn is_after_output(&self) -> bool {
        self.0.after_output
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        for (field, why) in &self.0.fields {
            write!(f, "; {field}: {why}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// How alike two names are, 0 to 1; 0 also for those too far apart to be worth a hint.
fn similarity(name: &str, known: &str) -> f64 {
    let (a, b) = (name.to_lowercase(), known.to_lowercase());
    if !a.is_empty() && (b.contains(&a) || a.contains(&b)) {
        return 0.9;
    }
    let score = strsim::jaro_winkler(&a, &b);
    if score >= 0.7 { score } else { 0.0 }
}
