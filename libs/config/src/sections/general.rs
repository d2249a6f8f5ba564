//! `[general]` and `[project]`.

use std::path::PathBuf;

use crate::problem::suggestion;
use crate::reader::Reader;
use crate::section::Section;

/// What every process needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GeneralConfig {
    /// Version of the file's layout, for later migrations.
    pub version: String,
    /// `error`, `warn`, `info`, `debug`, `trace`, `off`, or per-target directives such as
    /// `info,router=debug`.
    pub log_level: String,
    /// Where logs go instead of standard error.
    pub log_file: Option<PathBuf>,
    /// How a log line is written.
    pub log_format: LogFormat,
    /// The project's name, if its folder gives one.
    pub project_name: Option<String>,
    /// The project's version, if its folder gives one.
    pub project_version: Option<String>,
}

/// How a log line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

impl GeneralConfig {
    /// Reads `[general]` and `[project]`.
    pub fn read(reader: &Reader) -> Self {
        let general = reader.section("general");
        let project = reader.section("project");
        let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
        let config = Self {
            version: general.string("version", "1.0.0"),
            log_level: log_level(&general),
            log_file: general.opt_path("log_file"),
            log_format: general.choice("log_format", &formats, LogFormat::Text),
            project_name: project.opt_string("name"),
            project_version: project.opt_string("version"),
        };
        general.finish();
        project.finish();
        config
    }
}

fn log_level(general: &Section<'_>) -> String {
    let level = general.string("log_level", "info").to_lowercase();
    // Directives are checked by the subscriber that understands them.
    if !level.contains(['=', ',']) && !LEVELS.contains(&level.as_str()) {
        let near = suggestion(&level, LEVELS);
        general.problem("log_level", &format!("unknown log level {level:?}{near}"));
    }
    level
}
