//! The response body: hands out the answer at the scripted pace, fails where scripted, and
//! records what was really sent. hyper drops it as soon as the client is gone.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use crate::fault::Fault;
use crate::plan::Plan;
use crate::problem::Problem;
use crate::record::RequestGuard;
use crate::socket::Ending;
use crate::stream::{Cursor, Encoder, Event};

/// Long enough for hyper to flush what it has before the connection is cut.
const FLUSH: Duration = Duration::from_millis(2);

/// The scripted end of a body that the client sees as a broken connection.
#[derive(Debug, thiserror::Error)]
#[error("the connection is cut as scripted")]
pub(crate) struct Cut;

/// A body, fixed or streamed. Without a guard (`/sim/*`) nothing is recorded.
pub(crate) struct SimBody {
    source: Source,
    guard: Option<RequestGuard>,
    cut: Option<CutPoint>,
    sleep: Option<Pin<Box<Sleep>>>,
    faulted: bool,
}

struct CutPoint {
    left: u64,
    reset: Option<Ending>,
    flushed: bool,
}

enum Source {
    Fixed { left: Bytes, total: u64, tokens: u64 },
    Stream(Box<Generation>),
    Done,
}

/// What a body does next.
enum Step {
    Send { bytes: Bytes, tokens: u64, chunks: u64 },
    WaitUntil(Instant),
    Stall,
    End,
}

impl SimBody {
    /// A body that nobody records.
    pub(crate) fn plain(bytes: Bytes) -> Self {
        Self::with(Source::fixed(bytes, 0), None)
    }

    /// A complete answer that holds `tokens` generated tokens.
    pub(crate) fn fixed(bytes: Bytes, tokens: u64, guard: RequestGuard) -> Self {
        Self::with(Source::fixed(bytes, tokens), Some(guard))
    }

    /// A streamed answer.
    pub(crate) fn stream(generation: Generation, guard: RequestGuard) -> Self {
        Self::with(Source::Stream(Box::new(generation)), Some(guard))
    }

    fn with(source: Source, guard: Option<RequestGuard>) -> Self {
        Self { source, guard, cut: None, sleep: None, faulted: false }
    }

    /// Applies the parts of `fault` that concern any body.
    pub(crate) fn faulty(mut self, fault: &Fault, ending: &Ending) -> Self {
        self.faulted = fault.is_failure();
        self.cut =
            fault.cut_at.map(|left| CutPoint { left, reset: fault.reset.then(|| ending.clone()), flushed: false });
        self
    }

    fn next_step(&mut self) -> Step {
        match &mut self.source {
            Source::Fixed { left, tokens, .. } if !left.is_empty() => {
                let (bytes, tokens) = (std::mem::take(left), *tokens);
                Step::Send { bytes, tokens, chunks: u64::from(tokens > 0) }
            }
            Source::Stream(generation) => generation.step(),
            Source::Fixed { .. } | Source::Done => Step::End,
        }
    }

    /// Shortens `bytes` to what may be sent before the cut; `None` when nothing may.
    fn before_cut(&mut self, mut bytes: Bytes) -> Option<Bytes> {
        let Some(cut) = &mut self.cut else { return Some(bytes) };
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if cut.left < length {
            bytes.truncate(usize::try_from(cut.left).unwrap_or(usize::MAX));
            self.source = Source::Done;
        }
        cut.left -= cut.left.min(length);
        (!bytes.is_empty()).then_some(bytes)
    }

    /// Cuts the connection, after a moment in which sent bytes reach the socket.
    fn poll_cut(&mut self, cx: &mut Context<'_>) -> Poll<Cut> {
        let Some(cut) = &mut self.cut else { return Poll::Pending };
        if !cut.flushed {
            cut.flushed = true;
            self.sleep = Some(Box::pin(tokio::time::sleep(FLUSH)));
        }
        if let Some(sleep) = &mut self.sleep {
            ready!(sleep.as_mut().poll(cx));
        }
        if let Some(ending) = cut.reset.take() {
            ending.reset();
        }
        self.end();
        Poll::Ready(Cut)
    }

    /// Records the end of the answer.
    fn end(&mut self) {
        self.source = Source::Done;
        if let Some(guard) = self.guard.take() {
            if self.faulted { guard.fault() } else { guard.finish() }
        }
    }

    fn is_complete(&self) -> bool {
        match &self.source {
            Source::Fixed { left, .. } => left.is_empty(),
            Source::Stream(generation) => generation.is_done(),
            Source::Done => true,
        }
    }
}

impl Source {
    fn fixed(bytes: Bytes, tokens: u64) -> Self {
        let total = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Self::Fixed { left: bytes, total, tokens }
    }
}

