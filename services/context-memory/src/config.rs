//! The `[context]` section.

use tutti_config::{Reader, StorageConfig};

use crate::domain::Caps;

/// How much of a session a model is shown. The caps bound the view, not the log.
#[derive(Debug, Clone)]
pub struct Config {
    /// The caps of a view.
    pub caps: Caps,
    /// `[storage]`. Default: SQLite in the data folder.
    pub storage: StorageConfig,
    /// The routers end with this process, so that a turn which is open at the start has nobody left to close it. True as
    /// read; false where routers are processes of their own.
    pub embedded: bool,
}

impl Config {
    /// Reads `[storage]` and `[context]`: `session_max_messages` (default 50) and `session_max_tokens` (default 100 000).
    pub fn read(reader: &Reader) -> Self {
        let section = reader.section("context");
        let defaults = Caps::default();
        let caps = Caps {
            messages: section.integer("session_max_messages", defaults.messages, 1..=10_000),
            tokens: section.integer("session_max_tokens", defaults.tokens, 100..=100_000_000),
        };
        section.not_built(&[
            "persistent_memory_enabled",
            "memory_db_path",
            "auto_summarize_threshold",
            "summarization_backend",
            "enable_distillation",
            "distillation_backend",
            "distillation_persona",
            "distillation_trigger_tokens",
            "distillation_target_tokens",
            "include_files",
        ]);
        section.finish();
        Self { caps, storage: StorageConfig::read(reader), embedded: true }
    }
}
