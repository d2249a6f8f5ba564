//! The sections that more than one service reads.

pub(crate) mod backends;
pub(crate) mod credentials;
pub(crate) mod egress;
pub(crate) mod general;
pub(crate) mod limits;
pub(crate) mod mesh;
pub(crate) mod personas;
pub(crate) mod provider;
pub(crate) mod redis;
pub(crate) mod resilience;
pub(crate) mod server;
pub(crate) mod storage;
pub(crate) mod telemetry;
