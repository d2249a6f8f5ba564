//! OpenAI Chat Completions and its dialects. Tests named `trap_NN` stand for faults found in other gateways.
#![cfg(test)]

mod answers;
mod errors;
mod finishes;
mod messages;
mod requests;
mod support;
