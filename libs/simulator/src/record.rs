//! What the simulator saw: one entry a request, exact counters, and waiting for both.
//!
//! An entry's figures are atomics written by the one stream that owns it, so sending a
//! token takes no lock; the ring of entries is locked once a request.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::Notify;

use crate::format::{Endpoint, Format};

/// How far a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestState {
    /// Not answered to the end yet.
    InProgress,
    /// Answered to the end (real refusals such as a 400 included).
    Finished,
    /// The client went away before the end.
    Disconnected,
    /// Ended by a scripted fault.
    Faulted,
}

/// One request as the simulator saw it.
#[derive(Clone, Debug, Serialize)]
pub struct RequestRecord {
    /// Number of the request since the start, from 1; a reset does not restart it.
    pub seq: u64,
    /// Number of the connection it came on, from 1.
    pub connection: u64,
    /// The attempt id from `x-client-request-id`.
    pub attempt: Option<String>,
    /// Method and path.
    pub target: String,
    /// The wire format, once known.
    pub format: Option<Format>,
    /// What it asks for, once known.
    pub endpoint: Option<Endpoint>,
    /// The model named in it.
    pub model: Option<String>,
    /// Whether a stream was asked for.
    pub stream: bool,
    /// HTTP status answered; 0 while none was.
    pub status: u16,
    /// How far it is.
    pub state: RequestState,
    /// Tokens of the prompt, when it was accepted.
    pub input_tokens: u64,
    /// Tokens the whole answer has.
    pub output_tokens: u64,
    /// Tokens of the answer really handed to the connection.
    pub output_tokens_sent: u64,
    /// Chunks of content handed to the connection.
    pub chunks_sent: u64,
    /// Bytes of the body handed to the connection.
    pub bytes_sent: u64,
    /// The scripted fault in effect, e.g. `status=429`.
    pub fault: Option<String>,
    /// When it came, milliseconds since the Unix epoch.
    pub started_ms: u64,
    /// Microseconds from its head to the first chunk of content, if one was sent.
    pub first_chunk_us: Option<u64>,
    /// Microseconds from its head to its end, if it ended.
    pub ended_us: Option<u64>,
    /// When it ended, microseconds since the Unix epoch (to compare with other processes).
    pub ended_at_us: Option<u64>,
    /// Its body, if bodies are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

/// Counters since the start or the last reset; exact, whatever the ring forgot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Requests seen (those to `/sim/*` are not counted).
    pub requests: u64,
    /// Requests not ended yet.
    pub in_progress: u64,
    /// Requests answered to the end.
    pub finished: u64,
    /// Requests whose client went away.
    pub disconnected: u64,
    /// Requests ended by a scripted fault.
    pub faulted: u64,
    /// Ended requests by wire format.
    pub by_format: BTreeMap<Format, u64>,
    /// Ended requests by HTTP status; 0 stands for "no head was sent".
    pub by_status: BTreeMap<u16, u64>,
    /// Prompt tokens of ended, accepted requests.
    pub input_tokens: u64,
    /// Generated tokens handed to connections by ended requests.
    pub output_tokens_sent: u64,
    /// Connections accepted.
    pub connections: u64,
    /// Connections open now.
    pub connections_open: u64,
}

/// What is known once the body is read.
#[derive(Debug)]
pub(crate) struct Details {
    /// The wire format.
    pub(crate) format: Format,
    /// What is asked for.
    pub(crate) endpoint: Endpoint,
    /// The model.
    pub(crate) model: Option<String>,
    /// Whether a stream is asked for.
    pub(crate) stream: bool,
    /// The fault in effect.
    pub(crate) fault: Option<String>,
}

/// One request, from its head to its end.
#[derive(Debug)]
pub(crate) struct Entry {
    seq: u64,
    connection: u64,
    attempt: Option<String>,
    target: String,
    started: Instant,
    started_at: SystemTime,
    details: OnceLock<Details>,
    body: OnceLock<Bytes>,
    state: AtomicU8,
    status: AtomicU16,
    input: AtomicU64,
    output: AtomicU64,
    tokens_sent: AtomicU64,
    chunks_sent: AtomicU64,
    bytes_sent: AtomicU64,
    first_chunk_us: AtomicU64,
    ended_us: AtomicU64,
}

const IN_PROGRESS: u8 = 0;
const FINISHED: u8 = 1;
const DISCONNECTED: u8 = 2;
const FAULTED: u8 = 3;

fn micros(from: Instant) -> u64 {
    // 0 means "not yet", so the earliest figure is 1.
    u64::try_from(from.elapsed().as_micros()).unwrap_or(u64::MAX).max(1)
}

