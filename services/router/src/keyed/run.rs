//! The run of a call by its owner: a turn whose events are recorded, and then shown.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use tutti_error::{Error, Reason, Result};
use tutti_layers::CallContext;
use tutti_proto::{
    llm::v1::Attempt,
    router::v1::{ChatStreamResponse, Rewind, chat_stream_response::Event},
};
use tutti_types::Deadline;

use super::follow::{Follow, Owner};
use crate::{
    app::Desk,
    domain::{
        ask::Ask,
        keyed::{Batch, Call, Ending, Held, Progress, attempts, encode_attempts, frees},
        outbox::Outbox,
        run::{Journal, Lost, Run},
        streamed::Streamed,
    },
    store::CallStore,
};

/// At most so often events are written: what comes in between is one batch, and pieces of text one event.
const PACE: Duration = Duration::from_millis(25);
/// Text that is written at once, in bytes; a single event may be larger.
const MAX_BATCH: usize = 64 * 1024;
/// Output of running tools is not recorded any more once a call has so many bytes of it: their results have it.
const MAX_TOOL_OUTPUT: usize = 16 * 1024 * 1024;
/// Pause before events are written again that the store did not take.
const PAUSE: Duration = Duration::from_millis(250);

/// What is to be run.
pub(super) struct Job {
    pub(super) follow: Arc<Follow>,
    pub(super) held: Held,
    pub(super) ask: Ask,
    /// Of the request that made the call, or took it over.
    pub(super) context: CallContext,
    pub(super) arrived: Instant,
    /// The call as an owner left it that died.
    pub(super) before: Option<Call>,
}

impl Desk {
    /// Runs a call to its end, and records it.
    pub(super) async fn run(self: &Arc<Self>, job: Job) {
        let follow = job.follow.clone();
        let deadline = Deadline::after(self.keyed.settings.max_run);
        match self.begin_run(job, deadline).await {
            Ok((mut recorder, streamed)) => recorder.record(streamed).await,
            Err(error) => follow.finish(Err(error)),
        }
        if follow.has_ended() {
            self.keyed.forget(&follow);
            // What could not be written is still the own in the store.
            self.keyed.suspects.store(true, Ordering::Relaxed);
        } else {
            // Another replica has taken it over.
            follow.owned_by(Owner::Elsewhere);
            self.watch(follow);
        }
    }

    /// The turn of a run, and what records it.
    async fn begin_run(&self, job: Job, deadline: Deadline) -> Result<(Recorder, Option<Streamed>)> {
        let Job { follow, held, ask, context, arrived, before } = job;
        // Whoever takes a call over runs it under its first name.
        let ask = Ask { id: follow.request_id, ..ask };
        let (recorded, has_output) = before.as_ref().map_or((0, false), |call| (call.recorded, call.output));
        follow.skip_to(recorded);
        let (run, notes) = Notes::of(self.keyed.store.clone(), &held, before.as_ref())?;
        follow.begin(held.fencing, run.lost.clone());
        let (outbox, events) = Outbox::after(recorded);
        let mut recorder = Recorder { follow, notes, deadline, bytes: 0, unwritten: Vec::new() };
        if has_output {
            let rewind = Rewind { to_seq: 0, reason: Reason::ServiceUnavailable.into() };
            outbox.push(Event::Rewind(rewind)).await;
        }
        // Readers have deadlines of their own: while there are any, the call goes on.
        let context = CallContext { deadline, ..context };
        match self.turn(&context, arrived, ask, (outbox, run)).await {
            Ok(turn) => Ok((recorder, Some(Streamed::start(turn, events)))),
            // Nothing was done: whatever it was, it may be otherwise next time.
            Err(error) => {
                recorder.close(Ending::Released(error.encode()), Err(error)).await;
                Ok((recorder, None))
            }
        }
    }
}

/// Writes the events of a run, then shows them.
struct Recorder {
    follow: Arc<Follow>,
    notes: Arc<Notes>,
    deadline: Deadline,
    /// Output of tools that was recorded.
    bytes: usize,
    /// Events that were taken from the turn.
    unwritten: Vec<ChatStreamResponse>,
}

impl Recorder {
    /// Records a turn to its end, or until the call is another one's.
    async fn record(&mut self, streamed: Option<Streamed>) {
        let Some(mut streamed) = streamed else { return };
        loop {
            let ended = self.collect(&mut streamed).await;
            let began = Instant::now();
            match ended {
                Some(end) => {
                    let ending = self.ending(&end);
                    return self.close(ending, end).await;
                }
                None => {
                    if !self.write(None).await {
                        return;
                    }
                }
            }
            // More is coming meanwhile.
            tokio::time::sleep(PACE.saturating_sub(began.elapsed())).await;
        }
    }

    /// Takes what the turn has to say: at least one event, or its end.
    async fn collect(&mut self, streamed: &mut Streamed) -> Option<Result<()>> {
        let mut size = 0;
        loop {
            let next = if self.unwritten.is_empty() { Some(streamed.next().await) } else { streamed.try_next() };
            match next {
                None => return None,
                Some(None) => return Some(Ok(())),
                Some(Some(Err(error))) => return Some(Err(error)),
                Some(Some(Ok((seq, event)))) => {
                    let is_last = matches!(event, Event::Done(_));
                    size += self.add(seq, event);
                    if is_last {
                        // How it ended follows at once.
                        return match streamed.next().await {
                            Some(Err(error)) => Some(Err(error)),
                            _ => Some(Ok(())),
                        };
                    }
                    if size >= MAX_BATCH {
                        return None;
                    }
                }
            }
        }
    }