impl Body for SimBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = &mut *self;
        if this.cut.as_ref().is_some_and(|cut| cut.left == 0) {
            return this.poll_cut(cx).map(|cut| Some(Err(cut)));
        }
        loop {
            if let Some(sleep) = &mut this.sleep {
                ready!(sleep.as_mut().poll(cx));
                this.sleep = None;
            }
            match this.next_step() {
                Step::Send { bytes, tokens, chunks } => {
                    let Some(bytes) = this.before_cut(bytes) else {
                        return this.poll_cut(cx).map(|cut| Some(Err(cut)));
                    };
                    if let Some(guard) = &this.guard {
                        guard.sent(bytes.len(), tokens, chunks);
                    }
                    if this.is_complete() && this.cut.is_none() {
                        this.end();
                    }
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                Step::WaitUntil(due) => {
                    this.sleep = Some(Box::pin(tokio::time::sleep_until(due)));
                }
                // No waker is needed: hyper itself watches for the client's disconnect.
                Step::Stall => return Poll::Pending,
                Step::End => {
                    this.end();
                    return Poll::Ready(None);
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.cut.is_none() && matches!(self.source, Source::Done)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            // The full length, also when the body is going to be cut.
            Source::Fixed { total, .. } => SizeHint::with_exact(*total),
            Source::Stream(_) | Source::Done => SizeHint::default(),
        }
    }
}

/// A streamed answer in the making.
pub(crate) struct Generation {
    cursor: Cursor,
    encoder: Box<dyn Encoder>,
    buffer: Vec<u8>,
    fault: Fault,
    problem: Option<Problem>,
    /// Chunks of content made so far.
    chunks: u64,
    /// Tokens and chunks made but not yet part of any bytes.
    unsent: (u64, u64),
    started: Instant,
    waited: bool,
    broken: bool,
    over: bool,
}

impl Generation {
    /// Plays `plan` through `encoder` under `fault`; `problem` is what `error_after` sends.
    pub(crate) fn new(plan: Arc<Plan>, encoder: Box<dyn Encoder>, fault: &Fault, problem: Option<Problem>) -> Self {
        Self {
            cursor: Cursor::new(plan, fault.chunk_tokens.unwrap_or(1)),
            encoder,
            buffer: Vec::with_capacity(512),
            fault: fault.clone(),
            problem,
            chunks: 0,
            unsent: (0, 0),
            started: Instant::now(),
            waited: false,
            broken: false,
            over: false,
        }
    }

    fn is_done(&self) -> bool {
        self.over || self.cursor.peek().is_none()
    }

    fn step(&mut self) -> Step {
        loop {
            if self.over {
                return Step::End;
            }
            let Some(event) = self.cursor.peek() else { return Step::End };
            let (content, finish) = (event.is_content(), matches!(event, Event::Finish));
            if (content || finish) && !self.waited {
                if let Some(step) = self.scripted(finish) {
                    return step;
                }
                if let Some(due) = self.due(content) {
                    self.waited = true;
                    return Step::WaitUntil(due);
                }
            }
            self.waited = false;
            // Looked at again, because the faults above need the whole generation.
            let Some(event) = self.cursor.peek() else { return Step::End };
            if content {
                self.chunks += 1;
                self.unsent = (self.unsent.0 + event.tokens(), self.unsent.1 + 1);
            }
            self.encoder.encode(event, self.cursor.plan(), &mut self.buffer);
            self.cursor.advance();
            if !self.buffer.is_empty() {
                return self.flush();
            }
        }
    }

    /// The scripted fault that strikes before the next chunk; all strike before the finish.
    fn scripted(&mut self, finish: bool) -> Option<Step> {
        let due = |after: Option<u64>| after.is_some_and(|n| finish || self.chunks >= n);
        if due(self.fault.stall_after) {
            return Some(Step::Stall);
        }
        if due(self.fault.truncate_after) {
            self.over = true;
            return Some(Step::End);
        }
        if due(self.fault.error_after)
            && let Some(problem) = self.problem.take()
        {
            self.encoder.error(&problem, &mut self.buffer);
            self.over = true;
            return Some(self.flush());
        }
        if due(self.fault.malformed_after) && !self.broken {
            self.broken = true;
            self.encoder.malformed(&mut self.buffer);
            return Some(self.flush());
        }
        None
    }

    /// When the next chunk may be sent, unless that is now.
    fn due(&self, content: bool) -> Option<Instant> {
        let ttft = self.fault.ttft_ms.unwrap_or(0);
        let gap = self.fault.chunk_ms.unwrap_or(0);
        // The finish follows the last chunk at once.
        if ttft + gap == 0 || (!content && self.chunks > 0) {
            return None;
        }
        let due = self.started + Duration::from_millis(ttft + gap.saturating_mul(self.chunks));
        (due > Instant::now()).then_some(due)
    }

    fn flush(&mut self) -> Step {
        let bytes = Bytes::copy_from_slice(&self.buffer);
        self.buffer.clear();
        let (tokens, chunks) = std::mem::take(&mut self.unsent);
        Step::Send { bytes, tokens, chunks }
    }
}
