//! One captured stream of a process.

use std::{
    io::{BufRead as _, BufReader, Read},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

/// Lines read so far by a thread of its own, so that the process never waits for a full pipe.
#[derive(Debug, Clone, Default)]
pub(super) struct Output(Arc<Mutex<Captured>>);

#[derive(Debug, Default)]
struct Captured {
    lines: Vec<String>,
    complete: bool,
}

impl Output {
    /// Reads until the end. Bytes that aren't UTF-8 are replaced.
    pub(super) fn of(source: impl Read + Send + 'static) -> Self {
        let output = Self::default();
        let captured = output.clone();
        thread::spawn(move || {
            let mut source = BufReader::new(source);
            let mut line = Vec::new();
            while source.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                captured.lock().lines.push(String::from_utf8_lossy(&line).trim_end().to_owned());
                line.clear();
            }
            captured.lock().complete = true;
        });
        output
    }

    /// Whether the stream has ended: the process, and whoever it left the stream to, closed it.
    pub(super) fn is_complete(&self) -> bool {
        self.lock().complete
    }

    /// The first line from which `find` reads something.
    pub(super) fn find<T>(&self, find: impl Fn(&str) -> Option<T>) -> Option<T> {
        self.lock().lines.iter().find_map(|line| find(line))
    }

    /// All lines, each with its line feed.
    pub(super) fn text(&self) -> String {
        self.lock().lines.iter().flat_map(|line| [line, "\n"]).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Captured> {
        // A reader that panicked in `find` fails its test; the lines are whole all the same.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
