//! Settings of the ledger.

use std::time::Duration;

use tutti_config::StorageConfig;

use crate::group_commit::Limits;

/// Settings of the ledger. Only the storage has keys in the configuration yet; tests set the others.
#[derive(Debug, Clone)]
pub struct Config {
    /// `[storage]`. Default: SQLite in the data folder.
    pub storage: StorageConfig,
    /// Bounds of the group commit. Default: 4096 waiting changes, 256 in a transaction.
    pub limits: Limits,
    /// How often expired holds are looked for. Default 1 s.
    pub expiry_interval: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            storage: StorageConfig::Sqlite,
            limits: Limits { queue: 4096, batch: 256 },
            expiry_interval: Duration::from_secs(1),
        }
    }
}

impl Config {
    /// Reads `[storage]`.
    pub fn read(reader: &tutti_config::Reader) -> Self {
        Self { storage: StorageConfig::read(reader), ..Self::default() }
    }
}
