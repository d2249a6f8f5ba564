//! The gates, as data, and their verdicts.

use serde::Serialize;

use crate::{measure::Cell, quantile::median};

/// Strangers that use more than this many cores make a measurement worthless on a small box.
pub(crate) const QUIET_CORES: f64 = 0.3;

/// How the mesh runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Profile {
    /// All in one process.
    Up,
    /// One process a service, one replica each.
    Cluster,
}

/// Names of the loads, which cells and gates share.
pub(crate) mod loads {
    pub(crate) const IDLE: &str = "idle";
    pub(crate) const MAX: &str = "unary, 64 connections";
    pub(crate) const RATE: &str = "unary, 200/s";
    pub(crate) const STREAMS_500: &str = "500 streams, 10 ms";
    pub(crate) const STREAMS_1000: &str = "1,000 streams, 100 ms";
}

/// Names of the paths.
pub(crate) mod paths {
    pub(crate) const DIRECT: &str = "direct";
    pub(crate) const MESH: &str = "mesh";
    pub(crate) const DOOR: &str = "door";
}

/// What a gate looks at, in cells of its load.
type Read = fn(&Cell) -> f64;

/// How a figure comes from the cells: medians over the rounds.
#[derive(Debug, Clone, Copy)]
enum Figure {
    /// Of the mesh alone.
    Of(Read),
    /// Of the first path, less the same of the second.
    Added(Read, &'static str, &'static str),
}

/// The side of the limit that is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Good {
    AtLeast,
    AtMost,
}

/// One gate.
#[derive(Debug)]
struct Gate {
    what: &'static str,
    load: &'static str,
    figure: Figure,
    good: Good,
    unit: &'static str,
    up: f64,
    cluster: f64,
    /// The median of fdatasync is added to the limit: something durable is in it.
    plus_disk: bool,
    /// Whether strangers' load spoils it.
    needs_quiet: bool,
}

const GATE: Gate = Gate {
    what: "",
    load: loads::MAX,
    figure: Figure::Of(|cell| cell.rate),
    good: Good::AtMost,
    unit: "",
    up: 0.0,
    cluster: 0.0,
    plus_disk: false,
    needs_quiet: true,
};

const GATES: &[Gate] = &[
    Gate { what: "throughput", good: Good::AtLeast, unit: "req/s", up: 6000.0, cluster: 2500.0, ..GATE },
    Gate {
        what: "CPU per 1,000 calls",
        figure: Figure::Of(Cell::cpu_per_1000_calls),
        unit: "s",
        up: 0.25,
        cluster: 0.60,
        ..GATE
    },
    Gate {
        what: "added p50",
        load: loads::RATE,
        figure: Figure::Added(|cell| cell.latency_ms.p50, paths::MESH, paths::DIRECT),
        unit: "ms",
        up: 1.5,
        cluster: 3.0,
        plus_disk: true,
        ..GATE
    },
    Gate {
        what: "p50 of the door above gRPC",
        load: loads::RATE,
        figure: Figure::Added(|cell| cell.latency_ms.p50, paths::DOOR, paths::MESH),
        unit: "ms",
        up: 0.2,
        cluster: 0.2,
        ..GATE
    },
    Gate {
        what: "CPU per 1,000 tokens",
        load: loads::STREAMS_500,
        figure: Figure::Of(Cell::cpu_ms_per_1000_tokens),
        unit: "ms",
        up: 40.0,
        cluster: 80.0,
        ..GATE
    },
    Gate {
        what: "tokens lost",
        load: loads::STREAMS_500,
        figure: Figure::Of(|cell| cell.lost_tokens as f64),
        needs_quiet: false,
        ..GATE
    },
    Gate {
        what: "added time to first token, p50",
        load: loads::STREAMS_1000,
        figure: Figure::Added(|cell| cell.first_token_ms.p50, paths::MESH, paths::DIRECT),
        unit: "ms",
        up: 3.0,
        cluster: 6.0,
        plus_disk: true,
        ..GATE
    },
    Gate {
        what: "resident memory",
        load: loads::IDLE,
        figure: Figure::Of(|cell| cell.peak_rss_mib),
        unit: "MiB",
        up: 60.0,
        cluster: 150.0,
        needs_quiet: false,
        ..GATE
    },
    Gate {
        what: "resident memory",
        load: loads::STREAMS_1000,
        figure: Figure::Of(|cell| cell.peak_rss_mib),
        unit: "MiB",
        up: 150.0,
        cluster: 350.0,
        ..GATE
    },
];

/// What came of a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// Kept.
    Passed,
    /// Broken.
    Failed,
    /// Strangers used too much of the box, or the path isn't there.
    NotMeasured,
}

/// A gate with its figure.
#[derive(Debug, Serialize)]
pub(crate) struct Verdict {
    pub(crate) load: &'static str,
    pub(crate) what: &'static str,
    pub(crate) unit: &'static str,
    /// `>=` or `<=`.
    pub(crate) sign: &'static str,
    /// The limit, the disk's share included.
    pub(crate) limit: f64,
    pub(crate) measured: Option<f64>,
    /// The most that strangers used in any of its cells, in cores.
    pub(crate) foreign_cores: f64,
    pub(crate) outcome: Outcome,
}

