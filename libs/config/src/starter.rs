//! The files a first run starts from.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

/// The starter files: name, content, whether they hold secrets.
const FILES: [(&str, &str, bool); 3] = [
    ("config.toml", include_str!("starter/config.toml"), false),
    ("credentials.toml", include_str!("starter/credentials.toml"), true),
    ("personas.toml", include_str!("starter/personas.toml"), false),
];

/// Creates the global folder with its starter files, and names those it wrote. A folder that
/// exists is left as it is, and no file is ever overwritten.
///
/// # Errors
/// The folder or a file cannot be written.
pub fn write_starter_files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    if dir.exists() {
        return Ok(Vec::new());
    }
    if let Some(parent) = dir.parent() {
        std::fs::create_dir_all(parent)?;
    }
    match private_folder().create(dir) {
        // Another process was faster and writes the files.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(Vec::new()),
        other => other?,
    }
    let mut written = Vec::new();
    for (name, content, secret) in FILES {
        let path = dir.join(name);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        if secret {
            make_private(&mut options);
        }
        options.open(&path)?.write_all(content.as_bytes())?;
        written.push(path);
    }
    Ok(written)
}

#[cfg(unix)]
fn private_folder() -> DirBuilder {
    use std::os::unix::fs::DirBuilderExt as _;

    let mut builder = DirBuilder::new();
    builder.mode(0o700);
    builder
}

#[cfg(unix)]
fn make_private(options: &mut OpenOptions) {
    use std::os::unix::fs::OpenOptionsExt as _;

    options.mode(0o600);
}

#[cfg(not(unix))]
fn private_folder() -> DirBuilder {
    DirBuilder::new()
}

#[cfg(not(unix))]
fn make_private(_options: &mut OpenOptions) {}
