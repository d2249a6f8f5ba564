//! What every server of the mesh is made of: services, the one stack of layers around them, health, reflection,
//! and a listener that drains.

pub mod process;
mod serve;
mod services;
mod tasks;

pub use serve::{Listening, ServeOptions, bind, serve};
pub use services::Services;
pub use tasks::Tasks;
