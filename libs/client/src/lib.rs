//! tutti-client
