//! A folder that tools work in, and the only way to files.
//!
//! All access goes through a handle of the folder: the kernel resolves each path beneath it (`openat2` with
//! `RESOLVE_BENEATH`), so that neither `..`, nor an absolute path, nor a symbolic link that is exchanged at the worst
//! moment leads out. Nothing here joins, canonicalises or checks paths before it uses them by name.

mod list;
mod read;
mod write;

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd},
    path::{Component, Path, PathBuf},
};

use cap_std::{
    ambient_authority,
    fs::{Dir, File, OpenOptions, OpenOptionsExt as _},
};
use nix::fcntl::OFlag;
use tutti_error::Reason;

pub(crate) use list::{Listing, MAX_ENTRIES};
pub(crate) use read::{Content, MAX_READ};

use crate::domain::Failure;

/// An open folder. All methods block: call them where blocking is fine.
#[derive(Debug)]
pub(crate) struct Workspace {
    name: String,
    path: PathBuf,
    root: Dir,
}

/// A folder inside a workspace, as a place for a program to start in.
#[derive(Debug)]
pub(crate) struct Folder(Dir);

impl Folder {
    /// A path for a child of this process that leads to this folder, whatever is renamed meanwhile.
    pub(crate) fn start_path(&self) -> PathBuf {
        use std::os::fd::AsRawFd as _;
        let fd: BorrowedFd<'_> = self.0.as_fd();
        PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
    }
}

impl Workspace {
    /// Opens a folder; `make` makes it when it is missing.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn open(name: &str, path: &Path, make: bool) -> io::Result<Self> {
        if make {
            Dir::create_ambient_dir_all(path, ambient_authority())?;
        }
        let root = Dir::open_ambient_dir(path, ambient_authority())?;
        Ok(Self { name: name.to_owned(), path: path.to_owned(), root })
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Where it was opened: for programs' `HOME`, never for access from here.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A folder to start a program in.
    ///
    /// # Errors
    /// PATH_OUTSIDE_WORKSPACE; TOOL_FAILED when there is no such folder.
    pub(crate) fn folder(&self, path: &str) -> Result<Folder, Failure> {
        Ok(Folder(self.open_folder(path)?))
    }

    fn open_folder(&self, path: &str) -> Result<Dir, Failure> {
        let checked = relative(path)?;
        self.root.open_dir(checked).map_err(|error| failure(path, &error))
    }
}

/// The path, unless it says itself that it leads out. The system would refuse it too; this says so even where the
/// folders on the way do not exist.
fn relative(path: &str) -> Result<&Path, Failure> {
    let mut depth = 0_usize;
    let parsed = Path::new(if path.is_empty() { "." } else { path });
    for step in parsed.components() {
        match step {
            Component::CurDir => (),
            Component::Normal(_) => depth += 1,
            Component::ParentDir => depth = depth.checked_sub(1).ok_or_else(|| outside(path))?,
            Component::RootDir | Component::Prefix(_) => return Err(outside(path)),
        }
    }
    Ok(parsed)
}

fn outside(path: &str) -> Failure {
    let message = format!("{path:?} leads out of the workspace; paths are relative to its root and stay inside it");
    Failure::new(Reason::PathOutsideWorkspace, message)
}

/// The failure behind a system error on that path.
fn failure(path: &str, error: &io::Error) -> Failure {
    // What cap-std itself refuses is an escape, and has no number of the system.
    if error.kind() == io::ErrorKind::PermissionDenied && error.raw_os_error().is_none() {
        return outside(path);
    }
    Failure::failed(format!("{path:?}: {}", describe(error))).transient(is_transient(error))
}

/// Whether the machine was short of something for the moment, or a file was in use.
fn is_transient(error: &io::Error) -> bool {
    use nix::errno::Errno as E;
    let short = [E::EAGAIN, E::EBUSY, E::EINTR, E::EIO, E::EMFILE, E::ENFILE, E::ENOMEM, E::ESTALE, E::ETIMEDOUT];
    error.raw_os_error().is_some_and(|number| short.contains(&E::from_raw(number)))
}

fn describe(error: &io::Error) -> String {
    let text = error.to_string();
    // Without the number that Rust appends.
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// Opens a regular file. Never waits for a pipe's other end, and never becomes the terminal's.
fn open_regular(dir: &Dir, path: &Path, shown: &str, options: &mut OpenOptions, more: OFlag) -> Result<File, Failure> {
    options.custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY | more).bits());
    let file = dir.open_with(path, options).map_err(|error| failure(shown, &error))?;
    let metadata = file.metadata().map_err(|error| failure(shown, &error))?;
    if metadata.is_dir() {
        return Err(Failure::failed(format!("{shown:?} is a folder")));
    }
    if !metadata.is_file() {
        return Err(Failure::failed(format!("{shown:?} is not a regular file")));
    }
    Ok(file)
}

#[cfg(test)]
mod tests;
