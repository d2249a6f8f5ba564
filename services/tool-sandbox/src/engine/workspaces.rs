//! The workspaces by name.

use std::{collections::BTreeMap, path::Path, path::PathBuf, sync::Arc};

use tutti_error::{Error, Reason, Result};

use crate::workspace::Workspace;

/// The one that is used when none is named.
const DEFAULT: &str = "default";

/// Open workspaces.
#[derive(Debug)]
pub(crate) struct Workspaces(BTreeMap<String, Arc<Workspace>>);

impl Workspaces {
    /// Opens the configured folders, and makes the default one in the data folder unless it is among them. Blocks.
    ///
    /// # Errors
    /// WORKSPACE_UNAVAILABLE naming the folder.
    pub(crate) fn open(configured: &BTreeMap<String, PathBuf>, data_dir: &Path) -> Result<Self> {
        let mut open = BTreeMap::new();
        for (name, path) in configured {
            open.insert(name.clone(), Arc::new(open_one(name, path, false)?));
        }
        if !open.contains_key(DEFAULT) {
            let path = data_dir.join("workspaces").join(DEFAULT);
            open.insert(DEFAULT.to_owned(), Arc::new(open_one(DEFAULT, &path, true)?));
        }
        Ok(Self(open))
    }

    /// The workspace of that name; `default` when empty.
    ///
    /// # Errors
    /// UNKNOWN_WORKSPACE with the nearest names.
    pub(crate) fn find(&self, name: &str) -> Result<Arc<Workspace>> {
        let name = if name.is_empty() { DEFAULT } else { name };
        let unknown = || Error::unknown(Reason::UnknownWorkspace, "workspace", name, self.0.keys().map(String::as_str));
        self.0.get(name).cloned().ok_or_else(unknown)
    }
}

fn open_one(name: &str, path: &Path, make: bool) -> Result<Workspace> {
    Workspace::open(name, path, make).map_err(|error| {
        let message = format!("the folder {} of workspace \"{name}\" can't be opened: {error}", path.display());
        Error::new(Reason::WorkspaceUnavailable, message)
    })
}
