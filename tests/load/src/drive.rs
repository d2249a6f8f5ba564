//! Makes calls: as many as go (closed loop), or at times fixed beforehand (open loop), where a server that stalls is
//! seen to stall, because every latency counts from the moment the call was due.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{RecvTimeoutError, Sender, channel},
    },
    time::{Duration, Instant},
};

use tokio::{sync::mpsc::UnboundedSender, task::JoinSet};

use crate::target::{Answer, Failure, Target};

/// One call: when it was due, and what came of it.
#[derive(Debug)]
pub(crate) struct Call {
    /// When it was due; in a closed loop when it began.
    pub(crate) due: Instant,
    /// Its answer.
    pub(crate) answer: Result<Answer, Failure>,
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The whole answer at once.
    Unary,
    /// Piece by piece.
    Stream,
}

async fn call(target: &Target, kind: Kind, slot: usize, prompt: &str, due: Instant) -> Call {
    let answer = match kind {
        Kind::Unary => target.unary(slot, prompt).await,
        Kind::Stream => target.stream(slot, prompt).await,
    };
    Call { due, answer }
}

/// Keeps `connections` unary calls running for `time`.
pub(crate) async fn closed_loop(
    target: &Arc<Target>,
    prompt: &Arc<str>,
    connections: usize,
    time: Duration,
) -> Vec<Call> {
    let until = Instant::now() + time;
    let mut workers = JoinSet::new();
    for slot in 0..connections {
        let (target, prompt) = (Arc::clone(target), Arc::clone(prompt));
        workers.spawn(async move {
            let mut calls = Vec::new();
            while Instant::now() < until {
                calls.push(call(&target, Kind::Unary, slot, &prompt, Instant::now()).await);
            }
            calls
        });
    }
    workers.join_all().await.into_iter().flatten().collect()
}

/// Starts `count` calls, evenly over `time`, whatever becomes of them.
pub(crate) async fn open_loop(
    target: &Arc<Target>,
    prompt: &Arc<str>,
    kind: Kind,
    count: usize,
    time: Duration,
) -> Vec<Call> {
    let mut due = Pacer::start(count, time);
    let mut calls = JoinSet::new();
    let slots = AtomicUsize::new(0);
    while let Some(due) = due.next().await {
        let (target, prompt, slot) = (Arc::clone(target), Arc::clone(prompt), slots.fetch_add(1, Ordering::Relaxed));
        calls.spawn(async move { call(&target, kind, slot, &prompt, due).await });
    }
    calls.join_all().await
}

/// Tells the times at which calls are due from a thread of its own: the runtime's timers are exact to 1 ms only, which
/// is more than a hop costs.
#[derive(Debug)]
struct Pacer {
    ticks: tokio::sync::mpsc::UnboundedReceiver<Instant>,
    /// Dropped with the pacer: the thread ends.
    _running: Sender<()>,
}

impl Pacer {
    fn start(count: usize, time: Duration) -> Self {
        let (sender, ticks) = tokio::sync::mpsc::unbounded_channel();
        let (running, stopped) = channel::<()>();
        let tick = move || {
            let began = Instant::now();
            for index in 0..count {
                // Counts are far below 2^32.
                let due = began + time.mul_f64(index as f64 / count as f64);
                let wait = due.saturating_duration_since(Instant::now());
                if stopped.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) || !told(&sender, due) {
                    return;
                }
            }
        };
        std::thread::spawn(tick);
        Self { ticks, _running: running }
    }

    async fn next(&mut self) -> Option<Instant> {
        self.ticks.recv().await
    }
}

fn told(sender: &UnboundedSender<Instant>, due: Instant) -> bool {
    sender.send(due).is_ok()
}

#[cfg(test)]
mod tests {
    use tutti_simulator::{SimConfig, SimHandle, Simulator};

    use super::*;
    use crate::{http, target::TOKEN};

    async fn simulator() -> (SimHandle, Arc<Target>) {
        let sim = Simulator::start(SimConfig::new()).await.unwrap();
        let target = Arc::new(Target::Http(http::Client::new(sim.addr(), "gpt-4.1")));
        (sim, target)
    }

    #[tokio::test]
    async fn the_open_loop_starts_every_call_and_counts_from_its_due_time() {
        let (_sim, target) = simulator().await;
        let calls = open_loop(&target, &"[[words 5]]".into(), Kind::Unary, 20, Duration::from_millis(100)).await;
        assert_eq!(calls.len(), 20);
        let first = calls.iter().map(|call| call.due).min().unwrap();
        let last = calls.iter().map(|call| call.due).max().unwrap();
        assert_eq!(last - first, Duration::from_millis(95));
        for call in &calls {
            let answer = call.answer.as_ref().unwrap();
            assert!(answer.ended > call.due);
            assert_eq!(answer.text, 5 * TOKEN);
        }
    }

    #[tokio::test]
    async fn the_closed_loop_keeps_going() {
        let (sim, target) = simulator().await;
        let calls = closed_loop(&target, &"[[words 5]]".into(), 2, Duration::from_millis(50)).await;
        assert!(calls.len() > 2, "{}", calls.len());
        assert!(calls.iter().all(|call| call.answer.is_ok()));
        drop(sim);
    }

    #[tokio::test]
    async fn a_stream_has_a_first_token_before_its_end_and_one_cut_short_is_a_failure() {
        let (_sim, target) = simulator().await;
        let slow = "[[words 5]] [[fault chunk_ms=5 chunk_tokens=1]]";
        let whole = open_loop(&target, &slow.into(), Kind::Stream, 1, Duration::ZERO).await;
        let answer = whole[0].answer.as_ref().unwrap();
        assert_eq!(answer.text, 5 * TOKEN);
        assert!(answer.ended - answer.first_token >= Duration::from_millis(15), "{answer:?}");
        let cut = "[[words 5]] [[fault chunk_tokens=1 truncate_after=2]]";
        let cut = open_loop(&target, &cut.into(), Kind::Stream, 1, Duration::ZERO).await;
        assert!(cut[0].answer.is_err(), "{cut:?}");
    }
}
