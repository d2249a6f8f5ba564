//! What processes use, from `/proc`: processor time and resident memory of a group with all its descendants, and the
//! processor time of the whole box, so that what strangers took is known.

use std::{collections::BTreeSet, fs, sync::Arc, time::Duration};

use tokio::task::JoinHandle;

/// `/proc` counts in hundredths of a second on every Linux that Rust runs on.
const TICKS_PER_SECOND: f64 = 100.0;
/// How often the memory is looked at.
const SAMPLE: Duration = Duration::from_millis(50);

/// Processes that are measured together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Group {
    roots: Vec<u32>,
    /// Whether their descendants count too.
    descends: bool,
}

/// What `/proc/PID/stat` says.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Stat {
    parent: u32,
    /// User and system time of all threads, and of the children that have ended.
    cpu_seconds: f64,
}

impl Group {
    /// These processes with all their descendants: a database starts one for each connection.
    pub(crate) fn with_descendants(roots: impl IntoIterator<Item = u32>) -> Self {
        Self { roots: roots.into_iter().collect(), descends: true }
    }

    /// These processes and no other.
    pub(crate) fn alone(roots: impl IntoIterator<Item = u32>) -> Self {
        Self { roots: roots.into_iter().collect(), descends: false }
    }

    /// The first of the processes that isn't there.
    pub(crate) fn missing(&self) -> Option<u32> {
        self.roots.iter().copied().find(|pid| stat(*pid).is_none())
    }

    /// Processor time used so far, in seconds.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        self.members().into_iter().filter_map(stat).map(|stat| stat.cpu_seconds).fold(0.0, |sum, seconds| sum + seconds)
    }

    /// Resident memory, in MiB. Pages that members share count once for each.
    pub(crate) fn resident_mib(&self) -> f64 {
        self.members().into_iter().filter_map(resident_kib).fold(0.0, |sum, kib| sum + kib) / 1024.0
    }

    fn members(&self) -> BTreeSet<u32> {
        let mut members: BTreeSet<u32> = self.roots.iter().copied().collect();
        if !self.descends {
            return members;
        }
        let all: Vec<(u32, Stat)> = processes().into_iter().filter_map(|pid| Some((pid, stat(pid)?))).collect();
        loop {
            let before = members.len();
            members.extend(
                all.iter().filter(|(_, stat)| members.contains(&stat.parent)).map(|(pid, _)| *pid).collect::<Vec<_>>(),
            );
            if members.len() == before {
                return members;
            }
        }
    }
}

fn processes() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(text: &str) -> Option<Stat> {
    // The name in brackets may hold blanks and brackets itself.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: f64 = fields.get(11..15)?.iter().filter_map(|field| field.parse::<f64>().ok()).sum();
    Some(Stat { parent: fields.get(1)?.parse().ok()?, cpu_seconds: ticks / TICKS_PER_SECOND })
}

fn resident_kib(pid: u32) -> Option<f64> {
    parse_resident(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

fn parse_resident(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Processor time that all processes of the box have used, in seconds. Interrupts are nobody's.
pub(crate) fn box_seconds() -> f64 {
    parse_box(&fs::read_to_string("/proc/stat").unwrap_or_default()).unwrap_or_default()
}

fn parse_box(text: &str) -> Option<f64> {
    let fields: Vec<f64> = text.lines().next()?.split_whitespace().skip(1).filter_map(|f| f.parse().ok()).collect();
    Some(fields.get(..3)?.iter().sum::<f64>() / TICKS_PER_SECOND)
}

/// Waits until the group rests: until it has used no processor time from one sample to the next, at most so long.
pub(crate) async fn rest(group: &Group, at_most: Duration) {
    let mut every = tokio::time::interval(SAMPLE);
    let until = std::time::Instant::now() + at_most;
    let mut used = f64::NAN;
    while std::time::Instant::now() < until {
        every.tick().await;
        let now = group.cpu_seconds();
        if now.total_cmp(&used).is_eq() {
            return;
        }
        used = now;
    }
}

/// Looks at the memory of a group for a time: the highest sum seen, in MiB.
pub(crate) async fn peak_mib_during(group: &Group, time: Duration) -> f64 {
    let mut every = tokio::time::interval(SAMPLE);
    let until = std::time::Instant::now() + time;
    let mut peak = 0.0_f64;
    while std::time::Instant::now() < until {
        every.tick().await;
        peak = peak.max(group.resident_mib());
    }
    peak
}

/// Watches the memory of a group until it is asked for the peak.
#[derive(Debug)]
pub(crate) struct MemoryWatch {
    task: JoinHandle<()>,
    peak: Arc<std::sync::Mutex<f64>>,
}

impl MemoryWatch {
    /// Starts to watch.
    pub(crate) fn start(group: Group) -> Self {
        let peak = Arc::new(std::sync::Mutex::new(0.0_f64));
        let seen = Arc::clone(&peak);
        let look = async move {
            let mut every = tokio::time::interval(SAMPLE);
            loop {
                every.tick().await;
                let now = group.resident_mib();
                let mut highest = seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                *highest = highest.max(now);
            }
        };
        #[expect(clippy::disallowed_methods, reason = "owned by the handle, ended by peak_mib")]
        let task = tokio::spawn(look);
        Self { task, peak }
    }

    /// Ends it: the highest sum of resident memory seen, in MiB.
    pub(crate) fn peak_mib(self) -> f64 {
        self.task.abort();
        *self.peak.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_all_threads_and_ended_children_count() {
        let text = "42 (a (b) c) S 7 42 42 0 -1 4194304 1 2 3 4 100 20 3 4 20 0 9 0 1";
        assert_eq!(parse_stat(text), Some(Stat { parent: 7, cpu_seconds: 1.27 }));
        assert_eq!(parse_stat("42 (a) S 7"), None);
    }

    #[test]
    fn memory_and_the_box_are_read() {
        assert_eq!(parse_resident("Name:\tx\nVmRSS:\t    2048 kB\n"), Some(2048.0));
        assert_eq!(parse_resident("Name:\tx\n"), None);
        assert_eq!(parse_box("cpu  100 20 30 999 5 6 7 0 0 0\ncpu0 1 1 1\n"), Some(1.5));
    }

    #[test]
    fn this_process_is_found_and_uses_memory() {
        let own = Group::alone([std::process::id()]);
        assert_eq!(own.missing(), None);
        assert!(own.resident_mib() > 1.0);
        assert_eq!(Group::alone([u32::MAX]).missing(), Some(u32::MAX));
    }

    #[test]
    fn a_child_belongs_to_its_parent() {
        let mut child = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let own = [std::process::id()];
        let counts = [Group::with_descendants(own), Group::alone(own)].map(|g| g.members().contains(&child.id()));
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(counts, [true, false]);
    }
}
