//! How services on Postgres start: `tutti migrate`, refusals, waiting for a database that is away, and what becomes of a
//! running service when it goes.

#![cfg(test)]

mod migrate;
mod support;
mod waiting;
