//! The environment. No other crate reads it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// A snapshot of the environment variables.
#[derive(Clone, Default)]
pub struct Env {
    variables: BTreeMap<String, String>,
}

impl Env {
    /// The variables of this process. One whose name or value is not UTF-8 is left out.
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    pub fn process() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self { variables: std::env::vars_os().filter_map(text).collect() }
    }

    /// Exactly these variables.
    pub fn from_map<N: Into<String>, V: Into<String>>(variables: impl IntoIterator<Item = (N, V)>) -> Self {
        let owned = |(name, value): (N, V)| (name.into(), value.into());
        Self { variables: variables.into_iter().map(owned).collect() }
    }

    /// The variable, if set and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// All variables, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// An absolute path out of a variable; a relative one is ignored, as the XDG rule says.
    fn absolute(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(PathBuf::from).filter(|path| path.is_absolute())
    }

    /// The home folder of the user.
    pub(crate) fn home(&self) -> Option<PathBuf> {
        self.absolute(if cfg!(windows) { "USERPROFILE" } else { "HOME" })
    }

    /// The global config folder of the user, which need not exist.
    pub fn config_dir(&self) -> Option<PathBuf> {
        let base = if cfg!(windows) {
            self.absolute("APPDATA")
        } else {
            let home = || self.home().map(|home| home.join(".config"));
            self.absolute("XDG_CONFIG_HOME").or_else(home)
        };
        base.map(|base| base.join("tutti"))
    }

    /// The folder for the user's data, which need not exist.
    pub(crate) fn data_dir(&self) -> Option<PathBuf> {
        let base = if cfg!(windows) {
            self.absolute("LOCALAPPDATA")
        } else {
            let home = || self.home().map(|home| home.join(".local").join("share"));
            self.absolute("XDG_DATA_HOME").or_else(home)
        };
        base.map(|base| base.join("tutti"))
    }

    /// `~` and `~/…` with the home folder put in; anything else unchanged.
    pub(crate) fn expand_home(&self, path: &str) -> PathBuf {
        let rest = path.strip_prefix('~').filter(|rest| rest.is_empty() || rest.starts_with('/'));
        match (rest, self.home()) {
            (Some(rest), Some(home)) => home.join(rest.trim_start_matches('/')),
            _ => PathBuf::from(path),
        }
    }
}

impl fmt::Debug for Env {
    /// Names only: values are often secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.variables.keys()).finish()
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::path::PathBuf;

    use super::Env;

    #[test]
    fn folders_follow_the_xdg_rule() {
        let home = Env::from_map([("HOME", "/h")]);
        assert_eq!(home.config_dir(), Some(PathBuf::from("/h/.config/tutti")));
        assert_eq!(home.data_dir(), Some(PathBuf::from("/h/.local/share/tutti")));
        let xdg = Env::from_map([("HOME", "/h"), ("XDG_CONFIG_HOME", "/c"), ("XDG_DATA_HOME", "relative")]);
        assert_eq!(xdg.config_dir(), Some(PathBuf::from("/c/tutti")));
        assert_eq!(xdg.data_dir(), Some(PathBuf::from("/h/.local/share/tutti")));
        assert_eq!(Env::default().config_dir(), None);
    }

    #[test]
    fn the_tilde_is_the_home_folder() {
        let env = Env::from_map([("HOME", "/h")]);
        assert_eq!(env.expand_home("~/a"), PathBuf::from("/h/a"));
        assert_eq!(env.expand_home("~"), PathBuf::from("/h/"));
        assert_eq!(env.expand_home("~other/a"), PathBuf::from("~other/a"));
    }

    #[test]
    fn debug_shows_no_values() {
        let env = Env::from_map([("OPENAI_API_KEY", "sk-secret")]);
        assert_eq!(format!("{env:?}"), "{\"OPENAI_API_KEY\"}");
    }
}
