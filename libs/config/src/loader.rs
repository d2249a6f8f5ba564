//! Finding the layers and laying them over each other.

use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::config::{Config, Inner, Learned};
use crate::env::Env;
use crate::folders::{self, Project};
use crate::overrides::Overrides;
use crate::private_file;
use crate::problem::{Problem, Problems};
use crate::reader::unknown_section;
use crate::value::{Node, Origin, Source, Table, Value, merge};
use crate::{dotenv, parse, variables};

/// All sections config.toml may have.
pub(crate) const KNOWN_SECTIONS: [&str; 21] = [
    "general",
    "project",
    "orchestrator",
    "backends",
    "models",
    "context",
    "tools",
    "quotas",
    "cache",
    "agents",
    "servers",
    "tasks",
    "routing",
    "resilience",
    "redis",
    "egress",
    "server",
    "mesh",
    "simulator",
    "storage",
    "telemetry",
];

/// Sections accepted ahead of their feature: a warning unless somebody reads them.
pub(crate) const NOT_BUILT_SECTIONS: [&str; 5] = ["quotas", "cache", "agents", "servers", "tasks"];

/// The values built into the program, in the form of the files that override them.
const BUILT_IN: &str = include_str!("defaults.toml");

/// Finds and merges all layers: built-in defaults < global folder < project folder <
/// environment < flags.
#[derive(Clone, Debug, Default)]
pub struct Loader {
    config_dir: Option<PathBuf>,
    start_dir: Option<PathBuf>,
    env: Env,
    flags: Vec<(String, String)>,
}

impl Loader {
    /// A loader with an empty environment, looking for the project in the current folder.
    pub fn new() -> Self {
        Self::default()
    }

    /// Uses this global folder, which must exist, instead of the user's.
    #[must_use]
    pub fn config_dir(mut self, dir: Option<PathBuf>) -> Self {
        self.config_dir = dir;
        self
    }

    /// Looks for the project's `.tutti` folder from here upwards.
    #[must_use]
    pub fn start_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.start_dir = Some(dir.into());
        self
    }

    /// The environment variables to use.
    #[must_use]
    pub fn env(mut self, env: Env) -> Self {
        self.env = env;
        self
    }

    /// Sets a dotted key over all other layers, from a flag. The value is read like a
    /// variable's: a TOML scalar or array where it parses as one, else a string.
    #[must_use]
    pub fn flag(mut self, key: impl Into<String>, value: impl fmt::Display) -> Self {
        self.flags.push((key.into(), value.to_string()));
        self
    }

    /// Like [`flag`](Self::flag) if the flag was given.
    #[must_use]
    pub fn opt_flag(self, key: &str, value: Option<impl fmt::Display>) -> Self {
        match value {
            Some(value) => self.flag(key, value),
            None => self,
        }
    }

    /// Loads and merges.
    ///
    /// # Errors
    /// All files that cannot be read or are no TOML, with all their problems. What is wrong
    /// with the values is found by reading them and reported by [`Reader::finish`].
    ///
    /// [`Reader::finish`]: crate::Reader::finish
    pub fn load(self) -> Result<Config, Problems> {
        let again = self.clone();
        let mut layers = Layers::default();
        layers.built_in();
        let start_dir = self.start_dir.unwrap_or_else(|| PathBuf::from("."));
        let start_dir = std::path::absolute(&start_dir).unwrap_or(start_dir);
        let config_dir = self.config_dir.clone().or_else(|| self.env.config_dir());
        if let Some(dir) = &self.config_dir
            && !dir.is_dir()
        {
            let origin = Origin::new(Source::Global(dir.as_path().into()), 0);
            layers.failed.push(Problem::new(origin, "", "this config folder does not exist"));
        }
        if let Some(dir) = &config_dir {
            layers.config_file(&dir.join("config.toml"), Source::Global);
            layers.personas_file(&dir.join("personas.toml"), Source::Global);
            layers.credentials_file(&dir.join("credentials.toml"));
        }
        let Project { dir: project_dir, warning } = folders::find_project(&start_dir);
        layers.warnings.extend(warning);
        if let Some(dir) = &project_dir {
            layers.config_file(&dir.join("config.toml"), Source::Project);
            layers.personas_file(&dir.join("personas.toml"), Source::Project);
            layers.unread_file(&dir.join("tools.toml"));
        }
        let project_root = project_dir.as_deref().and_then(Path::parent).unwrap_or(&start_dir);
        layers.environment(&project_root.join(".env"), &self.env);
        layers.flags(&self.flags);
        Problems::new(layers.failed).into_result()?;
        let inner = Inner {
            root: layers.root,
            config_dir,
            project_dir,
            start_dir,
            loader: again,
            env: self.env,
            found: layers.found,
            credential_problems: layers.credential_problems,
            warnings: layers.warnings,
            learned: Mutex::new(Learned::default()),
        };
        Ok(Config { inner: Arc::new(inner) })
    }
}

/// The tree so far, and what went wrong on the way.
#[derive(Default)]
struct Layers {
    root: Table,
    /// Files that could not be read: nothing can be said about their values.
    failed: Vec<Problem>,
    found: Vec<Problem>,
    credential_problems: Vec<Problem>,
    warnings: Vec<String>,
}

