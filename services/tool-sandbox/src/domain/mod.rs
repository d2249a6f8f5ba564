//! What is decided about a tool call: pure, nothing here waits, reads or writes.

mod audit;
mod chain;
mod command;
mod output;
mod permission;
mod schema;
mod shell;
mod tool;

pub(crate) use audit::{Claim, Ending, Filter, NewRecord, Record};
pub(crate) use chain::{Canonical, ChainedRow, Head, Integrity, follow};
pub(crate) use command::CommandPolicy;
pub(crate) use output::{HeadTail, Utf8Decoder, cut};
pub(crate) use permission::{AllowList, Decision, Mode, Permissions, Question, Verdict};
pub(crate) use schema::ArgumentSchema;
pub(crate) use tool::{CallResult, Category, Definition, Failure, Outcome, Stream, Subject};
