//! The tool sandbox: runs tools within bounds, and keeps a record of every call.
//!
//! `domain` decides (permissions, dangerous commands, schemas, what is kept of an output) and is pure; `workspace` is
//! the only way to files; `tools` run; `engine` is one call from its claim to its record; `grpc` is the edge.

mod app;
mod config;
mod domain;
mod engine;
mod grpc;
mod store;
mod tools;
mod workspace;

pub use app::App;
pub use config::Config;
pub use store::schema;
