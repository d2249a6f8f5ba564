//! The service through its gRPC stack, in process.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper that fails fails its test")]

mod audit;
mod bash;
mod files;
mod idempotency;
mod listing;
mod permissions;
mod support;
