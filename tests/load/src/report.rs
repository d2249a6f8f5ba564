//! What a run says: tables for people, JSON for programs.

use std::fmt::Write as _;

use serde::Serialize;

use crate::{
    gate::{Outcome, Profile, QUIET_CORES, Verdict, paths},
    measure::Cell,
    quantile::median,
};

/// A whole run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) profile: Profile,
    /// Cores of the box, which mesh, simulator and generator share.
    pub(crate) cores: usize,
    pub(crate) rounds: usize,
    /// Median of a small durable write to the mesh's disk, in ms.
    pub(crate) fdatasync_p50_ms: f64,
    pub(crate) cells: Vec<Cell>,
    pub(crate) verdicts: Vec<Verdict>,
}

type Column = (&'static str, fn(&Cell) -> String);

const COLUMNS: &[Column] = &[
    ("per s", |cell| number(cell.rate)),
    ("p50 ms", |cell| number(cell.latency_ms.p50)),
    ("p99 ms", |cell| number(cell.latency_ms.p99)),
    ("first token p50", |cell| number(cell.first_token_ms.p50)),
    ("p99", |cell| number(cell.first_token_ms.p99)),
    ("CPU s / 1,000 calls", |cell| ours(cell, number(cell.cpu_per_1000_calls()))),
    ("CPU ms / 1,000 tokens", |cell| ours(cell, number(cell.cpu_ms_per_1000_tokens()))),
    ("RSS MiB", |cell| ours(cell, number(cell.peak_rss_mib))),
    ("beside: CPU s, MiB", |cell| {
        ours(cell, format!("{}, {}", number(cell.beside_cpu_seconds), number(cell.beside_rss_mib)))
    }),
    ("lost tokens", |cell| cell.lost_tokens.to_string()),
    ("errors", |cell| cell.errors.to_string()),
    ("foreign cores", |cell| number(cell.foreign_cores)),
];

impl Report {
    /// Whether a gate that was measured is broken.
    pub(crate) fn failed(&self) -> bool {
        self.verdicts.iter().any(|verdict| verdict.outcome == Outcome::Failed)
    }

    /// Two tables in Markdown: what was measured (medians over the rounds; errors, lost tokens and strangers' load the
    /// worst of them), and the gates.
    pub(crate) fn tables(&self) -> String {
        let mut out = String::new();
        let heads: Vec<&str> = COLUMNS.iter().map(|(head, _)| *head).collect();
        line(&mut out, &["load", "path"].into_iter().chain(heads).map(str::to_owned).collect::<Vec<_>>());
        line(&mut out, &vec!["---".to_owned(); COLUMNS.len() + 2]);
        for cell in self.summary() {
            let figures = COLUMNS.iter().map(|(_, show)| show(&cell));
            let names = [cell.load.to_owned(), cell.path.to_owned()];
            line(&mut out, &names.into_iter().chain(figures).collect::<Vec<_>>());
        }
        let _ = writeln!(
            out,
            "\n{} cores; median of {} rounds; fdatasync p50 {} ms\n",
            self.cores,
            self.rounds,
            number(self.fdatasync_p50_ms)
        );
        line(&mut out, &["gate", "limit", "measured", ""].map(str::to_owned));
        line(&mut out, &vec!["---".to_owned(); 4]);
        self.verdicts.iter().for_each(|verdict| line(&mut out, &gate(verdict)));
        for cell in self.cells.iter().filter(|cell| cell.errors > 0) {
            let error = cell.error.as_deref().unwrap_or_default();
            let _ =
                writeln!(out, "\n{} ({}), round {}: {} errors: {error}", cell.load, cell.path, cell.round, cell.errors);
        }
        out
    }

    /// One cell for each load and path, in the order of their first measurement.
    fn summary(&self) -> Vec<Cell> {
        let mut keys: Vec<(&str, &str)> = Vec::new();
        for cell in &self.cells {
            if !keys.contains(&(cell.load, cell.path)) {
                keys.push((cell.load, cell.path));
            }
        }
        keys.into_iter()
            .map(|(load, path)| {
                let of: Vec<&Cell> = self.cells.iter().filter(|c| (c.load, c.path) == (load, path)).collect();
                middle(&of)
            })
            .collect()
    }
}

fn middle(cells: &[&Cell]) -> Cell {
    let mid = |read: fn(&Cell) -> f64| median(cells.iter().map(|cell| read(cell))).unwrap_or_default();
    let mut middle = cells.first().map(|cell| (*cell).clone()).unwrap_or_default();
    let scale = middle.calls.max(1) as f64 / 1000.0;
    let per_token = middle.tokens > 0 && middle.load.contains("streams");
    // Costs are medians of the quotients, so that rounds of different size count the same.
    middle.cpu_seconds = if per_token {
        mid(Cell::cpu_ms_per_1000_tokens) * middle.tokens as f64 / 1_000_000.0
    } else {
        mid(Cell::cpu_per_1000_calls) * scale
    };
    middle.rate = mid(|cell| cell.rate);
    middle.latency_ms.p50 = mid(|cell| cell.latency_ms.p50);
    middle.latency_ms.p99 = mid(|cell| cell.latency_ms.p99);
    middle.first_token_ms.p50 = mid(|cell| cell.first_token_ms.p50);
    middle.first_token_ms.p99 = mid(|cell| cell.first_token_ms.p99);
    middle.peak_rss_mib = mid(|cell| cell.peak_rss_mib);
    middle.beside_cpu_seconds = mid(|cell| cell.beside_cpu_seconds);
    middle.lost_tokens = cells.iter().map(|cell| cell.lost_tokens).max().unwrap_or_default();
    middle.errors = cells.iter().map(|cell| cell.errors).max().unwrap_or_default();
    middle.foreign_cores = cells.iter().map(|cell| cell.foreign_cores).fold(0.0, f64::max);
    middle
}

/// What the mesh used is not the direct path's.
fn ours(cell: &Cell, figure: String) -> String {
    if cell.path == paths::DIRECT { "-".to_owned() } else { figure }
}

fn gate(verdict: &Verdict) -> [String; 4] {
    let outcome = match verdict.outcome {
        Outcome::Passed => "passed".to_owned(),
        Outcome::Failed => "**FAILED**".to_owned(),
        Outcome::NotMeasured if verdict.measured.is_none() => "not in this run".to_owned(),
        Outcome::NotMeasured => {
            format!("not measured: strangers used {} cores (> {QUIET_CORES})", number(verdict.foreign_cores))
        }
    };
    let measured = verdict.measured.map_or_else(|| "-".to_owned(), number);
    [
        format!("{}: {}", verdict.load, verdict.what),
        format!("{} {} {}", verdict.sign, number(verdict.limit), verdict.unit),
        measured,
        outcome,
    ]
}

/// A line of a table.
pub(crate) fn line(out: &mut String, fields: &[String]) {
    let _ = writeln!(out, "| {} |", fields.join(" | "));
}

/// Three significant digits are all that such measurements have.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::{judge, loads};

    fn report(foreign: f64) -> Report {
        let cell = |round, rate| Cell {
            load: loads::MAX,
            path: paths::MESH,
            round,
            rate,
            calls: 1000,
            cpu_seconds: 0.1,
            foreign_cores: foreign,
            ..Cell::default()
        };
        let cells = vec![cell(1, 6500.0), cell(2, 7000.0), cell(3, 100.0)];
        let verdicts = judge(Profile::Up, &cells, 1.0);
        Report { profile: Profile::Up, cores: 2, rounds: 3, fdatasync_p50_ms: 1.0, cells, verdicts }
    }

    #[test]
    fn the_tables_show_medians_and_verdicts() {
        let text = report(0.0).tables();
        assert!(text.contains("| unary, 64 connections | mesh | 6500 |"), "{text}");
        assert!(text.contains("| unary, 64 connections: throughput | >= 6000 req/s | 6500 | passed |"), "{text}");
        assert!(!report(0.0).failed());
    }

    #[test]
    fn noise_is_named_and_never_passes() {
        let noisy = report(0.8);
        assert!(noisy.tables().contains("not measured: strangers used 0.800 cores"), "{}", noisy.tables());
        assert!(!noisy.failed());
    }

    #[test]
    fn numbers_have_three_digits() {
        assert_eq!([12345.6, 123.4, 12.34, 1.234, 0.1234].map(number), ["12346", "123", "12.3", "1.23", "0.123"]);
    }
}
