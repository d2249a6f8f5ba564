//! What the gateway reads of the configuration.

use tutti_config::{BackendsConfig, Credentials, Reader};

/// The gateway's sections.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// `[backends.*]`: provider, model, address, timeouts and output cap of each.
    pub backends: BackendsConfig,
    /// credentials.toml and the variables that stand in for it.
    pub credentials: Credentials,
}

impl Config {
    /// Reads the sections; problems are collected by the reader.
    pub fn read(reader: &Reader) -> Self {
        Self { backends: BackendsConfig::read(reader), credentials: Credentials::read(reader) }
    }
}
