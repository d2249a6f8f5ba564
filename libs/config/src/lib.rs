//! Layered configuration in which every value knows where it was written.
//!
//! A [`Loader`] merges built-in defaults, the global folder, the project's `.tutti` folder,
//! the environment and flags into a [`Config`]. A [`Reader`] hands out [`Section`]s; what is
//! wrong with any of them — kinds, ranges, unknown keys, dangling references — is collected
//! and reported at once, each problem with its file and line:
//!
//! ```
//! use tutti_config::{Env, GeneralConfig, Loader};
//!
//! # fn main() -> Result<(), tutti_config::Problems> {
//! let folder = std::env::temp_dir();
//! let config = Loader::new()
//!     .start_dir(folder)
//!     .env(Env::from_map([("TUTTI_GENERAL__LOG_LEVEL", "debug")]))
//!     .flag("tools.permission_mode", "manual")
//!     .load()?;
//! let reader = config.reader();
//! let general = GeneralConfig::read(&reader);
//! let tools = reader.section("tools");
//! let mode = tools.string("permission_mode", "manual");
//! tools.finish();
//! let warnings = reader.finish()?;
//! assert_eq!((general.log_level.as_str(), mode.as_str()), ("debug", "manual"));
//! assert!(warnings.is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! This crate is the only place that reads the environment. The sections that more than one
//! service reads are here as types; each service keeps its own next to its code.

mod config;
mod dotenv;
mod dump;
mod duration;
mod env;
mod folders;
mod loader;
mod number;
mod overrides;
mod parse;
mod private_file;
mod problem;
mod reader;
mod section;
mod sections;
mod starter;
mod value;
mod variables;

pub use secrecy::{ExposeSecret, SecretString};

pub use crate::config::Config;
pub use crate::env::Env;
pub use crate::loader::Loader;
pub use crate::number::Integer;
pub use crate::problem::{Problem, Problems, nearest};
pub use crate::reader::{Reader, Warnings};
pub use crate::section::Section;
pub use crate::sections::backends::{BackendConfig, BackendsConfig, DEFAULT_CONTEXT_TOKENS, Timeouts};
pub use crate::sections::credentials::{Credential, Credentials, masked};
pub use crate::sections::egress::EgressConfig;
pub use crate::sections::general::{GeneralConfig, LogFormat};
pub use crate::sections::limits::{LimitsConfig, ScopeLimits};
pub use crate::sections::mesh::{CertificateFiles, MeshConfig, MeshTls, read_keys};
pub use crate::sections::personas::{Persona, Personas, ThinkingStyle, Verbosity};
pub use crate::sections::provider::{Preset, ProviderKind};
pub use crate::sections::redis::RedisConfig;
pub use crate::sections::resilience::{BreakerConfig, ResilienceConfig, RetryConfig};
pub use crate::sections::server::{ServerConfig, check_bind};
pub use crate::sections::storage::{PostgresConfig, StorageConfig};
pub use crate::sections::telemetry::TelemetryConfig;
pub use crate::starter::write_starter_files;