    /// Adds an event to those that are written next; its size.
    fn add(&mut self, seq: u64, mut event: Event) -> usize {
        use prost::Message as _;
        if let Event::ToolOutput(output) = &mut event {
            self.bytes += output.text.len();
            if self.bytes > MAX_TOOL_OUTPUT {
                // The event stays, so that numbers have no gaps.
                output.text.clear();
            }
        }
        let event = ChatStreamResponse { request_id: self.follow.request_id.to_string(), seq, event: Some(event) };
        let size = event.encoded_len();
        self.unwritten.push(event);
        size
    }

    fn ending(&self, end: &Result<()>) -> Ending {
        match end {
            Ok(()) => Ending::Answered,
            Err(error) if frees(error.reason()) || self.follow.is_deserted() => Ending::Released(error.encode()),
            Err(error) => Ending::Failed(error.encode()),
        }
    }

    /// Writes the last events and how the call ended, and tells its readers.
    async fn close(&mut self, ending: Ending, end: Result<()>) {
        // As those are told who come later.
        let end = end.map_err(|error| Error::decode(&error.encode()).unwrap_or(error));
        if self.write(Some(&ending)).await {
            self.follow.finish(end);
        }
    }

    /// Writes what there is, again and again while the store is away, and shows it; `false` when the call is another
    /// one's now, or its time is over.
    async fn write(&mut self, ending: Option<&Ending>) -> bool {
        let events = std::mem::take(&mut self.unwritten);
        let progress = Progress {
            batch: Batch::of(&events),
            output: events.iter().any(|event| event.event.as_ref().is_some_and(is_output)),
            ..self.notes.progress()
        };
        loop {
            match self.notes.store.write(&self.notes.held, &progress, ending).await {
                Ok(true) => {
                    self.follow.push(events);
                    return true;
                }
                Ok(false) => {
                    self.notes.lost.set();
                    return false;
                }
                Err(error) if self.deadline.is_past() => {
                    self.follow.finish(Err(error));
                    return false;
                }
                Err(error) => tracing::warn!(%error, "events of a call can't be recorded yet"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Whether a reader who has seen it must be told when it is void.
fn is_output(event: &Event) -> bool {
    !matches!(event, Event::Route(_) | Event::Usage(_) | Event::Warning(_) | Event::Rewind(_) | Event::Done(_))
}

/// What is noted of a call besides its events.
struct Notes {
    store: Arc<dyn CallStore>,
    held: Held,
    lost: Lost,
    noted: Mutex<Noted>,
}

struct Noted {
    /// Attempts that may have been sent, by all runs.
    attempts: u32,
    /// Those that are known of.
    sent: Vec<Attempt>,
    /// Attempts of the generation that runs.
    of_generation: u32,
}

impl Notes {
    /// The notes of a run, and what its turn is told.
    fn of(store: Arc<dyn CallStore>, held: &Held, before: Option<&Call>) -> Result<(Run, Arc<Self>)> {
        let earlier = before.map_or(Ok(Vec::new()), |call| attempts(&call.sent))?;
        // The store has counted the first one of this run already.
        let counted = before.map_or(1, |call| call.attempts);
        let noted = Mutex::new(Noted { attempts: counted, sent: earlier.clone(), of_generation: 0 });
        let lost = Lost::default();
        let number = u32::try_from(held.fencing.saturating_sub(1)).unwrap_or(u32::MAX);
        let notes = Arc::new(Self { store, held: held.clone(), lost: lost.clone(), noted });
        let journal = Some(notes.clone() as Arc<dyn Journal>);
        Ok((Run { id: notes.held.id, number, earlier, spent: counted - 1, journal, lost }, notes))
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        // Nothing in here panics half-way.
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn progress(&self) -> Progress {
        let noted = self.noted();
        let attempts = noted.attempts + noted.of_generation.saturating_sub(1);
        Progress { attempts, sent: encode_attempts(&noted.sent), ..Progress::default() }
    }
}

#[async_trait]
impl Journal for Notes {
    async fn generating(&self, attempts: u32) -> Result<()> {
        let is_noted = {
            let mut noted = self.noted();
            noted.of_generation = 0;
            let before = noted.attempts;
            noted.attempts = before.max(attempts);
            before >= attempts
        };
        if is_noted { Ok(()) } else { self.check().await }
    }

    async fn check(&self) -> Result<()> {
        if self.store.write(&self.held, &self.progress(), None).await? {
            return Ok(());
        }
        self.lost.set();
        Err(Error::new(Reason::ServiceUnavailable, "another router has taken the call over; ask again"))
    }

    fn sending(&self, attempt: &Attempt) {
        let mut noted = self.noted();
        if let Some(known) = noted.sent.iter_mut().find(|known| known.attempt_id == attempt.attempt_id) {
            *known = attempt.clone();
        } else {
            noted.of_generation += 1;
            noted.sent.push(attempt.clone());
        }
    }
}
