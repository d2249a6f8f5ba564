//! provider-gateway
