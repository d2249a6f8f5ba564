//! What every service of the mesh and every client of it have in common, tested with both over loopback: proofs, load
//! shedding, streams on one connection, replicas that come and go, reflection.

#![cfg(test)]

mod caps;
mod proofs;
mod reflection;
mod replicas;
mod streams;
mod support;
