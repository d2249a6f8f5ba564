//! The tools themselves, and how they are found.

mod bash;
mod capture;
mod list_dir;
mod process;
mod read;
mod registry;
mod stop;
mod write;

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tutti_error::Reason;

pub(crate) use registry::{Entry, Registry};
pub(crate) use stop::Stop;

use crate::{
    domain::{Definition, Failure, Outcome, Stream},
    workspace::Workspace,
};

/// Something that can be run.
#[async_trait]
pub(crate) trait Tool: fmt::Debug + Send + Sync {
    /// What it is.
    fn definition(&self) -> Definition;

    /// Runs a call whose arguments satisfy the definition's schema, until it ends or `context.stop` does. When this
    /// returns, nothing of the call is left running.
    async fn run(&self, arguments: &Value, context: Context) -> Outcome;
}

/// What a running tool has.
#[derive(Debug)]
pub(crate) struct Context {
    /// The folder it works in.
    pub(crate) workspace: Arc<Workspace>,
    /// Where its output goes while it runs.
    pub(crate) output: OutputSink,
    /// What ends it early.
    pub(crate) stop: Stop,
    /// Bytes of output to keep.
    pub(crate) max_output: usize,
}

/// A piece of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Where it came from.
    pub(crate) stream: Stream,
    /// The text.
    pub(crate) text: String,
}

/// Takes output while a tool runs. Bounded: a reader that doesn't keep up holds the tool back.
#[derive(Debug, Clone)]
pub(crate) struct OutputSink(pub(crate) mpsc::Sender<Piece>);

impl OutputSink {
    /// Hands on a piece, when the reader is ready for it.
    ///
    /// # Errors
    /// Why the call ends, when it does first.
    pub(crate) async fn send(&self, piece: Piece, stop: &Stop) -> Result<(), Failure> {
        tokio::select! {
            sent = self.0.send(piece) => sent.map_err(|_| stop::cancelled()),
            failure = stop.wait() => Err(failure),
        }
    }
}

/// Runs blocking work aside. When the call ends first, the work is told so and left to end by itself.
async fn blocking<T: Send + 'static>(
    stop: &Stop,
    work: impl FnOnce(&CancellationToken) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let abandoned = CancellationToken::new();
    let seen = abandoned.clone();
    let working = tokio::task::spawn_blocking(move || work(&seen));
    tokio::select! {
        biased;
        done = working => done.unwrap_or_else(|error| {
            tracing::error!(%error, "a tool broke");
            Err(Failure::new(Reason::Internal, "the tool broke; the log has more"))
        }),
        failure = stop.wait() => {
            abandoned.cancel();
            Err(failure)
        }
    }
}

/// A text argument; the schema has made sure of those that are required.
fn text<'a>(arguments: &'a Value, field: &str) -> Option<&'a str> {
    arguments.get(field).and_then(Value::as_str)
}

/// A switch, off by default.
fn flag(arguments: &Value, field: &str) -> bool {
    arguments.get(field).and_then(Value::as_bool).unwrap_or(false)
}

/// Isolation of the tools that only reach files of their workspace.
const INSIDE_WORKSPACE: &str = "workspace";
/// Isolation of programs, until there is one.
const NO_ISOLATION: &str = "none";
