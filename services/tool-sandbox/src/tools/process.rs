//! A program with everything it starts, and the end of all of it.
//!
//! Killing a program is not enough, nor is killing its process group: `setsid` leaves the group, and a process whose
//! parent has ended belongs to nobody we know. So each call gets a marker in its environment, which every process
//! started from it inherits; the end of a call kills the group, all descendants that `/proc` shows, and every process
//! that carries the marker, again and again until none is found. A process that both leaves its group and clears its
//! environment can still escape: only the isolation that is to come (a namespace of processes) closes that.

use std::{
    collections::{HashMap, HashSet},
    io::Read as _,
    time::{Duration, Instant},
};

use cap_std::{ambient_authority, fs::Dir};
use nix::{
    sys::{
        signal::{Signal, kill, killpg},
        wait::{Id, WaitPidFlag, waitid},
    },
    unistd::Pid,
};

/// The variable of the marker.
const MARKER: &str = "TUTTI_CALL_ID";
/// How long the killing goes on; a process that the kernel holds for longer is reported.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks at the processes.
const PAUSE: Duration = Duration::from_millis(2);
/// The most that is read of an environment: the marker stands first.
const MAX_ENVIRON: u64 = 256 * 1024;

/// A started program and all that comes from it.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    leader: Pid,
    marker: String,
}

/// The variable that marks all processes of a call, for [`Tree::new`].
pub(super) fn marker() -> (&'static str, String) {
    // Any id that no other call on this machine has.
    (MARKER, tutti_types::RequestId::generate().to_string())
}

impl Tree {
    /// The tree of a process that leads its own group and carries the marker. It must not be reaped before the tree
    /// has been killed: until then, its number is nobody else's.
    pub(super) fn new(leader: Pid, marker: &str) -> Self {
        Self { leader, marker: format!("{MARKER}={marker}") }
    }

    /// Waits until the leader has ended, and leaves it unreaped.
    pub(super) async fn leader_ended(&self) {
        let leader = self.leader;
        let waiting = tokio::task::spawn_blocking(move || {
            // Interrupted by a signal: wait on. Any other error means that there is nothing to wait for.
            while waitid(Id::Pid(leader), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) == Err(nix::errno::Errno::EINTR)
            {
            }
        });
        // It cannot panic.
        let _ = waiting.await;
    }

    /// Kills all of it. True when nothing is left.
    pub(super) async fn kill(&self) -> bool {
        let end = Instant::now() + PATIENCE;
        let mut clean = 0;
        // Two clean looks: one alone can miss a process that was just being started.
        while clean < 2 {
            let tree = self.clone();
            let left = tokio::task::spawn_blocking(move || tree.kill_once()).await.unwrap_or(0);
            clean = if left == 0 { clean + 1 } else { 0 };
            if Instant::now() > end {
                tracing::error!(left, leader = %self.leader, "processes of a tool call could not be killed");
                return false;
            }
            if clean < 2 {
                tokio::time::sleep(PAUSE).await;
            }
        }
        true
    }

    /// Kills what there is now, and says how many there were.
    fn kill_once(&self) -> usize {
        // Fails when the group is empty.
        let _ = killpg(self.leader, Signal::SIGKILL);
        let members = match Dir::open_ambient_dir("/proc", ambient_authority()) {
            Ok(proc) => self.members(&processes(&proc), &proc),
            Err(error) => {
                tracing::error!(%error, "/proc can't be read; only the process group of a tool call was killed");
                HashSet::new()
            }
        };
        for member in &members {
            // Fails when it has just ended.
            let _ = kill(*member, Signal::SIGKILL);
        }
        members.len()
    }

    /// The living processes of the tree.
    fn members(&self, processes: &HashMap<Pid, Process>, proc: &Dir) -> HashSet<Pid> {
        let own = Pid::this();
        let belongs = |pid: Pid, process: &Process| {
            process.group == self.leader || self.is_descendant(pid, processes) || self.is_marked(pid, proc)
        };
        let living = processes.iter().filter(|(pid, process)| process.alive && **pid != own);
        living.filter(|(pid, process)| belongs(**pid, process)).map(|(pid, _)| *pid).collect()
    }

    fn is_descendant(&self, pid: Pid, processes: &HashMap<Pid, Process>) -> bool {
        let mut seen = HashSet::new();
        let mut at = pid;
        // Numbers are read one after the other, so that they may even form a ring.
        while seen.insert(at) {
            if at == self.leader {
                return true;
            }
            match processes.get(&at) {
                Some(process) => at = process.parent,
                None => return false,
            }
        }
        false
    }

    fn is_marked(&self, pid: Pid, proc: &Dir) -> bool {
        let Ok(environ) = proc.open(format!("{pid}/environ")) else { return false };
        let mut bytes = Vec::new();
        // What could be read counts, also when the process ended in the middle.
        let _ = environ.take(MAX_ENVIRON).read_to_end(&mut bytes);
        bytes.split(|byte| *byte == 0).any(|variable| variable == self.marker.as_bytes())
    }
}

/// What `/proc/<pid>/stat` says of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    parent: Pid,
    group: Pid,
    /// False for those that have ended and only wait to be reaped.
    alive: bool,
}

fn processes(proc: &Dir) -> HashMap<Pid, Process> {
    let Ok(entries) = proc.entries() else { return HashMap::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: i32| {
        let stat = proc.read(format!("{pid}/stat")).ok()?;
        Some((Pid::from_raw(pid), parse_stat(&String::from_utf8_lossy(&stat))?))
    })
    .collect()
}

/// `pid (name) state parent group …`; the name may have spaces and brackets of its own.
fn parse_stat(stat: &str) -> Option<Process> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let alive = !matches!(fields.next()?, "Z" | "X" | "x");
    let mut pid = || Some(Pid::from_raw(fields.next()?.parse().ok()?));
    Some(Process { parent: pid()?, group: pid()?, alive })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_whatever_the_name() {
        let process = |alive| Process { parent: Pid::from_raw(3), group: Pid::from_raw(4), alive };
        assert_eq!(parse_stat("7 (sleep) S 3 4 4 0"), Some(process(true)));
        assert_eq!(parse_stat("7 (a) Z (b) c) Z 3 4 4 0"), Some(process(false)));
        assert_eq!(parse_stat("7 (sleep"), None);
        assert_eq!(parse_stat("7 (sleep) S 3"), None);
    }

    #[test]
    fn descendants_are_found_and_rings_end() {
        let tree = Tree::new(Pid::from_raw(10), "m");
        let process = |parent| Process { parent: Pid::from_raw(parent), group: Pid::from_raw(1), alive: true };
        let processes: HashMap<Pid, Process> = [(10, 1), (11, 10), (12, 11), (20, 1), (30, 31), (31, 30)]
            .into_iter()
            .map(|(pid, parent)| (Pid::from_raw(pid), process(parent)))
            .collect();
        let found = |pid| tree.is_descendant(Pid::from_raw(pid), &processes);
        assert!(found(10) && found(11) && found(12));
        assert!(!found(20) && !found(30) && !found(99));
    }
}
