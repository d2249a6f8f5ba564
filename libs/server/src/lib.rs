//! tutti-server
