//! The books: what is written before a call runs, what is added after it, and how it is asked for.

use std::time::Duration;

use tutti_error::Reason;
use tutti_proto::llm::v1::Attribution;

use super::{Outcome, Verdict};

/// What is known before a call runs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NewRecord {
    /// The request.
    pub(crate) request_id: String,
    /// The tool call.
    pub(crate) tool_call_id: String,
    /// The tool's own name.
    pub(crate) tool: String,
    /// The workspace.
    pub(crate) workspace: String,
    /// The arguments, cut to 4 KiB.
    pub(crate) arguments_json: String,
    /// On whose behalf.
    pub(crate) attribution: Attribution,
    /// What the permission check said.
    pub(crate) verdict: Verdict,
    /// The isolation in force.
    pub(crate) isolation: String,
    /// When it began, in microseconds since 1970.
    pub(crate) started_at: i64,
}

/// An idempotency key, and what it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    /// The caller's key.
    pub(crate) key: String,
    /// A hash of what was asked.
    pub(crate) body_hash: Vec<u8>,
}

/// What is known once a call has ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ending {
    /// Whether it did what it should.
    pub(crate) success: bool,
    /// Why it failed.
    pub(crate) reason: Option<Reason>,
    /// The failure in words.
    pub(crate) error: String,
    /// A program's exit status.
    pub(crate) exit_code: Option<i32>,
    /// Bytes of output before any cut.
    pub(crate) output_bytes: u64,
    /// How long it ran.
    pub(crate) duration: Duration,
}

impl Ending {
    /// The end of a call that ran.
    pub(crate) fn of(outcome: &Outcome, duration: Duration) -> Self {
        let failure = outcome.failure.as_ref();
        Self {
            success: failure.is_none(),
            reason: failure.map(|failure| failure.reason),
            error: failure.map(|failure| failure.message.clone()).unwrap_or_default(),
            exit_code: outcome.exit_code,
            output_bytes: outcome.output_bytes,
            duration,
        }
    }
}

/// One tool call in the books.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Record {
    /// Its number, higher for later calls.
    pub(crate) seq: i64,
    /// The tenant.
    pub(crate) org: String,
    /// Who called.
    pub(crate) principal: String,
    /// What was known before.
    pub(crate) call: NewRecord,
    /// What is known since; `None` while it runs, and for good when the process died in it.
    pub(crate) ending: Option<Ending>,
}

/// Which records; empty fields match all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    /// Of this request.
    pub(crate) request_id: String,
    /// Of this session.
    pub(crate) session_id: String,
    /// Of this tool.
    pub(crate) tool: String,
    /// Of this workspace.
    pub(crate) workspace: String,
    /// At or after, in microseconds since 1970.
    pub(crate) from: Option<i64>,
    /// Before, in microseconds since 1970.
    pub(crate) to: Option<i64>,
    /// Only records with a lower number.
    pub(crate) below: Option<i64>,
    /// At most this many.
    pub(crate) limit: i64,
}
