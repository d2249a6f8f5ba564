//! The router: the decision and the conversation.
//!
//! A caller's turn is [planned](domain::plan) (which backends, which tools), then [run](domain::turn): one state machine
//! that shows a backend its context, streams what comes, falls back before the first token, runs the tools of the mesh,
//! and writes the conversation's log. It talks to no provider and touches no file: the gateway, the memory and the
//! sandbox do, behind the ports of `clients`. A call with an idempotency key is [recorded](keyed) in the router's store.

mod app;
mod clients;
mod config;
mod domain;
mod grpc;
mod http;
mod keyed;
mod store;

pub use app::{App, Peers};
pub use config::{Config, Idempotency};
pub use domain::rules::{Rules, TaskRule};
pub use store::schema;
