//! Settlements on disk, while the ledger can't be reached.
//!
//! A folder of segments, each a file of one JSON record a line, appended and synced before [`Spool::append`] returns.
//! Replaying seals the open segment and works through the sealed ones, oldest first; a segment is removed when all of
//! it is delivered. What was delivered twice, because the process ended in between, is the same to the ledger.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};
use tutti_telemetry::Metrics;

/// A segment is sealed at this size, so that replaying never holds much in memory.
const SEGMENT_BYTES: u64 = 4 * 1024 * 1024;
/// Where records go that can never be delivered, for somebody to look at.
const REJECTED: &str = "rejected.log";

/// One settlement or release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// What to do.
    pub(crate) kind: Kind,
    /// The tenant it is for.
    pub(crate) org: String,
    /// Who called.
    pub(crate) principal: String,
    /// The request as protobuf in base64.
    pub(crate) message: String,
}

/// What a record asks the ledger for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// `Settle`.
    Settle,
    /// `Release`.
    Release,
}

/// The folder.
#[derive(Debug)]
pub(crate) struct Spool {
    dir: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    open: Option<(File, u64)>,
    /// Number of the open segment, or of the next one.
    number: u64,
    /// Records that wait, for the metrics.
    waiting: usize,
}

impl State {
    fn count(&mut self, waiting: usize) {
        self.waiting = waiting;
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        metrics::gauge!(Metrics::SPOOL).set(waiting as f64);
    }
}

impl Spool {
    /// Opens the folder, making it where it is missing.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        make_private(dir)?;
        let numbers = numbers(dir)?;
        let number = numbers.last().map_or(1, |last| last + 1);
        let spool = Self { dir: dir.to_owned(), state: Mutex::new(State { open: None, number, waiting: 0 }) };
        let left: io::Result<Vec<usize>> = numbers.iter().map(|number| lines(&spool.segment(*number))).collect();
        spool.lock().count(left?.iter().sum());
        Ok(spool)
    }

    /// Writes a record and waits until it is on disk. Blocks for the time of one sync.
    pub(crate) fn append(&self, record: &Record) -> io::Result<()> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        let mut state = self.lock();
        if state.open.is_none() {
            let path = self.segment(state.number);
            let file = OpenOptions::new().append(true).create_new(true).open(path)?;
            File::open(&self.dir)?.sync_all()?;
            state.open = Some((file, 0));
        }
        let Some((file, size)) = &mut state.open else { return Ok(()) };
        let written = file.write_all(&line).and_then(|()| file.sync_data());
        *size += line.len() as u64;
        let is_full = *size >= SEGMENT_BYTES;
        if written.is_ok() {
            let waiting = state.waiting + 1;
            state.count(waiting);
        }
        // After a failed write the segment may end in half a line: the next record begins another one.
        if written.is_err() || is_full {
            seal(&mut state);
        }
        written
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().open.is_none() && numbers(&self.dir).is_ok_and(|numbers| numbers.is_empty())
    }

    /// Ends the open segment and lists all, oldest first.
    pub(crate) fn sealed(&self) -> io::Result<Vec<PathBuf>> {
        let mut state = self.lock();
        seal(&mut state);
        Ok(numbers(&self.dir)?.into_iter().map(|number| self.segment(number)).collect())
    }

    /// The records of a sealed segment. A line that is none (cut by a crash, or damaged) is kept among the rejected.
    pub(crate) fn read(&self, segment: &Path) -> io::Result<Vec<Record>> {
        let text = fs::read(segment)?;
        let mut records = Vec::new();
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice(line) {
                Ok(record) => records.push(record),
                Err(error) => self.reject(&String::from_utf8_lossy(line), &error.to_string())?,
            }
        }
        Ok(records)
    }

    /// Removes a segment that is delivered.
    pub(crate) fn remove(&self, segment: &Path) -> io::Result<()> {
        let delivered = lines(segment)?;
        fs::remove_file(segment)?;
        let mut state = self.lock();
        let waiting = state.waiting.saturating_sub(delivered);
        state.count(waiting);
        drop(state);
        File::open(&self.dir)?.sync_all()
    }

    /// Keeps what can never be delivered.
    pub(crate) fn reject(&self, line: &str, why: &str) -> io::Result<()> {
        tracing::error!(why, "a settlement can't be delivered; it is kept in {REJECTED} of the spool folder");
        let mut file = OpenOptions::new().append(true).create(true).open(self.dir.join(REJECTED))?;
        writeln!(file, "{}", serde_json::json!({ "why": why, "record": line }))?;
        file.sync_data()
    }

    fn segment(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{number:012}.log"))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn seal(state: &mut State) {
    if state.open.take().is_some() {
        state.number += 1;
    }
}

/// How many records a segment has.
fn lines(segment: &Path) -> io::Result<usize> {
    Ok(fs::read(segment)?.iter().filter(|byte| **byte == b'\n').count())
}

/// Numbers of the segments, oldest first.
fn numbers(dir: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number: Option<u64> =
            name.to_str().and_then(|name| name.strip_suffix(".log")).and_then(|stem| stem.parse().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Who spent what is nobody else's business.
fn make_private(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    builder.create(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(message: &str) -> Record {
        Record { kind: Kind::Settle, org: "acme".into(), principal: "alice".into(), message: message.into() }
    }

    fn all(spool: &Spool) -> Vec<Record> {
        spool.sealed().unwrap().iter().flat_map(|segment| spool.read(segment).unwrap()).collect()
    }

    #[test]
    fn what_was_appended_outlives_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(dir.path()).unwrap();
        assert!(spool.is_empty());
        spool.append(&record("1")).unwrap();
        drop(spool);
        let spool = Spool::open(dir.path()).unwrap();
        spool.append(&record("2")).unwrap();
        assert!(!spool.is_empty());
        assert_eq!(all(&spool), [record("1"), record("2")]);
        for segment in spool.sealed().unwrap() {
            spool.remove(&segment).unwrap();
        }
        assert!(spool.is_empty());
    }

    #[test]
    fn what_waits_is_counted_across_processes() {
        let dir = tempfile::tempdir().unwrap();
        let text = Metrics::of(|| {
            Spool::open(dir.path()).unwrap().append(&record("1")).unwrap();
            Spool::open(dir.path()).unwrap().append(&record("2")).unwrap();
        });
        assert!(text.contains("tutti_spool_length 2"), "{text}");
        let text = Metrics::of(|| {
            let spool = Spool::open(dir.path()).unwrap();
            spool.sealed().unwrap().iter().for_each(|segment| spool.remove(segment).unwrap());
        });
        assert!(text.contains("tutti_spool_length 0"), "{text}");
    }

    #[test]
    fn half_a_line_does_not_hide_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(dir.path()).unwrap();
        spool.append(&record("1")).unwrap();
        let segment = spool.sealed().unwrap().remove(0);
        let mut file = OpenOptions::new().append(true).open(&segment).unwrap();
        file.write_all(b"{\"kind\":\"settle\",\"or").unwrap();
        spool.append(&record("2")).unwrap();
        assert_eq!(all(&spool), [record("1"), record("2")]);
        assert!(fs::read_to_string(dir.path().join(REJECTED)).unwrap().contains("settle"));
    }
}
