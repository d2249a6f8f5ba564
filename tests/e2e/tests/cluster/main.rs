//! The cluster profile: two replicas of each of the five services as processes of their own, on a real Postgres and a real
//! Redis, with the mesh secret, while replicas come, go and die and stores go away. README.md of the package says how to
//! run these tests.

#![cfg(test)]

mod books;
mod load;
mod refusal;
mod replicas;
mod stores;
mod support;
mod trace;
