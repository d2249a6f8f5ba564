//! One cell of the table: a load on one path, with what it took.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::{
    drive::{Call, Kind, closed_loop, open_loop},
    quantile::Sorted,
    target::{TOKEN, Target},
    usage::{Group, MemoryWatch, box_seconds, rest},
};

/// What calls leave behind (settlements, logs) is counted too: until the mesh rests, at most so long.
const AFTERMATH: Duration = Duration::from_secs(1);

/// A load that is put on each path.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    /// Its name in the table.
    pub(crate) name: &'static str,
    /// What is asked.
    pub(crate) prompt: Arc<str>,
    /// Tokens of a whole answer.
    pub(crate) tokens: usize,
    /// How calls are made.
    pub(crate) shape: Shape,
}

/// How calls are made.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape {
    /// As many as go, on so many connections, for a time.
    Closed { connections: usize, time: Duration },
    /// So many, evenly over a time.
    Open { kind: Kind, count: usize, time: Duration },
}

/// The processes around a measurement.
#[derive(Debug, Clone)]
pub(crate) struct Processes {
    /// Of the mesh: what is judged.
    pub(crate) ours: Group,
    /// Databases and caches of the mesh: shown beside.
    pub(crate) beside: Group,
    /// The simulator and this generator.
    pub(crate) tools: Group,
}

/// Quantiles in ms.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Times {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

/// What was measured.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Cell {
    pub(crate) load: &'static str,
    pub(crate) path: &'static str,
    pub(crate) round: usize,
    pub(crate) calls: usize,
    pub(crate) errors: usize,
    /// The first error in words.
    pub(crate) error: Option<String>,
    /// From the first call's start to the last answer.
    pub(crate) seconds: f64,
    /// Answers in a second.
    pub(crate) rate: f64,
    /// From when a call was due to its end, in ms.
    pub(crate) latency_ms: Times,
    /// From when a call was due to its first piece of text, in ms.
    pub(crate) first_token_ms: Times,
    /// Tokens that arrived.
    pub(crate) tokens: usize,
    /// Tokens that did not.
    pub(crate) lost_tokens: usize,
    /// Processor time of the mesh, in seconds.
    pub(crate) cpu_seconds: f64,
    /// The same of its databases and caches.
    pub(crate) beside_cpu_seconds: f64,
    /// The same of the simulator and the generator.
    pub(crate) tools_cpu_seconds: f64,
    /// Highest resident memory of the mesh, in MiB.
    pub(crate) peak_rss_mib: f64,
    /// The same of its databases and caches at the end.
    pub(crate) beside_rss_mib: f64,
    /// Cores that strangers used meanwhile.
    pub(crate) foreign_cores: f64,
}

impl Cell {
    /// Processor seconds of the mesh for 1,000 calls.
    pub(crate) fn cpu_per_1000_calls(&self) -> f64 {
        per_thousand(self.cpu_seconds, self.calls)
    }

    /// Processor milliseconds of the mesh for 1,000 tokens.
    pub(crate) fn cpu_ms_per_1000_tokens(&self) -> f64 {
        per_thousand(self.cpu_seconds * 1000.0, self.tokens)
    }
}

fn per_thousand(amount: f64, count: usize) -> f64 {
    if count == 0 { 0.0 } else { amount * 1000.0 / count as f64 }
}

/// Processor time at one moment.
struct Clock {
    at: Instant,
    ours: f64,
    beside: f64,
    tools: f64,
    whole: f64,
}

impl Clock {
    fn read(processes: &Processes) -> Self {
        Self {
            at: Instant::now(),
            ours: processes.ours.cpu_seconds(),
            beside: processes.beside.cpu_seconds(),
            tools: processes.tools.cpu_seconds(),
            whole: box_seconds(),
        }
    }
}

