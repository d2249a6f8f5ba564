//! The provider gateway: one typed way to call one backend, with the money around it.
//!
//! `calls` makes a generation or an embedding: it plans (`plan`), opens an attempt with a hold at the ledger
//! (`attempt`), exchanges with the provider (`driver`, and the wire formats of `tutti_providers`), and closes the
//! attempt; `settle` tells the ledger. `resilience` chooses the credential and stops calls that would fail. What needs no IO is in [`domain`].

mod app;
mod attempt;
mod backends;
mod calls;
pub mod clients;
mod config;
pub mod domain;
mod driver;
mod error;
mod grpc;
mod observe;
mod plan;
mod resilience;
mod settle;
mod spool;
#[cfg(test)]
mod testing;

pub use app::App;
pub use config::Config;
