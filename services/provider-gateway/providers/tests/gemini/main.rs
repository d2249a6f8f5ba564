//! The Gemini adapter: requests as exact JSON, answers and failures from made-up bytes of the real form.
#![cfg(test)]

mod answer;
mod error;
mod replay;
mod request;
#[path = "../shared/mod.rs"]
mod shared;

use shared::{adapter, ask, body, decode, fixture, json_of, request, streamed, target, user, whole};
use tutti_providers::Format;

const PROVIDER: &str = "gemini";
const FORMAT: Format = Format::Gemini;
const MODEL: &str = "gemini-3.8-flash";