/// Judges the cells of a run. A call that failed fails every gate of its load.
pub(crate) fn judge(profile: Profile, cells: &[Cell], fdatasync_p50_ms: f64) -> Vec<Verdict> {
    GATES.iter().map(|gate| verdict(gate, profile, cells, fdatasync_p50_ms)).collect()
}

fn verdict(gate: &Gate, profile: Profile, cells: &[Cell], disk: f64) -> Verdict {
    let of_path = |path| cells.iter().filter(move |cell| cell.load == gate.load && cell.path == path);
    let middle = |read: Read, path| median(of_path(path).map(read));
    let (measured, used) = match gate.figure {
        Figure::Of(read) => (middle(read, paths::MESH), [paths::MESH, paths::MESH]),
        Figure::Added(read, path, base) => {
            (middle(read, path).zip(middle(read, base)).map(|(with, without)| with - without), [path, base])
        }
    };
    let looked_at = || used.into_iter().flat_map(of_path);
    let foreign_cores = looked_at().map(|cell| cell.foreign_cores).fold(0.0, f64::max);
    let errors = looked_at().any(|cell| cell.errors > 0);
    let limit = match profile {
        Profile::Up => gate.up,
        Profile::Cluster => gate.cluster,
    } + if gate.plus_disk { disk } else { 0.0 };
    let kept = |value: f64| match gate.good {
        Good::AtLeast => value >= limit,
        Good::AtMost => value <= limit,
    };
    let outcome = match measured {
        None => Outcome::NotMeasured,
        Some(_) if errors => Outcome::Failed,
        Some(_) if gate.needs_quiet && foreign_cores > QUIET_CORES => Outcome::NotMeasured,
        Some(value) if kept(value) => Outcome::Passed,
        Some(_) => Outcome::Failed,
    };
    let sign = if gate.good == Good::AtLeast { ">=" } else { "<=" };
    Verdict { load: gate.load, what: gate.what, unit: gate.unit, sign, limit, measured, foreign_cores, outcome }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Times;

    fn cell(load: &'static str, path: &'static str, p50: f64) -> Cell {
        let latency_ms = Times { p50, ..Times::default() };
        Cell { load, path, calls: 1000, rate: 7000.0, cpu_seconds: 0.2, latency_ms, ..Cell::default() }
    }

    fn outcome(cells: &[Cell], load: &str, what: &str) -> Outcome {
        let verdicts = judge(Profile::Up, cells, 0.5);
        verdicts.iter().find(|v| v.load == load && v.what == what).unwrap().outcome
    }

    #[test]
    fn medians_over_the_rounds_are_judged() {
        let rate = |rate| Cell { rate, ..cell(loads::MAX, paths::MESH, 1.0) };
        let of = |rates: [f64; 3]| outcome(&rates.map(rate), loads::MAX, "throughput");
        assert_eq!(of([100.0, 6000.0, 9000.0]), Outcome::Passed);
        assert_eq!(of([5000.0, 5999.0, 9000.0]), Outcome::Failed);
    }

    #[test]
    fn the_disk_is_given_to_what_is_durable() {
        let added = |mesh| {
            let cells = [cell(loads::RATE, paths::DIRECT, 0.2), cell(loads::RATE, paths::MESH, mesh)];
            outcome(&cells, loads::RATE, "added p50")
        };
        assert_eq!(added(2.1), Outcome::Passed);
        assert_eq!(added(2.3), Outcome::Failed);
    }

    #[test]
    fn a_noisy_box_proves_nothing_but_lost_tokens() {
        let noisy = |load| Cell { foreign_cores: 0.5, lost_tokens: 1, ..cell(load, paths::MESH, 1.0) };
        assert_eq!(outcome(&[noisy(loads::MAX)], loads::MAX, "throughput"), Outcome::NotMeasured);
        assert_eq!(outcome(&[noisy(loads::STREAMS_500)], loads::STREAMS_500, "tokens lost"), Outcome::Failed);
    }

    #[test]
    fn a_failed_call_fails_the_gates_of_its_load_only() {
        let failed = Cell { errors: 1, ..cell(loads::MAX, paths::MESH, 1.0) };
        let cells = [failed, cell(loads::STREAMS_500, paths::MESH, 1.0)];
        assert_eq!(outcome(&cells, loads::MAX, "throughput"), Outcome::Failed);
        assert_eq!(outcome(&cells, loads::STREAMS_500, "tokens lost"), Outcome::Passed);
    }

    #[test]
    fn a_path_that_is_not_there_is_not_measured() {
        let cells = [cell(loads::RATE, paths::MESH, 1.0)];
        assert_eq!(outcome(&cells, loads::RATE, "p50 of the door above gRPC"), Outcome::NotMeasured);
    }
}
