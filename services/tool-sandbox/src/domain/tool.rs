//! What a tool is, and how a call of it ends.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tutti_error::Reason;

/// What a tool does to the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Category {
    /// Only reads files: safe to repeat.
    Read,
    /// Changes files.
    Write,
    /// Runs programs.
    Execute,
}

/// The argument that allow lists and command checks look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    /// The field with a path; `.` when absent.
    Path(&'static str),
    /// The field with a command of the shell.
    Command(&'static str),
}

impl Subject {
    /// Its value in a call's arguments.
    pub(crate) fn of<'a>(&self, arguments: &'a Value) -> &'a str {
        let (Self::Path(field) | Self::Command(field)) = self;
        arguments.get(*field).and_then(Value::as_str).unwrap_or(".")
    }
}

/// What a tool says of itself.
#[derive(Debug, Clone)]
pub(crate) struct Definition {
    /// The name a model calls it by.
    pub(crate) name: &'static str,
    /// Other names it answers to.
    pub(crate) aliases: &'static [&'static str],
    /// What it does and when to use it, for the model.
    pub(crate) description: &'static str,
    /// The closed JSON Schema of its arguments.
    pub(crate) parameters: Value,
    /// What it does to the world.
    pub(crate) category: Category,
    /// The argument that permissions look at.
    pub(crate) subject: Subject,
    /// The isolation in force while it runs.
    pub(crate) isolation: &'static str,
}

/// Where output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Why a tool did not do what it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The stable reason.
    pub(crate) reason: Reason,
    /// In words, for the model and the operator.
    pub(crate) message: String,
    /// Whether the very same may succeed a moment later.
    pub(crate) is_transient: bool,
}

impl Failure {
    /// A failure of that reason.
    pub(crate) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), is_transient: false }
    }

    /// The same, that may be gone a moment later.
    #[must_use]
    pub(crate) fn transient(self, is_transient: bool) -> Self {
        Self { is_transient, ..self }
    }

    /// The tool ran and failed.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Reason::ToolFailed, message)
    }
}

/// What a tool hands back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// What the model is shown: all of it on success, what there is of it on failure.
    pub(crate) output: String,
    /// Bytes of output before any cut.
    pub(crate) output_bytes: u64,
    /// Whether output was cut.
    pub(crate) truncated: bool,
    /// A program's exit status; -1 when it was killed.
    pub(crate) exit_code: Option<i32>,
    /// Why it failed, if it did.
    pub(crate) failure: Option<Failure>,
}

impl Outcome {
    /// A success with all of its output.
    pub(crate) fn success(output: impl Into<String>) -> Self {
        let output = output.into();
        Self { output_bytes: output.len() as u64, output, ..Self::default() }
    }
}

impl From<Failure> for Outcome {
    fn from(failure: Failure) -> Self {
        Self { failure: Some(failure), ..Self::default() }
    }
}

/// How a call ended, as its caller sees it. Kept as JSON for calls with an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CallResult {
    /// The tool's own name.
    pub(crate) tool: String,
    /// Whether it did what it should.
    pub(crate) success: bool,
    /// What the model is shown.
    pub(crate) output: String,
    /// What went wrong.
    pub(crate) error: String,
    /// The number of the reason, 0 without failure.
    pub(crate) reason: i32,
    /// How long it ran.
    pub(crate) duration: Duration,
    /// How often it was tried again.
    pub(crate) retries: u32,
    /// Whether it was allowed to run.
    pub(crate) approved: bool,
    /// Whether output was cut.
    pub(crate) truncated: bool,
    /// A program's exit status.
    pub(crate) exit_code: Option<i32>,
    /// The isolation in force.
    pub(crate) isolation: String,
}
