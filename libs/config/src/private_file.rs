//! Reading files that hold secrets.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

/// The bytes of a file that only its owner, who must be this user, can read; `None` if there
/// is no such file.
///
/// # Errors
/// What is wrong, and how to put it right.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, String> {
    let cannot = |error: std::io::Error| format!("cannot be read: {error}");
    // The opened file is checked, not the path: it cannot be swapped in between.
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(cannot(error)),
    };
    check(&file, path)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(cannot)?;
    Ok(Some(bytes))
}

#[cfg(unix)]
fn check(file: &File, path: &Path) -> Result<(), String> {
    use std::os::unix::fs::MetadataExt as _;

    let metadata = file.metadata().map_err(|error| format!("cannot be read: {error}"))?;
    let user = nix::unistd::geteuid().as_raw();
    refusal(metadata.uid(), metadata.mode(), user, path).map_or(Ok(()), Err)
}

#[cfg(unix)]
fn refusal(owner: u32, mode: u32, user: u32, path: &Path) -> Option<String> {
    let mode = mode & 0o777;
    if owner != user {
        return Some(format!(
            "belongs to another user (id {owner}), who could read or change the keys; \
             make a file of your own"
        ));
    }
    (mode & 0o077 != 0).then(|| {
        let quoted = path.display().to_string().replace('\'', "'\\''");
        format!("others can read or change the keys (mode {mode:04o}); run: chmod 600 '{quoted}'")
    })
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "the Unix twin fails")]
fn check(_file: &File, _path: &Path) -> Result<(), String> {
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use std::path::Path;

    use super::refusal;

    #[test]
    fn only_the_owner_may_have_access() {
        let refuse = |owner, mode, user| refusal(owner, mode, user, Path::new("it's.toml"));
        assert_eq!(refuse(1, 0o100_600, 1), None);
        assert_eq!(refuse(1, 0o100_400, 1), None);
        let message = refuse(1, 0o100_640, 1).unwrap();
        assert_eq!(message, "others can read or change the keys (mode 0640); run: chmod 600 'it'\\''s.toml'");
        assert!(refuse(2, 0o100_600, 1).unwrap().starts_with("belongs to another user (id 2)"));
    }
}
