//! Folders of one test.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

/// A folder with the places a process of the mesh wants: configuration, data, home and temporary files. Removed when
/// dropped.
#[derive(Debug)]
pub struct Scratch {
    root: TempDir,
}

impl Scratch {
    /// A new folder, readable by this user only.
    ///
    /// # Panics
    /// When the system refuses to make it.
    pub fn new() -> Self {
        let private = fs::Permissions::from_mode(0o700);
        let root = tempfile::Builder::new().prefix("tutti-test-").permissions(private).tempdir();
        let root = root.expect("a scratch folder");
        let scratch = Self { root };
        for folder in [scratch.config_dir(), scratch.data_dir(), scratch.home(), scratch.temp()] {
            fs::create_dir(&folder).expect("a folder in the scratch folder");
        }
        scratch
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        self.root.path()
    }

    /// For `--config-dir`.
    pub fn config_dir(&self) -> PathBuf {
        self.path().join("config")
    }

    /// For `--data-dir`.
    pub fn data_dir(&self) -> PathBuf {
        self.path().join("data")
    }

    /// For `HOME`: empty, so that a process never reads this user's own configuration.
    pub fn home(&self) -> PathBuf {
        self.path().join("home")
    }

    /// For `TMPDIR`.
    pub fn temp(&self) -> PathBuf {
        self.path().join("tmp")
    }

    /// Writes a file of the configuration folder, with the mode 0600 that `credentials.toml` must have.
    ///
    /// # Panics
    /// When it can't be written.
    pub fn write_config(&self, name: &str, text: &str) -> PathBuf {
        let path = self.config_dir().join(name);
        fs::write(&path, text).expect("a configuration file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its mode");
        path
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_private_folders_and_goes_away() {
        let scratch = Scratch::new();
        let root = scratch.path().to_owned();
        assert_eq!(fs::metadata(&root).unwrap().permissions().mode() & 0o777, 0o700);
        let file = scratch.write_config("credentials.toml", "[openai]\n");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_to_string(file).unwrap(), "[openai]\n");
        assert!(scratch.data_dir().is_dir() && scratch.home().is_dir() && scratch.temp().is_dir());
        drop(scratch);
        assert!(!root.exists());
    }
}
