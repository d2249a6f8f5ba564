//! Reading the tree, remembering every question and every problem.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, HashSet};

use crate::Config;
use crate::loader::{KNOWN_SECTIONS, NOT_BUILT_SECTIONS};
use crate::problem::{Problem, Problems, suggestion};
use crate::section::Section;
use crate::value::{Node, Origin, Source, Table, dotted, node_at, table_at};

/// What start-up should tell the user but not fail for; one line each, with its place.
pub type Warnings = Vec<String>;

/// Collects the problems of all sections, so that the user sees them at once.
///
/// All methods take `&self`: any number of [`Section`]s may be open together, and two
/// readers of one section add up (a key one of them knows is a known key).
#[derive(Debug)]
pub struct Reader {
    config: Config,
    state: RefCell<State>,
}

#[derive(Debug, Default)]
struct State {
    problems: Vec<Problem>,
    warnings: Vec<String>,
    /// By path of the table, what was asked of it.
    asked: HashMap<Vec<String>, Asked>,
    /// Tables whose readers have finished: unasked keys in and below them are unknown.
    finished: HashSet<Vec<String>>,
    /// Top-level sections that need no "not built yet" warning.
    read: BTreeSet<String>,
}

#[derive(Debug, Default)]
struct Asked {
    keys: BTreeSet<String>,
    /// Whether the table's sub-tables are named by the user.
    entries: bool,
}

impl Reader {
    pub(crate) fn new(config: Config) -> Self {
        let state =
            State { problems: config.inner.found.clone(), warnings: config.inner.warnings.clone(), ..State::default() };
        Self { config, state: RefCell::new(state) }
    }

    /// The configuration being read.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Opens a top-level section; an absent one reads as empty.
    pub fn section(&self, name: &str) -> Section<'_> {
        self.state.borrow_mut().read.insert(name.to_owned());
        Section::open(self, &[], name, Some(self.root()))
    }

    /// Says that other processes read these sections, so that their absence here is no
    /// reason to warn.
    pub fn read_elsewhere(&self, sections: &[&str]) {
        let mut state = self.state.borrow_mut();
        state.read.extend(sections.iter().map(|name| (*name).to_owned()));
    }

    /// Adds a start-up warning.
    pub fn warn(&self, warning: impl Into<String>) {
        let warning = warning.into();
        let warnings = &mut self.state.borrow_mut().warnings;
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }

    /// Ends the reading: the warnings, or every problem of every section.
    ///
    /// # Errors
    /// All problems found since loading, sorted by file and line.
    pub fn finish(self) -> Result<Warnings, Problems> {
        let unknown = self.unknown_keys();
        let not_built = self.not_built_sections();
        let mut state = self.state.into_inner();
        state.problems.extend(unknown);
        Problems::new(state.problems).into_result()?;
        state.warnings.extend(not_built);
        Ok(state.warnings)
    }

    pub(crate) fn root(&self) -> &Table {
        &self.config.inner.root
    }

    /// The names in the table at `path`, for references to them.
    pub(crate) fn names_in(&self, path: &[&str]) -> Vec<&str> {
        let path: Vec<String> = path.iter().map(|step| (*step).to_owned()).collect();
        let table = table_at(self.root(), &path);
        table.map_or_else(Vec::new, |table| table.keys().map(String::as_str).collect())
    }

    pub(crate) fn push(&self, problem: Problem) {
        self.state.borrow_mut().problems.push(problem);
    }

    pub(crate) fn ask(&self, path: &[String], key: &str) {
        let mut state = self.state.borrow_mut();
        let asked = state.asked.entry(path.to_vec()).or_default();
        asked.keys.insert(key.to_owned());
    }

    pub(crate) fn ask_entries(&self, path: &[String]) {
        self.state.borrow_mut().asked.entry(path.to_vec()).or_default().entries = true;
    }

    pub(crate) fn mark_finished(&self, path: &[String]) {
        let mut state = self.state.borrow_mut();
        // A section nobody asked anything of has no known key.
        state.asked.entry(path.to_vec()).or_default();
        state.finished.insert(path.to_vec());
    }

    fn unknown_keys(&self) -> Vec<Problem> {
        let state = self.state.borrow();
        let is_finished = |path: &[String]| (1..=path.len()).any(|end| state.finished.contains(&path[..end]));
        let mut problems = Vec::new();
        for (path, asked) in &state.asked {
            let Some(table) = table_at(self.root(), path).filter(|_| is_finished(path)) else {
                continue;
            };
            for (key, node) in table.iter().filter(|(key, _)| !asked.keys.contains(*key)) {
                problems.push(unknown_key(path, key, node, asked));
            }
        }
        problems
    }

    fn not_built_sections(&self) -> Vec<String> {
        let state = self.state.borrow();
        let unread = NOT_BUILT_SECTIONS.iter().filter(|name| !state.read.contains(**name));
        unread
            .filter_map(|name| Some((name, self.root().get(*name)?)))
            .map(|(name, node)| format!("{}: [{name}] is accepted but has no effect yet", node.origin))
            .collect()
    }

    /// Where to report a key that stands nowhere: its table, else the file it belongs in.
    pub(crate) fn place_of(&self, path: &[String]) -> Origin {
        if let Some(node) = node_at(self.root(), path) {
            return node.origin.clone();
        }
        match self.config.config_dir() {
            Some(dir) => Origin::new(Source::Global(dir.join("config.toml").into()), 0),
            None => Origin::new(Source::Default, 0),
        }
    }
}

fn unknown_key(path: &[String], key: &str, node: &Node, asked: &Asked) -> Problem {
    let mut full = path.to_vec();
    full.push(key.to_owned());
    let known = asked.keys.iter().map(String::as_str);
    let message = if asked.entries {
        let kind = node.value.kind();
        format!("expected a table such as [{}.NAME], found {kind}", dotted(path))
    } else if matches!(key, "api_key" | "api_keys") {
        "keys belong in credentials.toml, never in a config file".to_owned()
    } else {
        format!("unknown key{}", suggestion(key, known))
    };
    Problem::new(node.origin.clone(), shown(&full), message)
}

/// The problem of a top-level name that is no section.
pub(crate) fn unknown_section(name: &str, origin: Origin) -> Problem {
    let message = match name {
        "personas" => "personas belong in personas.toml".to_owned(),
        "credentials" => "credentials belong in credentials.toml".to_owned(),
        _ => {
            let near = suggestion(name, KNOWN_SECTIONS.iter().copied());
            format!("unknown section{near}")
        }
    };
    Problem::new(origin, dotted(&[name.to_owned()]), message)
}

/// A path as the user knows it: credentials.toml has no `credentials` level.
pub(crate) fn shown(path: &[String]) -> String {
    match path {
        [first, rest @ ..] if first == "credentials" && !rest.is_empty() => dotted(rest),
        _ => dotted(path),
    }
}
