//! How long the disk under a folder takes to make a small write durable: what every durable promise costs at least.

use std::{
    fs::File,
    io::{self, Seek as _, SeekFrom, Write as _},
    path::Path,
    time::Instant,
};

use nix::sys::statfs::{TMPFS_MAGIC, statfs};

use crate::quantile::Sorted;

const WRITES: usize = 300;
const BLOCK: usize = 8 * 1024;

/// Median of fdatasync after an 8 KiB write into preallocated space, in ms.
///
/// # Errors
/// What the system says; also when the folder is in memory, where durable means nothing.
pub(crate) fn fdatasync_p50_ms(folder: &Path) -> io::Result<f64> {
    if statfs(folder)?.filesystem_type() == TMPFS_MAGIC {
        let why = format!("{} is in memory: set TMPDIR to a folder on a disk", folder.display());
        return Err(io::Error::other(why));
    }
    let mut file = tempfile::tempfile_in(folder)?;
    file.write_all(&vec![1; WRITES * BLOCK])?;
    file.sync_all()?;
    file.seek(SeekFrom::Start(0))?;
    let times = (0..WRITES).map(|_| write_through(&mut file)).collect::<io::Result<_>>()?;
    Ok(Sorted::new(times).quantile(0.5).unwrap_or_default())
}

fn write_through(file: &mut File) -> io::Result<f64> {
    file.write_all(&[2; BLOCK])?;
    let began = Instant::now();
    file.sync_data()?;
    Ok(began.elapsed().as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_no_disk() {
        let shared = Path::new("/dev/shm");
        let in_memory = statfs(shared).is_ok_and(|found| found.filesystem_type() == TMPFS_MAGIC);
        if in_memory {
            assert!(fdatasync_p50_ms(shared).unwrap_err().to_string().contains("in memory"));
        }
    }
}
