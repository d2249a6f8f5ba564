//! The simulator over real sockets: every format, every fault, what it records.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests may fail the test")]
#![allow(clippy::needless_pass_by_value, reason = "bodies written in place read better")]

mod anthropic;
mod faults;
mod gemini;
mod ollama;
mod openai;
mod pacing;
mod records;
mod scenario;
mod support;
