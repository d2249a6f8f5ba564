//! `[tools]`.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use tutti_config::{Reader, Section, StorageConfig};

use crate::domain::{AllowList, Mode};

/// The tools that have a table of their own, `[tools.NAME]`.
const TOOLS: [&str; 4] = ["bash", "list_dir", "read", "write"];

/// Each running program occupies one of the runtime's 512 threads for blocking work; killing it needs another.
const MAX_CONCURRENT: usize = 256;

/// How tools run here.
#[derive(Debug, Clone)]
pub struct Config {
    /// `[storage]`. Default: SQLite in the data folder.
    pub(crate) storage: StorageConfig,
    /// `permission_mode`: `manual` (default), `auto`, `trust` or `deny`.
    pub(crate) permission_mode: Mode,
    /// `auto_approve`: patterns `tool[:glob]` that modes auto and trust let run. Default none.
    pub(crate) allow: AllowList,
    /// `timeout_seconds`: how long a call may run, unless its tool says otherwise. Default 300 s.
    pub(crate) timeout: Duration,
    /// `allow_unsandboxed`: whether `bash` may run although nothing isolates it yet. Default false.
    pub(crate) allow_unsandboxed: bool,
    /// `allowed_commands`: the programs that `bash` may start. Default all.
    pub(crate) allowed_commands: Vec<String>,
    /// `max_output_bytes`: what is kept of a call's output. Default 1 MiB; a program is killed at 16 times that.
    pub(crate) max_output_bytes: usize,
    /// `max_concurrent`: calls that may run at once. Default 64, at most 256.
    pub(crate) max_concurrent: usize,
    /// `rate_per_minute`: calls of one tool by one org, 0 for no limit. Default 60.
    pub(crate) rate_per_minute: u32,
    /// `[tools.workspaces]`: folders by name, besides `default`, which lies in the data folder unless given here.
    pub(crate) workspaces: BTreeMap<String, PathBuf>,
    /// `[tools.NAME]`: what differs for one tool.
    pub(crate) overrides: BTreeMap<&'static str, ToolConfig>,
}

/// What the configuration changes of one tool.
#[derive(Debug, Clone, Default)]
pub(crate) struct ToolConfig {
    /// `requires_approval`: whether mode manual asks. Default false for tools that only read, else true.
    pub(crate) requires_approval: Option<bool>,
    /// `timeout`: how long a call may run. Default `tools.timeout_seconds`, 600 s for bash.
    pub(crate) timeout: Option<Duration>,
}

impl Config {
    /// Reads `[storage]` and `[tools]`. What is wrong is collected by the reader.
    pub fn read(reader: &Reader) -> Self {
        let tools = reader.section("tools");
        let modes = [("manual", Mode::Manual), ("auto", Mode::Auto), ("trust", Mode::Trust), ("deny", Mode::Deny)];
        let config = Self {
            storage: StorageConfig::read(reader),
            permission_mode: tools.choice("permission_mode", &modes, Mode::Manual),
            allow: allow_list(&tools),
            timeout: tools.positive_duration("timeout_seconds", Duration::from_secs(300)),
            allow_unsandboxed: tools.bool("allow_unsandboxed", false),
            allowed_commands: tools.string_list("allowed_commands", &[]),
            max_output_bytes: tools.integer("max_output_bytes", 1024 * 1024, 1024..=16 * 1024 * 1024),
            max_concurrent: tools.integer("max_concurrent", 64, 1..=MAX_CONCURRENT),
            rate_per_minute: tools.integer("rate_per_minute", 60, 0..=1_000_000),
            workspaces: workspaces(&tools),
            overrides: TOOLS.iter().map(|name| (*name, tool(&tools.subsection(name)))).collect(),
        };
        if !tools.bool("sandbox_enabled", true) {
            reader.warn("tools.sandbox_enabled = false has no effect: file tools always stay inside their workspace");
        }
        tools.finish();
        config
    }
}

fn allow_list(tools: &Section<'_>) -> AllowList {
    let mut list = AllowList::default();
    for (index, pattern) in tools.string_list("auto_approve", &[]).iter().enumerate() {
        if let Err(why) = list.add(pattern) {
            tools.item_problem("auto_approve", index, &why);
        }
    }
    list
}

fn workspaces(tools: &Section<'_>) -> BTreeMap<String, PathBuf> {
    let names: Vec<String> = tools.string_map("workspaces").into_keys().collect();
    let table = tools.subsection("workspaces");
    let mut folders = BTreeMap::new();
    for name in names {
        let fits = (1..=64).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'));
        if !fits {
            table.problem(&name, "a workspace's name is 1 to 64 of A-Z a-z 0-9 _ - .");
        }
        if let Some(path) = table.opt_path(&name) {
            folders.insert(name, path);
        }
    }
    folders
}

fn tool(table: &Section<'_>) -> ToolConfig {
    let timeout = table.opt_duration("timeout");
    if timeout.is_some_and(|timeout| timeout.is_zero()) {
        table.problem("timeout", "expected a duration above zero");
    }
    // Asked only when given: the default depends on the tool.
    let requires_approval = table.has("requires_approval").then(|| table.bool("requires_approval", true));
    ToolConfig { requires_approval, timeout }
}
