//! What needs no IO: the catalogue, prices, estimates and the checks of an answer.

pub mod catalogue;
pub mod estimate;
pub mod pricing;
pub mod resolve;
pub mod validate;
