//! The decision and the conversation. Pure but for the ports.

pub(crate) mod ask;
pub(crate) mod candidates;
pub(crate) mod embedding;
pub(crate) mod keyed;
pub(crate) mod needs;
pub(crate) mod outbox;
pub(crate) mod plan;
pub(crate) mod prompt;
pub(crate) mod room;
pub(crate) mod route;
pub(crate) mod rules;
pub(crate) mod run;
pub(crate) mod running;
pub(crate) mod session;
pub(crate) mod streamed;
pub(crate) mod tally;
pub(crate) mod task;
pub(crate) mod tools;
pub(crate) mod turn;

#[cfg(test)]
pub(crate) mod fakes;
#[cfg(test)]
mod recovery_tests;
#[cfg(test)]
mod turn_end_tests;
#[cfg(test)]
mod turn_tests;
