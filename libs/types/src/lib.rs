//! The words of the mesh as types: ids, tokens, money, deadlines, the caller's scope, and validated forms of the wire
//! messages. Pure: nothing here waits, reads or writes.

mod deadline;
mod id;
pub mod llm;
mod money;
mod scope;
pub mod time;

pub use deadline::Deadline;
pub use id::{AttemptId, RequestId, TurnId};
pub use money::{NanoUsd, TokenCounts, UnitPrices};
pub use scope::Scope;
