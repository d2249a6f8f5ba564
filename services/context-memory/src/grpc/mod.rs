//! The RPCs: decode, validate, call the store and the domain, encode.

mod sessions;

pub(crate) use sessions::Sessions;
