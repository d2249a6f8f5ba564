//! Tools by name and alias, with what the configuration makes of them.

use std::{sync::Arc, time::Duration};

use tutti_error::{Error, Reason, Result};

use super::{Tool, bash::Bash, list_dir::ListDir, read::ReadFile, write::WriteFile};
use crate::{
    Config,
    domain::{ArgumentSchema, Category, Definition},
};

/// How long a program may run unless the configuration says otherwise.
const SHELL_TIMEOUT: Duration = Duration::from_secs(600);

/// A tool as it is configured here.
#[derive(Debug)]
pub(crate) struct Entry {
    /// What runs.
    pub(crate) tool: Arc<dyn Tool>,
    /// What it says of itself.
    pub(crate) definition: Definition,
    /// What its arguments are checked with.
    pub(crate) schema: ArgumentSchema,
    /// Whether mode manual asks.
    pub(crate) requires_approval: bool,
    /// How long a call may take.
    pub(crate) timeout: Duration,
    /// Why it is off, and how to switch it on.
    pub(crate) disabled_because: Option<&'static str>,
}

/// All tools, by name.
#[derive(Debug)]
pub(crate) struct Registry {
    entries: Vec<Arc<Entry>>,
}

impl Registry {
    /// The built-in tools.
    ///
    /// # Errors
    /// INTERNAL when a schema is broken.
    pub(crate) fn built_in(config: &Config) -> Result<Self> {
        let tools: [Arc<dyn Tool>; 4] = [Arc::new(Bash), Arc::new(ListDir), Arc::new(ReadFile), Arc::new(WriteFile)];
        Self::of(tools.into(), config)
    }

    /// Just these.
    ///
    /// # Errors
    /// INTERNAL when a schema is broken.
    pub(crate) fn of(tools: Vec<Arc<dyn Tool>>, config: &Config) -> Result<Self> {
        let mut entries = tools.into_iter().map(|tool| entry(tool, config)).collect::<Result<Vec<_>>>()?;
        entries.sort_by_key(|entry| entry.definition.name);
        Ok(Self { entries })
    }

    /// All of them, ordered by name.
    pub(crate) fn all(&self) -> &[Arc<Entry>] {
        &self.entries
    }

    /// The tool of that name or alias.
    ///
    /// # Errors
    /// UNKNOWN_TOOL with the nearest names.
    pub(crate) fn find(&self, name: &str) -> Result<&Arc<Entry>> {
        let answers = |entry: &&Arc<Entry>| entry.definition.name == name || entry.definition.aliases.contains(&name);
        self.entries.iter().find(answers).ok_or_else(|| {
            let names = self.entries.iter().flat_map(|entry| {
                std::iter::once(entry.definition.name).chain(entry.definition.aliases.iter().copied())
            });
            Error::unknown(Reason::UnknownTool, "tool", name, names)
        })
    }
}

fn entry(tool: Arc<dyn Tool>, config: &Config) -> Result<Arc<Entry>> {
    let definition = tool.definition();
    let custom = config.overrides.get(definition.name).cloned().unwrap_or_default();
    let runs_programs = definition.category == Category::Execute;
    let disabled = runs_programs && !config.allow_unsandboxed;
    Ok(Arc::new(Entry {
        schema: ArgumentSchema::compile(definition.name, &definition.parameters)?,
        requires_approval: custom.requires_approval.unwrap_or(definition.category != Category::Read),
        timeout: custom.timeout.unwrap_or(if runs_programs { SHELL_TIMEOUT } else { config.timeout }),
        disabled_because: disabled.then_some(
            "nothing isolates programs yet; set tools.allow_unsandboxed = true to run them with all rights of this process",
        ),
        definition,
        tool,
    }))
}
