//! Writing a file: whole and at once, or at its end.

use std::{ffi::OsStr, io::Write as _, path::Path};

use cap_std::fs::{Dir, MetadataExt as _, OpenOptions};
use cap_tempfile::TempFile;
use nix::fcntl::OFlag;
use tokio_util::sync::CancellationToken;
use tutti_error::Reason;

use super::{Workspace, failure, open_regular, outside, relative};
use crate::domain::Failure;

impl Workspace {
    /// Replaces a file, or makes it with the folders above it. A reader sees the old content or the new one, and after
    /// a crash one of the two is there. A symbolic link in the file's place is never followed.
    ///
    /// Nothing is replaced once `abandoned` is cancelled.
    ///
    /// # Errors
    /// PATH_OUTSIDE_WORKSPACE; CANCELLED; TOOL_FAILED when the system refuses.
    pub(crate) fn write(&self, path: &str, content: &[u8], abandoned: &CancellationToken) -> Result<(), Failure> {
        let (parent, name) = self.place(path)?;
        let failed = |error| failure(path, &error);
        let mut file = TempFile::new(&parent).map_err(failed)?;
        file.write_all(content).map_err(failed)?;
        if let Some(before) = parent.symlink_metadata(name).ok().filter(|metadata| metadata.is_file()) {
            file.as_file().set_permissions(before.permissions()).map_err(failed)?;
        }
        file.as_file().sync_all().map_err(failed)?;
        if abandoned.is_cancelled() {
            return Err(Failure::new(Reason::Cancelled, "the call ended before the file was replaced"));
        }
        file.replace(name).map_err(failed)?;
        sync(&parent).map_err(failed)
    }

    /// Appends to a file, or makes it with the folders above it.
    ///
    /// # Errors
    /// PATH_OUTSIDE_WORKSPACE; TOOL_FAILED when the system refuses, or the file has another name: that may lie outside.
    pub(crate) fn append(&self, path: &str, content: &[u8]) -> Result<(), Failure> {
        let (parent, name) = self.place(path)?;
        let options = &mut OpenOptions::new();
        let options = options.append(true).create(true);
        let mut file = open_regular(&parent, Path::new(name), path, options, OFlag::O_NOFOLLOW)?;
        let failed = |error| failure(path, &error);
        if file.metadata().map_err(failed)?.nlink() > 1 {
            return Err(Failure::failed(format!(
                "{path:?} has more than one name; write it whole instead of appending"
            )));
        }
        file.write_all(content).map_err(failed)?;
        file.sync_all().map_err(failed)
    }

    /// The folder that a file is in, made when it is missing, and the file's name in it.
    fn place<'a>(&self, path: &'a str) -> Result<(Dir, &'a OsStr), Failure> {
        let checked = relative(path)?;
        let no_file = || Failure::failed(format!("{path:?} does not name a file"));
        let name = checked.file_name().filter(|_| !path.ends_with(['/'])).ok_or_else(no_file)?;
        let above = checked.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let failed = |error| failure(path, &error);
        // Mostly it is there already.
        let parent = match self.root.open_dir(above) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                self.root.create_dir_all(above).map_err(failed)?;
                self.root.open_dir(above).map_err(failed)?
            }
            opened => opened.map_err(failed)?,
        };
        self.refuse_link(checked, path)?;
        Ok((parent, name))
    }

    /// Says what is wrong with writing to a symbolic link. For the message only: what comes later never follows one.
    fn refuse_link(&self, checked: &Path, path: &str) -> Result<(), Failure> {
        if !self.root.symlink_metadata(checked).is_ok_and(|metadata| metadata.is_symlink()) {
            return Ok(());
        }
        match self.root.metadata(checked) {
            Err(error) if failure(path, &error) == outside(path) => Err(outside(path)),
            _ => Err(Failure::failed(format!("{path:?} is a symbolic link; write to the file it stands for"))),
        }
    }
}

/// Makes a rename in the folder durable.
fn sync(dir: &Dir) -> std::io::Result<()> {
    dir.open(".")?.sync_all()
}
