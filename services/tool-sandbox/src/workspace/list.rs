//! Listing a folder.

use std::{collections::VecDeque, path::Path};

use cap_std::fs::{Dir, FileType, FileTypeExt as _, OpenOptions, OpenOptionsExt as _};
use nix::fcntl::OFlag;
use tokio_util::sync::CancellationToken;
use tutti_error::Reason;

use super::{Workspace, failure};
use crate::domain::Failure;

/// The most entries that are shown.
pub(crate) const MAX_ENTRIES: usize = 200;
/// The most entries that are looked at, so that huge folders cost little.
const MAX_SEEN: usize = 20_000;

/// What is in a folder.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    /// Paths relative to the folder with a mark for their type: `/` folder, `@` link, `|` pipe, `=` socket, `%` device.
    pub(crate) entries: Vec<String>,
    /// Whether there are more.
    pub(crate) truncated: bool,
}

impl Workspace {
    /// Lists a folder, level by level and by name within each folder; symbolic links are not followed.
    ///
    /// # Errors
    /// PATH_OUTSIDE_WORKSPACE; CANCELLED; TOOL_FAILED when there is no such folder.
    pub(crate) fn list(
        &self,
        path: &str,
        recursive: bool,
        hidden: bool,
        abandoned: &CancellationToken,
    ) -> Result<Listing, Failure> {
        let mut listing = Listing::default();
        let mut seen = 0;
        let mut waiting = VecDeque::from([(String::new(), self.open_folder(path)?)]);
        while let Some((prefix, dir)) = waiting.pop_front() {
            if abandoned.is_cancelled() {
                return Err(Failure::new(Reason::Cancelled, "the call ended before the list was complete"));
            }
            let names = match names(&dir, hidden, &mut seen) {
                Err(error) if prefix.is_empty() => return Err(failure(path, &error)),
                // A folder that was removed meanwhile, or is closed to us.
                Err(_) => continue,
                Ok(names) => names,
            };
            listing.truncated |= seen >= MAX_SEEN;
            for (name, kind) in names {
                if listing.entries.len() == MAX_ENTRIES {
                    listing.truncated = true;
                    return Ok(listing);
                }
                let shown = format!("{prefix}{name}");
                if recursive
                    && kind.is_dir()
                    && let Some(inner) = open_plain_folder(&dir, &name)
                {
                    waiting.push_back((format!("{shown}/"), inner));
                }
                listing.entries.push(shown + mark(kind));
            }
        }
        Ok(listing)
    }
}

fn names(dir: &Dir, hidden: bool, seen: &mut usize) -> std::io::Result<Vec<(String, FileType)>> {
    let mut names = Vec::new();
    for entry in dir.entries()? {
        if *seen >= MAX_SEEN {
            break;
        }
        *seen += 1;
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if hidden || !name.starts_with('.') {
            names.push((name, entry.file_type()?));
        }
    }
    names.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(names)
}

/// The folder of that name, unless a symbolic link has taken its place.
fn open_plain_folder(dir: &Dir, name: &str) -> Option<Dir> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = dir.open_with(Path::new(name), OpenOptions::new().read(true).custom_flags(flags.bits())).ok()?;
    Some(Dir::from_std_file(file.into_std()))
}

fn mark(kind: FileType) -> &'static str {
    match kind {
        _ if kind.is_dir() => "/",
        _ if kind.is_symlink() => "@",
        _ if kind.is_fifo() => "|",
        _ if kind.is_socket() => "=",
        _ if kind.is_block_device() || kind.is_char_device() => "%",
        _ => "",
    }
}
