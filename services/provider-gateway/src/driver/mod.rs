//! HTTP with providers: the one place that does IO for all wire formats.

mod body;
mod client;
mod clock;
mod upstream;

pub(crate) use body::{MAX_BODY_BYTES, MAX_VECTORS_BYTES, OnWire, collect, next_piece};
pub(crate) use client::Clients;
pub(crate) use clock::{Clock, Wait};
pub(crate) use upstream::Upstream;
