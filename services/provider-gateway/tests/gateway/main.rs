//! The gateway through its real gRPC stack, against the simulator over real HTTP and a ledger of our own.

mod backends;
mod cancel;
mod faults;
mod generate;
mod money;
mod stream;
mod support;
mod timeouts;
