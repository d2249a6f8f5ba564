//! Where a service keeps its data.

use std::path::{Path, PathBuf};

use tutti_config::{PostgresConfig, StorageConfig};

/// Where a service keeps its data; what it opens at its start.
#[derive(Debug, Clone)]
pub enum Storage {
    /// A file of its own in this folder.
    Sqlite(PathBuf),
    /// A schema of its own in this database.
    Postgres(PostgresConfig),
}

impl Storage {
    /// What `[storage]` says; `data_dir` is the folder for SQLite.
    pub fn of(config: StorageConfig, data_dir: &Path) -> Self {
        match config {
            StorageConfig::Sqlite => Self::Sqlite(data_dir.to_owned()),
            StorageConfig::Postgres(config) => Self::Postgres(config),
        }
    }
}

impl From<PathBuf> for Storage {
    fn from(dir: PathBuf) -> Self {
        Self::Sqlite(dir)
    }
}

impl From<&PathBuf> for Storage {
    fn from(dir: &PathBuf) -> Self {
        Self::Sqlite(dir.clone())
    }
}

impl From<&Path> for Storage {
    fn from(dir: &Path) -> Self {
        Self::Sqlite(dir.to_owned())
    }
}