fn some(figure: u64) -> Option<u64> {
    (figure > 0).then_some(figure)
}

impl Entry {
    fn state(&self) -> RequestState {
        match self.state.load(Ordering::Acquire) {
            IN_PROGRESS => RequestState::InProgress,
            FINISHED => RequestState::Finished,
            DISCONNECTED => RequestState::Disconnected,
            _ => RequestState::Faulted,
        }
    }

    fn record(&self) -> RequestRecord {
        let state = self.state();
        let details = self.details.get();
        let epoch = self.started_at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let ended_us = some(self.ended_us.load(Ordering::Relaxed));
        let epoch_us = u64::try_from(epoch.as_micros()).unwrap_or(u64::MAX);
        RequestRecord {
            seq: self.seq,
            connection: self.connection,
            attempt: self.attempt.clone(),
            target: self.target.clone(),
            format: details.map(|details| details.format),
            endpoint: details.map(|details| details.endpoint),
            model: details.and_then(|details| details.model.clone()),
            stream: details.is_some_and(|details| details.stream),
            status: self.status.load(Ordering::Relaxed),
            state,
            input_tokens: self.input.load(Ordering::Relaxed),
            output_tokens: self.output.load(Ordering::Relaxed),
            output_tokens_sent: self.tokens_sent.load(Ordering::Relaxed),
            chunks_sent: self.chunks_sent.load(Ordering::Relaxed),
            bytes_sent: self.bytes_sent.load(Ordering::Relaxed),
            fault: details.and_then(|details| details.fault.clone()),
            started_ms: epoch_us / 1000,
            first_chunk_us: some(self.first_chunk_us.load(Ordering::Relaxed)),
            ended_us,
            ended_at_us: ended_us.map(|ended| epoch_us.saturating_add(ended)),
            body: self.body.get().map(|body| String::from_utf8_lossy(body).into_owned()),
        }
    }
}

/// Remembers requests and counts them.
#[derive(Debug)]
pub(crate) struct Recorder {
    remember: usize,
    keep_bodies: bool,
    seq: AtomicU64,
    connections: AtomicU64,
    open: AtomicU64,
    ring: Mutex<Ring>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Ring {
    entries: VecDeque<Arc<Entry>>,
    totals: Stats,
    /// Sequence number at the last reset: requests begun before it are not counted.
    since: u64,
    connections_before: u64,
}

impl Recorder {
    pub(crate) fn new(remember: usize, keep_bodies: bool) -> Self {
        Self {
            remember,
            keep_bodies,
            seq: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            open: AtomicU64::new(0),
            ring: Mutex::new(Ring::default()),
            changed: Notify::new(),
        }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a connection until the guard is dropped; its number is `guard.number`.
    pub(crate) fn connection(self: &Arc<Self>) -> ConnectionGuard {
        let number = self.connections.fetch_add(1, Ordering::Relaxed) + 1;
        self.open.fetch_add(1, Ordering::Relaxed);
        self.changed.notify_waiters();
        ConnectionGuard { recorder: Arc::clone(self), number }
    }

    /// Begins a request.
    pub(crate) fn begin(self: &Arc<Self>, connection: u64, attempt: Option<String>, target: String) -> RequestGuard {
        let entry = Arc::new(Entry {
            seq: self.seq.fetch_add(1, Ordering::Relaxed) + 1,
            connection,
            attempt,
            target,
            started: Instant::now(),
            started_at: SystemTime::now(),
            details: OnceLock::new(),
            body: OnceLock::new(),
            state: AtomicU8::new(IN_PROGRESS),
            status: AtomicU16::new(0),
            input: AtomicU64::new(0),
            output: AtomicU64::new(0),
            tokens_sent: AtomicU64::new(0),
            chunks_sent: AtomicU64::new(0),
            bytes_sent: AtomicU64::new(0),
            first_chunk_us: AtomicU64::new(0),
            ended_us: AtomicU64::new(0),
        });
        let mut ring = self.ring();
        if ring.entries.len() >= self.remember {
            ring.entries.pop_front();
        }
        ring.entries.push_back(Arc::clone(&entry));
        ring.totals.requests += 1;
        ring.totals.in_progress += 1;
        drop(ring);
        self.changed.notify_waiters();
        RequestGuard { recorder: Arc::clone(self), entry }
    }

    /// The remembered requests, oldest first.
    pub(crate) fn records(&self) -> Vec<RequestRecord> {
        let entries: Vec<Arc<Entry>> = self.ring().entries.iter().cloned().collect();
        entries.iter().map(|entry| entry.record()).collect()
    }

    /// The newest request with this attempt id.
    pub(crate) fn record(&self, attempt: &str) -> Option<RequestRecord> {
        let found = self.ring().entries.iter().rev().find(|entry| entry.attempt.as_deref() == Some(attempt)).cloned();
        found.map(|entry| entry.record())
    }

    pub(crate) fn stats(&self) -> Stats {
        let ring = self.ring();
        let connections = self.connections.load(Ordering::Relaxed);
        Stats {
            connections: connections - ring.connections_before,
            connections_open: self.open.load(Ordering::Relaxed),
            ..ring.totals.clone()
        }
    }

    /// Forgets all requests and counts; requests still in progress are counted nowhere.
    pub(crate) fn reset(&self) {
        let mut ring = self.ring();
        *ring = Ring {
            since: self.seq.load(Ordering::Relaxed),
            connections_before: self.connections.load(Ordering::Relaxed),
            ..Ring::default()
        };
        drop(ring);
        self.changed.notify_waiters();
    }

    /// Completes when a request or connection begins or ends after the call.
    pub(crate) fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.changed.notified()
    }

