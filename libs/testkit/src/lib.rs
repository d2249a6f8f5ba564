//! What tests of more than one package need: waiting for a condition, real processes, scratch folders, free ports and a
//! proxy that breaks connections on purpose. A dev-dependency only.
//!
//! Everything here fails the test with a message that says what was waited for and what was seen instead: helpers panic
//! rather than return errors, so that tests stay short.
#![allow(clippy::panic, clippy::expect_used, reason = "a helper of tests fails by panicking")]

mod port;
mod postgres;
mod process;
mod proxy;
mod redis;
mod scratch;
mod wait;

pub use port::free_port;
pub use postgres::TestPostgres;
pub use process::{Process, ProcessBuilder};
pub use proxy::{Fault, FaultProxy};
pub use redis::TestRedis;
pub use scratch::Scratch;
pub use wait::{Outcome, wait_for, wait_for_blocking};