/// Puts the load on the target and measures.
pub(crate) async fn measure(
    load: &Load,
    path: &'static str,
    round: usize,
    target: &Arc<Target>,
    processes: &Processes,
) -> Cell {
    let memory = MemoryWatch::start(processes.ours.clone());
    let before = Clock::read(processes);
    let calls = match load.shape {
        Shape::Closed { connections, time } => closed_loop(target, &load.prompt, connections, time).await,
        Shape::Open { kind, count, time } => open_loop(target, &load.prompt, kind, count, time).await,
    };
    let seconds = before.at.elapsed().as_secs_f64();
    rest(&processes.ours, AFTERMATH).await;
    let after = Clock::read(processes);
    let spent = |of: fn(&Clock) -> f64| (of(&after) - of(&before)).max(0.0);
    let (ours, beside, tools) = (spent(|c| c.ours), spent(|c| c.beside), spent(|c| c.tools));
    let window = (after.at - before.at).as_secs_f64();
    let answered = Cell { load: load.name, path, round, ..tally(&calls, load.tokens) };
    Cell {
        seconds,
        rate: (answered.calls - answered.errors) as f64 / seconds,
        cpu_seconds: ours,
        beside_cpu_seconds: beside,
        tools_cpu_seconds: tools,
        peak_rss_mib: memory.peak_mib(),
        beside_rss_mib: processes.beside.resident_mib(),
        foreign_cores: (spent(|c| c.whole) - ours - beside - tools).max(0.0) / window,
        ..answered
    }
}

/// What the callers saw.
fn tally(calls: &[Call], tokens: usize) -> Cell {
    let answers = || calls.iter().filter_map(|call| Some((call.due, call.answer.as_ref().ok()?)));
    let failed = calls.iter().filter_map(|call| call.answer.as_ref().err());
    let arrived: usize = answers().map(|(_, answer)| answer.text / TOKEN).sum();
    Cell {
        calls: calls.len(),
        errors: failed.clone().count(),
        error: failed.map(ToString::to_string).next(),
        latency_ms: times(answers().map(|(due, answer)| answer.ended.saturating_duration_since(due))),
        first_token_ms: times(answers().map(|(due, answer)| answer.first_token.saturating_duration_since(due))),
        tokens: arrived,
        lost_tokens: (calls.len() * tokens).saturating_sub(arrived),
        ..Cell::default()
    }
}

fn times(values: impl Iterator<Item = Duration>) -> Times {
    let sorted = Sorted::new(values.map(|value| value.as_secs_f64() * 1000.0).collect());
    let at = |share| sorted.quantile(share).unwrap_or_default();
    Times { p50: at(0.5), p90: at(0.9), p99: at(0.99), max: at(1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::{Answer, Failure};

    #[test]
    fn a_failed_call_loses_its_tokens_and_has_no_latency() {
        let due = Instant::now();
        let ms = Duration::from_millis;
        let answer = Answer { first_token: due + ms(2), ended: due + ms(9), text: 3 * TOKEN };
        let calls = [
            Call { due, answer: Ok(answer) },
            Call { due, answer: Err(Failure::Refused("no".to_owned())) },
            Call { due, answer: Ok(Answer { text: TOKEN, ..answer }) },
        ];
        let cell = tally(&calls, 3);
        assert_eq!((cell.calls, cell.errors, cell.tokens, cell.lost_tokens), (3, 1, 4, 5));
        assert_eq!((cell.first_token_ms.p50, cell.latency_ms.max), (2.0, 9.0));
        assert_eq!(cell.error.as_deref(), Some("refused: no"));
    }

    #[test]
    fn costs_are_per_thousand() {
        let cell = Cell { calls: 500, tokens: 20_000, cpu_seconds: 0.1, ..Cell::default() };
        assert!((cell.cpu_per_1000_calls() - 0.2).abs() < 1e-9);
        assert!((cell.cpu_ms_per_1000_tokens() - 5.0).abs() < 1e-9);
        assert_eq!(Cell::default().cpu_per_1000_calls(), 0.0);
    }
}
