//! Whether a call costs more when much is stored: the same loads on the same mesh, once with few sessions and usage rows
//! and once with many.

use std::{error::Error, fmt::Write as _, fs, io, io::Write as _, ops::Range, sync::Arc, time::Duration};

use serde::Serialize;
use tonic::transport::Channel;

use crate::{
    Up,
    drive::Kind,
    fill,
    gate::{Outcome, QUIET_CORES},
    grpc,
    measure::{Cell, Load, Processes, Shape, measure},
    plan::MODEL,
    processes::Process,
    quantile::median,
    report::{line, number},
    target::Target,
    usage::{Group, rest},
};

/// Sessions, and usage rows, at each measurement. What the measured calls leave behind comes on top.
const SIZES: [usize; 2] = [1_000, 100_000];
/// The most that a figure may be of what it was at the smaller size.
const MOST: f64 = 1.25;
/// Rounds of a size; figures are medians over them. One more goes before, unseen: connections and caches are warm then.
const ROUNDS: usize = 7;
/// Calls of a round, evenly over its time.
const CALLS: usize = 400;
const TIME: Duration = Duration::from_secs(1);
/// Sessions of a round: each gets the same few turns at every size.
const POOL: usize = 100;
/// Until what was filled in is where it belongs (checkpoints).
const SETTLED: Duration = Duration::from_secs(5);

/// The loads, by name.
const PLAIN: &str = "unary";
const SESSION: &str = "unary with a session";

/// A measurement at a size.
#[derive(Debug, Clone, Serialize)]
struct Measured {
    size: usize,
    #[serde(flatten)]
    cell: Cell,
}

/// One figure at both sizes.
#[derive(Debug, Serialize)]
struct Comparison {
    load: &'static str,
    what: &'static str,
    unit: &'static str,
    small: f64,
    large: f64,
    ratio: f64,
    /// The most that strangers used in any of its cells, in cores.
    foreign_cores: f64,
    outcome: Outcome,
}

/// A whole run.
#[derive(Debug, Serialize)]
pub(crate) struct Growth {
    sizes: [usize; 2],
    /// How long filling took before each measurement.
    fill_seconds: Vec<f64>,
    most: f64,
    cells: Vec<Measured>,
    comparisons: Vec<Comparison>,
}

/// Starts a simulator and `tutti up`, and measures at both sizes.
///
/// # Errors
/// When something can't be started, filled or written.
pub(crate) async fn run(up: &Up) -> Result<Growth, Box<dyn Error>> {
    let folder = tempfile::Builder::new().prefix("tutti-load-").tempdir()?;
    let (program, simulator) = (fs::canonicalize(&up.tutti)?, fs::canonicalize(&up.simulator)?);
    let simulator = Process::simulator(&simulator, folder.path())?;
    let mesh = Process::tutti_up(&program, folder.path(), simulator.address, MODEL)?;
    let processes = Processes {
        ours: Group::with_descendants([mesh.id()]),
        beside: Group::default(),
        tools: Group::alone([simulator.id(), std::process::id()]),
    };
    let address = format!("http://{}", mesh.address);
    let client = grpc::Client::connect(&address, 8, "").await?;
    let channel = Channel::from_shared(address)?.tcp_nodelay(true).connect().await?;
    let (mut cells, mut fill_seconds, mut stored) = (Vec::new(), Vec::new(), 0);
    for size in SIZES {
        say(&format!("filling to {size} sessions and usage rows"));
        let began = std::time::Instant::now();
        tokio::try_join!(fill::usage_rows(&channel, stored..size), fill::sessions(&channel, stored..size))?;
        fill_seconds.push(began.elapsed().as_secs_f64());
        rest(&processes.ours, SETTLED).await;
        cells.extend(at_size(&client, size, stored..size, &processes).await);
        stored = size;
    }
    let comparisons = compare(&cells);
    Ok(Growth { sizes: SIZES, fill_seconds, most: MOST, cells, comparisons })
}

/// All rounds of a size. The sessions are of those that are `new` at it.
async fn at_size(client: &grpc::Client, size: usize, new: Range<usize>, processes: &Processes) -> Vec<Measured> {
    let shape = Shape::Open { kind: Kind::Unary, count: CALLS, time: TIME };
    let load = |name| Load { name, prompt: "What is a queue? [[words 50]]".into(), tokens: 50, shape };
    let plain = Arc::new(Target::Grpc(client.of_sessions(Vec::new())));
    let mut cells = Vec::new();
    for round in 0..=ROUNDS {
        let sessions = pool(&new, round).map(fill::session).collect();
        let session = Arc::new(Target::Grpc(client.of_sessions(sessions)));
        for (name, target) in [(PLAIN, &plain), (SESSION, &session)] {
            say(&format!("{size}, round {round}: {name}"));
            let cell = measure(&load(name), crate::gate::paths::MESH, round, target, processes).await;
            cells.push(Measured { size, cell });
        }
    }
    cells.retain(|measured| measured.cell.round > 0 || measured.cell.errors > 0);
    cells
}

/// The numbers of a round's sessions: no other round has them, and together they lie evenly over `new`.
fn pool(new: &Range<usize>, round: usize) -> impl Iterator<Item = usize> {
    let stride = new.len() / (POOL * (ROUNDS + 1));
    let first = new.start;
    (0..POOL).map(move |place| first + (place * (ROUNDS + 1) + round) * stride)
}

fn compare(cells: &[Measured]) -> Vec<Comparison> {
    let loads = [PLAIN, SESSION].into_iter();
    loads
        .flat_map(|load| {
            [
                comparison(cells, load, "CPU per 1,000 calls", "s", Cell::cpu_per_1000_calls),
                comparison(cells, load, "p50", "ms", |cell| cell.latency_ms.p50),
            ]
        })
        .collect()
}

