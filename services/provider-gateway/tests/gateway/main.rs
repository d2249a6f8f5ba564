//! The gateway through its real gRPC stack, against the simulator over real HTTP and a ledger of our own.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, which clippy takes for production code")]

mod backends;
mod breaker;
mod cancel;
mod credentials;
mod egress;
mod faults;
mod generate;
mod limits;
mod money;
mod retry;
mod startup;
mod stream;
mod support;
mod timeouts;