    fn end(&self, entry: &Entry, state: u8) {
        let ended = micros(entry.started);
        let was = entry.state.compare_exchange(IN_PROGRESS, state, Ordering::AcqRel, Ordering::Acquire);
        if was.is_err() {
            return;
        }
        entry.ended_us.store(ended, Ordering::Relaxed);
        let mut ring = self.ring();
        if entry.seq > ring.since {
            let totals = &mut ring.totals;
            totals.in_progress = totals.in_progress.saturating_sub(1);
            match state {
                FINISHED => totals.finished += 1,
                DISCONNECTED => totals.disconnected += 1,
                _ => totals.faulted += 1,
            }
            *totals.by_status.entry(entry.status.load(Ordering::Relaxed)).or_default() += 1;
            if let Some(details) = entry.details.get() {
                *totals.by_format.entry(details.format).or_default() += 1;
            }
            totals.input_tokens += entry.input.load(Ordering::Relaxed);
            totals.output_tokens_sent += entry.tokens_sent.load(Ordering::Relaxed);
        }
        drop(ring);
        self.changed.notify_waiters();
    }
}

/// Counts a connection as open until dropped.
#[derive(Debug)]
pub(crate) struct ConnectionGuard {
    recorder: Arc<Recorder>,
    /// The connection's number.
    pub(crate) number: u64,
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.recorder.open.fetch_sub(1, Ordering::Relaxed);
        self.recorder.changed.notify_waiters();
    }
}

/// Owns a request's entry. Dropped before [`finish`](Self::finish) or
/// [`fault`](Self::fault), it records that the client went away.
#[derive(Debug)]
pub(crate) struct RequestGuard {
    recorder: Arc<Recorder>,
    entry: Arc<Entry>,
}

impl RequestGuard {
    pub(crate) fn seq(&self) -> u64 {
        self.entry.seq
    }

    pub(crate) fn details(&self, details: Details) {
        // Set once a request; a second set would be a bug without consequence.
        let _ = self.entry.details.set(details);
    }

    pub(crate) fn body(&self, body: &Bytes) {
        if self.recorder.keep_bodies {
            // The body is read once.
            let _ = self.entry.body.set(body.clone());
        }
    }

    pub(crate) fn status(&self, status: u16) {
        self.entry.status.store(status, Ordering::Relaxed);
    }

    /// The figures of an accepted request: tokens of the prompt and of the whole answer.
    pub(crate) fn tokens(&self, input: u64, output: u64) {
        self.entry.input.store(input, Ordering::Relaxed);
        self.entry.output.store(output, Ordering::Relaxed);
    }

    /// Bytes handed to the connection, with the tokens and chunks of content in them.
    pub(crate) fn sent(&self, bytes: usize, tokens: u64, chunks: u64) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.entry.bytes_sent.fetch_add(bytes, Ordering::Relaxed);
        if chunks == 0 {
            return;
        }
        if self.entry.chunks_sent.fetch_add(chunks, Ordering::Relaxed) == 0 {
            self.entry.first_chunk_us.store(micros(self.entry.started), Ordering::Relaxed);
        }
        self.entry.tokens_sent.fetch_add(tokens, Ordering::Relaxed);
    }

    pub(crate) fn finish(&self) {
        self.recorder.end(&self.entry, FINISHED);
    }

    pub(crate) fn fault(&self) {
        self.recorder.end(&self.entry, FAULTED);
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.recorder.end(&self.entry, DISCONNECTED);
    }
}