fn comparison(
    cells: &[Measured],
    load: &'static str,
    what: &'static str,
    unit: &'static str,
    read: fn(&Cell) -> f64,
) -> Comparison {
    let of_load = || cells.iter().filter(|measured| measured.cell.load == load);
    let middle = |size| median(of_load().filter(|of| of.size == size).map(|of| read(&of.cell))).unwrap_or(f64::NAN);
    let [small, large] = SIZES.map(middle);
    let ratio = large / small;
    let foreign_cores = of_load().map(|of| of.cell.foreign_cores).fold(0.0, f64::max);
    let outcome = if of_load().any(|of| of.cell.errors > 0) {
        Outcome::Failed
    } else if foreign_cores > QUIET_CORES || !ratio.is_finite() {
        Outcome::NotMeasured
    } else if ratio <= MOST {
        Outcome::Passed
    } else {
        Outcome::Failed
    };
    Comparison { load, what, unit, small, large, ratio, foreign_cores, outcome }
}

impl Growth {
    /// Whether a figure that was measured grew.
    pub(crate) fn failed(&self) -> bool {
        self.comparisons.iter().any(|of| of.outcome == Outcome::Failed)
    }

    /// One table in Markdown, and the errors.
    pub(crate) fn tables(&self) -> String {
        let mut out = String::new();
        let [small, large] = self.sizes.map(|size| format!("at {size}"));
        line(&mut out, &["stored: sessions and usage rows", &small, &large, "ratio", ""].map(str::to_owned));
        line(&mut out, &vec!["---".to_owned(); 5]);
        for of in &self.comparisons {
            let outcome = match of.outcome {
                Outcome::Passed => format!("passed (<= {MOST})"),
                Outcome::Failed => format!("**FAILED** (<= {MOST})"),
                Outcome::NotMeasured => format!("not measured: strangers used {} cores", number(of.foreign_cores)),
            };
            let what = format!("{}: {}, {}", of.load, of.what, of.unit);
            line(&mut out, &[what, number(of.small), number(of.large), number(of.ratio), outcome]);
        }
        let filling: Vec<String> = self.fill_seconds.iter().map(|seconds| number(*seconds)).collect();
        let on_top = (ROUNDS + 1) * 2 * CALLS;
        let _ = writeln!(
            out,
            "\nmedian of {ROUNDS} rounds of {CALLS} calls; they add {on_top} usage rows to a size; filled in {} s",
            filling.join(" and ")
        );
        for Measured { size, cell } in self.cells.iter().filter(|of| of.cell.errors > 0) {
            let error = cell.error.as_deref().unwrap_or_default();
            let _ = writeln!(out, "\n{} at {size}, round {}: {} errors: {error}", cell.load, cell.round, cell.errors);
        }
        out
    }
}

/// Whoever watches may as well close the terminal.
fn say(what: &str) {
    let _ = writeln!(io::stderr(), "{what}");
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::measure::Times;

    fn cells(of_small: [f64; 3], of_large: [f64; 3], foreign_cores: f64) -> Vec<Measured> {
        let cell = |cost| Cell {
            load: PLAIN,
            calls: 1000,
            cpu_seconds: cost,
            latency_ms: Times { p50: cost, ..Times::default() },
            foreign_cores,
            ..Cell::default()
        };
        let at = |size, costs: [f64; 3]| costs.map(|cost| Measured { size, cell: cell(cost) });
        [at(SIZES[0], of_small), at(SIZES[1], of_large)].concat()
    }

    fn outcomes(cells: &[Measured]) -> [Outcome; 4] {
        compare(cells).iter().map(|of| of.outcome).collect::<Vec<_>>().try_into().unwrap()
    }

    #[test]
    fn medians_of_both_sizes_are_compared_and_what_is_missing_is_not_measured() {
        use Outcome::{Failed, NotMeasured, Passed};
        let same = cells([1.0, 1.0, 9.0], [1.2, 1.25, 5.0], 0.0);
        assert_eq!(outcomes(&same), [Passed, Passed, NotMeasured, NotMeasured]);
        let grown = cells([1.0, 1.0, 9.0], [1.2, 1.26, 5.0], 0.0);
        assert_eq!(outcomes(&grown), [Failed, Failed, NotMeasured, NotMeasured]);
    }

    #[test]
    fn noise_neither_passes_nor_fails_and_an_error_fails() {
        let mut cells = cells([1.0; 3], [2.0; 3], 0.31);
        assert_eq!(outcomes(&cells)[..2], [Outcome::NotMeasured; 2]);
        cells[4].cell.errors = 1;
        assert_eq!(outcomes(&cells)[..2], [Outcome::Failed; 2]);
    }

    #[test]
    fn the_table_shows_both_sizes_the_ratio_and_the_verdict() {
        let cells = cells([1.0; 3], [1.5; 3], 0.0);
        let comparisons = compare(&cells);
        let growth = Growth { sizes: SIZES, fill_seconds: vec![0.5, 20.0], most: MOST, cells, comparisons };
        let text = growth.tables();
        assert!(text.contains("| unary: p50, ms | 1.00 | 1.50 | 1.50 | **FAILED** (<= 1.25) |"), "{text}");
        assert!(text.contains("filled in 0.500 and 20.0 s"), "{text}");
        assert!(growth.failed());
    }

    #[test]
    fn every_round_has_sessions_of_its_own_within_what_is_new() {
        for new in [0..SIZES[0], SIZES[0]..SIZES[1]] {
            let all: Vec<usize> = (0..=ROUNDS).flat_map(|round| pool(&new, round)).collect();
            assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), POOL * (ROUNDS + 1));
            assert!(all.iter().all(|index| new.contains(index)), "{new:?}");
        }
    }
}
