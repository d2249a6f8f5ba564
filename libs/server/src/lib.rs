//! What every server of the mesh is made of: services, the one stack of layers around them, health, reflection,
//! and a listener that drains.

mod admin;
mod dispatch;
mod health;
mod http;
mod incoming;
mod observe;
pub mod process;
mod serve;
mod services;
mod tasks;
mod waiting;

pub use http::{HttpRoutes, WriteError};
pub use serve::{Listening, ServeOptions, bind, serve, serve_http};
pub use services::{Services, Stack};
pub use tasks::Tasks;
pub use tutti_telemetry::Readiness;
