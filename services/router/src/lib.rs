//! The router: the decision and the conversation.
//!
//! A caller's turn is [planned](domain::plan) (which backends, which tools), then [run](domain::turn): one state machine
//! that shows a backend its context, streams what comes, falls back before the first token, runs the tools of the mesh,
//! and writes the conversation's log. It talks to no provider and touches no file: the gateway, the memory and the
//! sandbox do, behind the ports of `clients`.

mod app;
mod clients;
mod config;
mod domain;
mod grpc;
mod http;

pub use app::{App, Peers};
pub use config::Config;
pub use domain::rules::{Rules, TaskRule};
