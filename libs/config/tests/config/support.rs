//! A home with a global folder and a project in it.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tutti_config::{
    BackendsConfig, Config, Credentials, Env, GeneralConfig, Loader, Personas, Problems, Reader, ServerConfig, Warnings,
};

/// The folders of one test.
pub(crate) struct Home {
    dir: TempDir,
    variables: Vec<(String, String)>,
}

/// All shared sections.
pub(crate) struct All {
    pub(crate) general: GeneralConfig,
    pub(crate) server: ServerConfig,
    pub(crate) backends: BackendsConfig,
    pub(crate) personas: Personas,
    pub(crate) credentials: Credentials,
    pub(crate) warnings: Warnings,
}

impl Home {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("global")).unwrap();
        fs::create_dir_all(dir.path().join("project/src")).unwrap();
        let home = dir.path().display().to_string();
        Self { dir, variables: vec![("HOME".to_owned(), home)] }
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    /// Writes a file, private if it holds credentials.
    pub(crate) fn file(self, relative: &str, content: impl AsRef<[u8]>) -> Self {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        if relative.ends_with("credentials.toml") {
            set_mode(&path, 0o600);
        }
        self
    }

    pub(crate) fn global(self, content: &str) -> Self {
        self.file("global/config.toml", content)
    }

    pub(crate) fn project(self, content: &str) -> Self {
        self.file("project/.tutti/config.toml", content)
    }

    pub(crate) fn credentials(self, content: &str) -> Self {
        self.file("global/credentials.toml", content)
    }

    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A loader over these folders, started in a subfolder of the project.
    pub(crate) fn loader(&self) -> Loader {
        Loader::new()
            .config_dir(Some(self.path("global")))
            .start_dir(self.path("project/src"))
            .env(Env::from_map(self.variables.clone()))
    }

    pub(crate) fn load(&self) -> Config {
        self.loader().load().unwrap()
    }

    /// The problems, each with the folder's own path taken out.
    pub(crate) fn lines(&self, problems: &Problems) -> Vec<String> {
        let text = problems.to_string();
        text.lines().map(|line| self.strip(line)).collect()
    }

    pub(crate) fn strip(&self, line: &str) -> String {
        line.replace(&format!("{}/", self.dir.path().display()), "")
    }

    /// What `read` makes of the configuration, and all problems or warnings.
    pub(crate) fn read(&self, read: impl FnOnce(&Reader)) -> Result<Vec<String>, Vec<String>> {
        let reader = self.load().reader();
        read(&reader);
        match reader.finish() {
            Ok(warnings) => Ok(warnings.iter().map(|line| self.strip(line)).collect()),
            Err(problems) => Err(self.lines(&problems)),
        }
    }

    /// All shared sections, or their problems.
    pub(crate) fn all(&self) -> Result<All, Vec<String>> {
        let reader = self.load().reader();
        let mut all = All {
            general: GeneralConfig::read(&reader),
            server: ServerConfig::read(&reader),
            backends: BackendsConfig::read(&reader),
            personas: Personas::read(&reader),
            credentials: Credentials::read(&reader),
            warnings: Vec::new(),
        };
        let warnings = reader.finish().map_err(|problems| self.lines(&problems))?;
        all.warnings = warnings.iter().map(|line| self.strip(line)).collect();
        Ok(all)
    }

    /// The problems of all shared sections.
    pub(crate) fn all_problems(&self) -> Vec<String> {
        self.all().err().unwrap_or_default()
    }
}

#[cfg(unix)]
pub(crate) fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;

    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[cfg(not(unix))]
pub(crate) fn set_mode(_path: &Path, _mode: u32) {}
