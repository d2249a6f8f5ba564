//! The library as its users see it: folders in, typed values or problems out.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod backends;
mod credentials;
mod dump;
mod layers;
mod mesh;
mod personas;
mod problems;
mod robustness;
mod starter;
mod storage;
mod support;
