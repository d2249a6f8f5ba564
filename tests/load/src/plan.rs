//! The whole run: every load on every path, round after round, so that what changes on the box changes for all paths.

use std::{io, io::Write as _, path::Path, sync::Arc, time::Duration};

use crate::{
    disk,
    drive::Kind,
    gate::{Profile, judge, loads, paths},
    measure::{Cell, Load, Processes, Shape, measure},
    report::Report,
    target::{Failure, Target},
    usage::peak_mib_during,
};

/// Connections of the closed loop, and the most gRPC connections of all other loads.
pub(crate) const CONNECTIONS: usize = 64;
/// The model that is asked for: one that the catalogue has a price for.
pub(crate) const MODEL: &str = "gpt-4.1";

/// About 340 bytes of what users write, and then the script of the answer.
const QUESTION: &str = "Our service keeps a queue of orders in one table and two workers take from it. Since last week \
    some orders are handled twice when a worker restarts. Explain in a few sentences what is likely to happen and which \
    change to the transaction would make sure that every order is handled once, without slowing the workers down.";
/// An idle process is looked at for so long.
const IDLE: Duration = Duration::from_secs(2);
/// Calls before the first measurement: connections, caches and lazily made things are there then.
const WARM_UP: usize = 200;

/// How long and how often.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Effort {
    /// Rounds; figures are medians over them
    #[arg(long, global = true, default_value_t = 3)]
    rounds: usize,
    /// Seconds of every unary load
    #[arg(long, global = true, default_value_t = 5)]
    seconds: u64,
    /// Only loads whose name contains this
    #[arg(long, global = true, value_name = "TEXT", default_value = "")]
    only: String,
}

/// What is measured.
#[derive(Debug)]
pub(crate) struct Subject {
    /// How the mesh runs.
    pub(crate) profile: Profile,
    /// The paths, the direct one first.
    pub(crate) paths: Vec<(&'static str, Arc<Target>)>,
    /// The processes around it.
    pub(crate) processes: Processes,
}

/// Runs all loads.
///
/// # Errors
/// When the folder's disk can't be measured, or a path doesn't answer at all.
pub(crate) async fn run(subject: &Subject, effort: &Effort, folder: &Path) -> io::Result<Report> {
    let fdatasync_p50_ms = disk::fdatasync_p50_ms(folder)?;
    let idle = idle(subject).await;
    warm_up(subject).await.map_err(io::Error::other)?;
    let mut cells = vec![idle];
    let chosen = || all(effort).into_iter().filter(|load| load.name.contains(&effort.only));
    for round in 1..=effort.rounds {
        for load in chosen() {
            for (path, target) in &subject.paths {
                // Whoever watches may as well close the terminal.
                let _ = writeln!(io::stderr(), "round {round}: {} ({path})", load.name);
                cells.push(measure(&load, path, round, target, &subject.processes).await);
            }
        }
    }
    let verdicts = judge(subject.profile, &cells, fdatasync_p50_ms);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    Ok(Report { profile: subject.profile, cores, rounds: effort.rounds, fdatasync_p50_ms, cells, verdicts })
}

fn all(effort: &Effort) -> [Load; 4] {
    let time = Duration::from_secs(effort.seconds);
    let rate = 200 * usize::try_from(effort.seconds).unwrap_or_default();
    let unary = |name, shape| Load { name, prompt: format!("{QUESTION} [[words 200]]").into(), tokens: 200, shape };
    let streams = |name, gap_ms: u32, count, ramp| Load {
        name,
        prompt: format!("{QUESTION} [[words 100]] [[fault chunk_ms={gap_ms} chunk_tokens=1]]").into(),
        tokens: 100,
        shape: Shape::Open { kind: Kind::Stream, count, time: Duration::from_secs(ramp) },
    };
    [
        unary(loads::MAX, Shape::Closed { connections: CONNECTIONS, time }),
        unary(loads::RATE, Shape::Open { kind: Kind::Unary, count: rate, time }),
        streams(loads::STREAMS_500, 10, 500, 1),
        streams(loads::STREAMS_1000, 100, 1000, 3),
    ]
}

/// The mesh without a call, before its first one.
async fn idle(subject: &Subject) -> Cell {
    let before = subject.processes.ours.cpu_seconds();
    let peak_rss_mib = peak_mib_during(&subject.processes.ours, IDLE).await;
    let cpu_seconds = subject.processes.ours.cpu_seconds() - before;
    let beside_rss_mib = subject.processes.beside.resident_mib();
    let seconds = IDLE.as_secs_f64();
    Cell { load: loads::IDLE, path: paths::MESH, seconds, cpu_seconds, peak_rss_mib, beside_rss_mib, ..Cell::default() }
}

async fn warm_up(subject: &Subject) -> Result<(), Failure> {
    for (_, target) in &subject.paths {
        for slot in 0..WARM_UP {
            target.unary(slot, "[[words 200]]").await?;
        }
        target.stream(0, "[[words 10]]").await?;
    }
    Ok(())
}
