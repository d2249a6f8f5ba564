//! What needs no IO: the catalogue, prices, estimates and the checks of an answer.

pub(crate) mod breaker;
pub mod catalogue;
pub mod estimate;
pub mod pricing;
pub mod resolve;
pub(crate) mod retry;
pub mod validate;