impl Layers {
    fn built_in(&mut self) {
        match parse::document(BUILT_IN, &Source::Default) {
            Ok(table) => self.root = table,
            Err(problems) => self.failed.extend(problems),
        }
    }

    fn config_file(&mut self, path: &Path, layer: fn(Arc<Path>) -> Source) {
        let Some(mut table) = self.file(path, layer) else {
            return;
        };
        let unknown: Vec<String> =
            table.keys().filter(|name| !KNOWN_SECTIONS.contains(&name.as_str())).cloned().collect();
        for name in unknown {
            if let Some(node) = table.shift_remove(&name) {
                self.found.push(unknown_section(&name, node.origin));
            }
        }
        merge(&mut self.root, table);
    }

    fn personas_file(&mut self, path: &Path, layer: fn(Arc<Path>) -> Source) {
        let Some(mut table) = self.file(path, layer) else {
            return;
        };
        let personas = table.shift_remove("personas");
        for (name, node) in table {
            let message = format!("unknown section; a persona's is [personas.{name}]");
            self.found.push(Problem::new(node.origin, name, message));
        }
        merge(&mut self.root, personas.map(|node| ("personas".to_owned(), node)).into_iter().collect());
    }

    /// Its problems wait for the reader of credentials: nobody else needs the file.
    fn credentials_file(&mut self, path: &Path) {
        let source = Source::Global(path.into());
        let origin = Origin::new(source.clone(), 0);
        let read = private_file::read(path).and_then(|bytes| match bytes {
            Some(bytes) => text(bytes).map(Some),
            None => Ok(None),
        });
        let text = match read {
            Ok(Some(text)) => text,
            Ok(None) => return,
            Err(message) => {
                return self.credential_problems.push(Problem::new(origin, "", message));
            }
        };
        match parse::document(&text, &source) {
            Ok(table) => {
                let node = Node::new(Value::Table(table), origin);
                merge(&mut self.root, Table::from_iter([("credentials".to_owned(), node)]));
            }
            Err(problems) => self.credential_problems.extend(problems),
        }
    }

    /// A file of the documented layout that this version does not read must not look as if
    /// it were in force.
    fn unread_file(&mut self, path: &Path) {
        if path.exists() {
            self.warnings
                .push(format!("{}: not read yet; put these settings under [tools] in config.toml", path.display()));
        }
    }

    fn environment(&mut self, dotenv_path: &Path, env: &Env) {
        let source = Source::DotEnv(dotenv_path.into());
        if let Some(text) = self.text_of(dotenv_path, &source) {
            let (assignments, problems) = dotenv::parse(&text, &source);
            self.found.extend(problems);
            let filled = assignments.into_iter().filter(|assigned| !assigned.value.is_empty());
            let variables: Vec<_> = filled
                .map(|assigned| {
                    let origin = Origin::new(source.clone(), assigned.line);
                    (assigned.name, assigned.value, origin)
                })
                .collect();
            self.variables(&variables);
        }
        let of_process = |(name, value): (&str, &str)| {
            let origin = Origin::new(Source::Variable(name.into()), 0);
            (name.to_owned(), value.to_owned(), origin)
        };
        let variables: Vec<_> = env.iter().filter(|(_, value)| !value.is_empty()).map(of_process).collect();
        self.variables(&variables);
    }

    fn variables(&mut self, variables: &[(String, String, Origin)]) {
        let mut overrides = Overrides::new(&mut self.root);
        variables::apply(variables, &mut overrides);
        let (problems, warnings) = overrides.into_findings();
        self.found.extend(problems);
        self.warnings.extend(warnings);
    }

    fn flags(&mut self, flags: &[(String, String)]) {
        let mut overrides = Overrides::new(&mut self.root);
        for (key, value) in flags {
            let origin = Origin::new(Source::Flag(key.as_str().into()), 0);
            overrides.set_dotted(key, parse::scalar(value, origin));
        }
        let (problems, warnings) = overrides.into_findings();
        self.found.extend(problems);
        self.warnings.extend(warnings);
    }

    /// The tree of a file; `None` if there is no such file or it cannot be read.
    fn file(&mut self, path: &Path, layer: fn(Arc<Path>) -> Source) -> Option<Table> {
        let source = layer(path.into());
        let text = self.text_of(path, &source)?;
        match parse::document(&text, &source) {
            Ok(table) => Some(table),
            Err(problems) => {
                self.failed.extend(problems);
                None
            }
        }
    }

    fn text_of(&mut self, path: &Path, source: &Source) -> Option<String> {
        let read = match std::fs::read(path) {
            Ok(bytes) => text(bytes),
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            Err(error) => Err(format!("cannot be read: {error}")),
        };
        match read {
            Ok(text) => Some(text),
            Err(message) => {
                let origin = Origin::new(source.clone(), 0);
                self.failed.push(Problem::new(origin, "", message));
                None
            }
        }
    }
}

fn text(bytes: Vec<u8>) -> Result<String, String> {
    String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        format!("line {line} is not UTF-8")
    })
}
