//! Finding the project.

use std::path::{Path, PathBuf};

/// The project's folder, or why one that was found is not used.
pub(crate) struct Project {
    pub(crate) dir: Option<PathBuf>,
    pub(crate) warning: Option<String>,
}

/// The nearest `.tutti` folder from `start` upwards.
///
/// One that belongs to somebody else is left alone, or anyone could steer other people's
/// work by placing a `.tutti` in a folder shared with them, such as the temporary one.
pub(crate) fn find_project(start: &Path) -> Project {
    let found = start.ancestors().map(|dir| dir.join(".tutti")).find(|dir| dir.is_dir());
    match found {
        Some(dir) if !is_trusted(&dir, start) => {
            let warning = format!("{}: ignored: it belongs to another user", dir.display());
            Project { dir: None, warning: Some(warning) }
        }
        dir => Project { dir, warning: None },
    }
}

#[cfg(unix)]
fn is_trusted(dir: &Path, start: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;

    let owner = |path: &Path| std::fs::metadata(path).map(|metadata| metadata.uid());
    let (Ok(of_dir), Ok(of_start)) = (owner(dir), owner(start)) else {
        return false;
    };
    trusts(of_dir, of_start, nix::unistd::geteuid().as_raw())
}

/// Whether the owner of the folder is the user, root, or the owner of the work itself (a
/// checkout mounted into a container belongs to a user the container does not know).
#[cfg(unix)]
fn trusts(of_dir: u32, of_start: u32, user: u32) -> bool {
    of_dir == user || of_dir == 0 || of_dir == of_start
}

#[cfg(not(unix))]
fn is_trusted(_dir: &Path, _start: &Path) -> bool {
    true
}

#[cfg(all(test, unix))]
mod tests {
    use super::trusts;

    #[test]
    fn a_strangers_project_folder_is_not_trusted() {
        let (me, mallory, root) = (1000, 1001, 0);
        assert!(trusts(me, me, me));
        assert!(trusts(root, me, me));
        assert!(trusts(1234, 1234, root), "a checkout mounted into a container");
        assert!(!trusts(mallory, me, me));
        assert!(!trusts(mallory, root, root));
    }
}
