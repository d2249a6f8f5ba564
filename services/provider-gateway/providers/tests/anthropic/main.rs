//! The Anthropic adapter: requests as exact JSON, answers and failures from made-up bytes of the real form.
#![cfg(test)]

mod answer;
mod error;
mod replay;
mod request;
#[path = "../shared/mod.rs"]
mod shared;

use shared::{adapter, ask, body, decode, fixture, json_of, request, streamed, target, user, whole};
use tutti_providers::Format;

const PROVIDER: &str = "anthropic";
const FORMAT: Format = Format::Anthropic;
const MODEL: &str = "claude-opus-5-5";
