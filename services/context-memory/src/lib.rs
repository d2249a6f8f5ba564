//! context-memory: what a model is shown. It keeps conversations as append-only logs and derives each backend's view
//! from them. It never chooses a model or a prompt.

mod app;
mod config;
mod domain;
mod grpc;
mod store;

pub use app::App;
pub use config::Config;
pub use store::schema;
