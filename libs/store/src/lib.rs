//! tutti-store
