//! tutti-testkit
