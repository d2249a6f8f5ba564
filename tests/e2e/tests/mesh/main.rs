//! `tutti up` with backends of every wire format, against the simulator.

#![cfg(test)]

mod books;
mod conversation;
mod disconnect;
mod door;
mod failure;
mod first_light;
mod refusals;
mod stopping;
mod support;
mod telemetry;
mod tls;
