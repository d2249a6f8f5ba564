//! The loaded configuration.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::dump;
use crate::env::Env;
use crate::loader::Loader;
use crate::problem::Problem;
use crate::reader::Reader;
use crate::value::{Table, Value, table_at};

/// All layers merged, each value with its place. Cheap to clone.
#[derive(Clone)]
pub struct Config {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    /// All sections of config.toml, and `personas` and `credentials` beside them.
    pub(crate) root: Table,
    pub(crate) config_dir: Option<PathBuf>,
    pub(crate) project_dir: Option<PathBuf>,
    pub(crate) start_dir: PathBuf,
    pub(crate) env: Env,
    /// What it was loaded with, to load it again.
    pub(crate) loader: Loader,
    /// Problems for whoever reads on: what is wrong is reported together.
    pub(crate) found: Vec<Problem>,
    /// Problems of the credentials file, for whoever reads credentials.
    pub(crate) credential_problems: Vec<Problem>,
    pub(crate) warnings: Vec<String>,
    pub(crate) learned: Mutex<Learned>,
}

/// What the readers told, for the dump.
#[derive(Debug, Default)]
pub(crate) struct Learned {
    pub(crate) defaults: Vec<(Vec<String>, Value)>,
    pub(crate) secrets: Vec<Vec<String>>,
}

impl Config {
    /// A reader over all sections. Read everything the process needs with one reader, so
    /// that all problems come together.
    pub fn reader(&self) -> Reader {
        Reader::new(self.clone())
    }

    /// The effective configuration as TOML: what the layers set and the defaults that
    /// readers asked for so far, each line with its place as a comment, secrets masked.
    pub fn dump(&self) -> String {
        let learned = self.learned();
        dump::render(&self.inner.root, &learned)
    }

    /// The global folder, which need not exist; `None` without a home folder.
    pub fn config_dir(&self) -> Option<&Path> {
        self.inner.config_dir.as_deref()
    }

    /// The project's `.tutti` folder, if there is one.
    pub fn project_dir(&self) -> Option<&Path> {
        self.inner.project_dir.as_deref()
    }

    /// The folder that holds `.tutti`, else the folder the process started in.
    pub fn project_root(&self) -> &Path {
        self.project_dir().and_then(Path::parent).unwrap_or(&self.inner.start_dir)
    }

    /// The environment the configuration was loaded with.
    pub fn env(&self) -> &Env {
        &self.inner.env
    }

    /// The files that credentials are read from, those that are not there included: credentials.toml, and every
    /// `api_key_file` that it names.
    pub fn credential_files(&self) -> Vec<PathBuf> {
        let Some(dir) = self.config_dir() else { return Vec::new() };
        let sections = table_at(&self.inner.root, &["credentials".to_owned()]);
        let tables = sections.into_iter().flatten().filter_map(|(_, node)| node.as_table());
        let named = tables.filter_map(|table| match &table.get("api_key_file")?.value {
            Value::String(name) => Some(dir.join(name)),
            _ => None,
        });
        std::iter::once(dir.join("credentials.toml")).chain(named).collect()
    }

    pub(crate) fn note_default(&self, path: Vec<String>, value: Value) {
        let mut learned = self.learned();
        if !learned.defaults.iter().any(|(known, _)| *known == path) {
            learned.defaults.push((path, value));
        }
    }

    pub(crate) fn hide(&self, path: Vec<String>) {
        self.learned().secrets.push(path);
    }

    fn learned(&self) -> MutexGuard<'_, Learned> {
        self.inner.learned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Config {
    /// The folders only: the values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("config_dir", &self.inner.config_dir)
            .field("project_dir", &self.inner.project_dir)
            .finish_non_exhaustive()
    }
}
