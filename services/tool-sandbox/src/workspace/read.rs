//! Reading a file.

use std::io::Read as _;

use cap_std::fs::OpenOptions;
use nix::fcntl::OFlag;

use super::{Workspace, failure, open_regular, relative};
use crate::domain::Failure;

/// The most that is read of a file, in bytes.
pub(crate) const MAX_READ: u64 = 1024 * 1024;

/// The beginning of a file, or all of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Content {
    /// At most [`MAX_READ`] bytes.
    pub(crate) bytes: Vec<u8>,
    /// The size of the file when it was opened.
    pub(crate) size: u64,
    /// Whether the file has more.
    pub(crate) truncated: bool,
}

impl Workspace {
    /// Reads at most [`MAX_READ`] bytes of a regular file.
    ///
    /// # Errors
    /// PATH_OUTSIDE_WORKSPACE; TOOL_FAILED when there is no such file, or it is no regular one.
    pub(crate) fn read(&self, path: &str) -> Result<Content, Failure> {
        let mut file = open_regular(&self.root, relative(path)?, path, OpenOptions::new().read(true), OFlag::empty())?;
        let failed = |error| failure(path, &error);
        let size = file.metadata().map_err(failed)?.len();
        let mut bytes = Vec::with_capacity(usize::try_from(size.min(MAX_READ)).unwrap_or(0) + 1);
        // One more, to see whether there is more: a size is only what it was.
        let read = std::io::Read::by_ref(&mut file).take(MAX_READ + 1).read_to_end(&mut bytes).map_err(failed)?;
        let truncated = read as u64 > MAX_READ;
        bytes.truncate(usize::try_from(MAX_READ).unwrap_or(usize::MAX));
        Ok(Content { size: size.max(bytes.len() as u64), bytes, truncated })
    }
}
