//! Settings of the ledger.

use std::time::Duration;

use crate::group_commit::Limits;

/// Settings of the ledger. None of them has a key in the configuration yet; tests set them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Bounds of the group commit. Default: 4096 waiting changes, 256 in a transaction.
    pub limits: Limits,
    /// How often expired holds are looked for. Default 1 s.
    pub expiry_interval: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { limits: Limits { queue: 4096, batch: 256 }, expiry_interval: Duration::from_secs(1) }
    }
}

impl Config {
    /// Reads the ledger's sections; there are none yet.
    pub fn read(_reader: &tutti_config::Reader) -> Self {
        Self::default()
    }
}
