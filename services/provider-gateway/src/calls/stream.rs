//! A streamed generation, pulled by its reader: each poll reads what upstream has, so a slow reader slows the provider
//! down, and a reader that goes away closes the provider's stream at once. No task, no unbounded buffer.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{FutureExt as _, Stream, stream};
use reqwest::Response;
use tutti_error::{Error, Reason, Result};
use tutti_proto::{
    gateway::v1::{GenerateStreamResponse, generate_stream_response::Event as WireEvent},
    llm::v1::{Attempt, FinishReason},
};
use tutti_providers::{Event, StreamDecoder};
use tutti_types::{TokenCounts, llm::Completion};

use super::{answer, tries::Tries};
use crate::{
    app::Gateway,
    attempt::Attempt as Open,
    driver::{Clock, MAX_BODY_BYTES, Wait, next_piece},
    error::Failure,
    plan::{Expectation, Plan},
};

/// Pieces of text are merged up to this size when the reader is slower than the provider.
const MERGED_BYTES: usize = 64 * 1024;
/// Other events that are read ahead at most.
const READ_AHEAD: usize = 64;
/// The most output, so that the last event, which has all of it, stays below the mesh's bound.
const MAX_OUTPUT_BYTES: usize = MAX_BODY_BYTES - 4 * 1024 * 1024;
/// A stream of which that much came without an event is writing the arguments of a tool call, which are an event only
/// when they are whole: it has begun. Preambles and keep-alives are smaller.
const BEGUN_BYTES: usize = 2048;

/// So much output comes before our own count of the usage is told again: some 64 tokens.
const ESTIMATED_BYTES: usize = 256;

/// A generation that streams.
#[derive(Debug)]
pub(crate) struct Generating {
    gateway: Arc<Gateway>,
    plan: Arc<Plan>,
    expectation: Expectation,
    tries: Tries,
    /// The last of them.
    attempt: Open,
    phase: Phase,
    /// What is read and not yet asked for.
    queue: VecDeque<WireEvent>,
    queued_bytes: usize,
    output_bytes: usize,
    /// Something of the answer is the reader's: nobody else can take over.
    delivered: bool,
    /// How much of the output the reader knows the usage of.
    told_bytes: usize,
    seq: u64,
}

#[derive(Debug)]
enum Phase {
    /// The reader doesn't know of the attempt yet.
    Untold,
    Unsent,
    Reading(Box<Reading>),
    /// It failed before anything was delivered; the next attempt is opened after this time.
    Again(Duration),
    /// The queue is the rest; then the error, or the end.
    Ended(Option<Error>),
}

#[derive(Debug)]
struct Reading {
    response: Response,
    decoder: Box<dyn StreamDecoder>,
    clock: Clock,
    bytes: usize,
}

impl Reading {
    async fn wait(&mut self, has_output: bool) -> Result<Option<Bytes>, Failure> {
        let begun = has_output || self.bytes > BEGUN_BYTES;
        let wait = if begun { Wait::Next } else { Wait::FirstToken };
        self.clock.wait(wait, next_piece(&mut self.response)).await?
    }
}

impl Generating {
    /// Reserves the cost; the request is sent when the stream is first polled.
    ///
    /// # Errors
    /// The ledger's refusal. Whatever goes wrong later is told by the stream: `done`, then the error.
    pub(crate) async fn open(gateway: &Arc<Gateway>, plan: Plan, expectation: Expectation) -> Result<Self> {
        let plan = Arc::new(plan);
        let tries = Tries::new(Arc::clone(&plan));
        let attempt = tries.open(gateway).await?;
        Ok(Self {
            gateway: Arc::clone(gateway),
            plan,
            expectation,
            tries,
            attempt,
            phase: Phase::Untold,
            queue: VecDeque::new(),
            queued_bytes: 0,
            output_bytes: 0,
            delivered: false,
            told_bytes: 0,
            seq: 0,
        })
    }

    /// The events. Dropping the stream cancels the upstream call and settles what was used.
    pub(crate) fn into_stream(self) -> impl Stream<Item = Result<GenerateStreamResponse>> + Send {
        stream::unfold(self, |mut this| async move { this.next().await.map(|event| (event, this)) })
    }

    async fn next(&mut self) -> Option<Result<GenerateStreamResponse>> {
        loop {
            if let Some(event) = self.queue.pop_front().or_else(|| self.estimate()) {
                self.seq += 1;
                return Some(Ok(GenerateStreamResponse { seq: self.seq, event: Some(event) }));
            }
            self.queued_bytes = 0;
            match std::mem::replace(&mut self.phase, Phase::Ended(None)) {
                Phase::Untold => {
                    self.queue.push_back(WireEvent::Attempt(self.beginning()));
                    self.phase = Phase::Unsent;
                }
                Phase::Unsent => match self.send().await {
                    Ok(reading) => self.phase = Phase::Reading(Box::new(reading)),
                    Err(failure) => self.fail(&answer::nothing(), failure),
                },
                Phase::Reading(reading) => self.read(reading).await,
                Phase::Again(wait) => {
                    tokio::time::sleep(wait).await;
                    self.reopen().await;
                }
                Phase::Ended(error) => return error.map(Err),
            }
        }
    }

    /// The attempt as it begins, with what its input will cost once it is sent.
    fn beginning(&self) -> Attempt {
        let plan = &self.plan;
        let tokens = TokenCounts { fresh_input: plan.input_estimate, ..TokenCounts::default() };
        let prices = plan.backend.prices(&plan.model, tokens.input());
        Attempt {
            attempt_id: self.attempt.id.to_string(),
            backend: plan.backend.config.name.clone(),
            provider: plan.target.provider.clone(),
            model: plan.target.model.clone(),
            usage: Some(tokens.usage(prices.cost(&tokens), true)),
            ..Default::default()
        }
    }

    /// Our own count of the usage now and then, while the provider tells none.
    fn estimate(&mut self) -> Option<WireEvent> {
        let is_due = self.output_bytes - self.told_bytes >= ESTIMATED_BYTES;
        if !is_due || !matches!(self.phase, Phase::Reading(_)) {
            return None;
        }
        self.told_bytes = self.output_bytes;
        let usage = self.attempt.usage();
        usage.estimated.then_some(WireEvent::Usage(usage))
    }

    async fn reopen(&mut self) {
        match self.tries.open(&self.gateway).await {
            Ok(attempt) => {
                self.attempt = attempt;
                self.phase = Phase::Untold;
            }
            Err(error) => self.end(&answer::nothing(), error),
        }
    }

    async fn send(&mut self) -> Result<Reading, Failure> {
        let plan = Arc::clone(&self.plan);
        let upstream = plan.backend.upstream().map_err(|error| Failure::unreached(error.reason(), error.message()))?;
        let on_wire = self.attempt.sending();
        let clock = Clock::start(&plan.backend.config.timeouts, plan.context.deadline);
        let http = plan.http.clone();
        let response =
            upstream.send(http, self.attempt.id, self.attempt.key(), on_wire, &clock, Wait::FirstToken).await?;
        Ok(Reading { response, decoder: upstream.adapter().stream(&plan.target), clock, bytes: 0 })
    }

    /// Takes the next piece; for a reader that is behind, whatever else is there too.
    async fn read(&mut self, mut reading: Box<Reading>) {
        // What is ready needs no waiting, so only this bounds a provider that is never behind.
        if let Err(failure) = reading.clock.check() {
            return self.fail(&reading.decoder.partial(), failure);
        }
        let ready = next_piece(&mut reading.response).now_or_never();
        let is_behind = ready.is_some();
        let mut piece = match ready {
            Some(piece) => piece,
            None => reading.wait(self.output_bytes > 0).await,
        };
        loop {
            let taken = match piece {
                Ok(Some(bytes)) => self.take(&mut reading, &bytes),
                Ok(None) => return self.finish(reading.decoder),
                Err(failure) => Err(failure),
            };
            if let Err(failure) = taken {
                return self.fail(&reading.decoder.partial(), failure);
            }
            if !is_behind || self.queued_bytes >= MERGED_BYTES || self.queue.len() >= READ_AHEAD {
                break;
            }
            match also_there(&mut reading.response).await {
                Some(next) => piece = next,
                None => break,
            }
        }
        self.phase = Phase::Reading(reading);
    }

    fn take(&mut self, reading: &mut Reading, bytes: &[u8]) -> Result<(), Failure> {
        reading.bytes = reading.bytes.saturating_add(bytes.len());
        let mut events = Vec::new();
        let fed = reading.decoder.feed(bytes, &mut events);
        self.push_all(events);
        fed.map_err(Failure::of_answer)?;
        if self.output_bytes > MAX_OUTPUT_BYTES {
            return Err(Failure::new(Reason::MalformedOutput, "the answer is larger than the mesh takes"));
        }
        Ok(())
    }

    fn push_all(&mut self, events: Vec<Event>) {
        for event in events {
            self.push(event);
        }
    }

    fn push(&mut self, event: Event) {
        match event {
            Event::Text(text) => {
                self.output(&text);
                match self.queue.back_mut() {
                    Some(WireEvent::Delta(last)) if last.len() + text.len() <= MERGED_BYTES => last.push_str(&text),
                    _ => self.queue.push_back(WireEvent::Delta(text)),
                }
            }
            Event::Reasoning(text) => {
                self.output(&text);
                match self.queue.back_mut() {
                    Some(WireEvent::Reasoning(last)) if last.len() + text.len() <= MERGED_BYTES => last.push_str(&text),
                    _ => self.queue.push_back(WireEvent::Reasoning(text)),
                }
            }
            Event::ToolCall(call) => {
                self.output(&call.arguments);
                self.queue.push_back(WireEvent::ToolCall(call.into()));
            }
            Event::Usage(tokens) => {
                self.attempt.told(Some(tokens));
                let usage = WireEvent::Usage(self.attempt.usage());
                match self.queue.back_mut() {
                    Some(last @ WireEvent::Usage(_)) => *last = usage,
                    _ => self.queue.push_back(usage),
                }
            }
        }
    }

    fn output(&mut self, text: &str) {
        self.delivered = true;
        self.attempt.received(text);
        self.queued_bytes += text.len();
        self.output_bytes += text.len();
    }

    /// The body has ended: as it should, or cut.
    fn finish(&mut self, mut decoder: Box<dyn StreamDecoder>) {
        let mut events = Vec::new();
        let finished = decoder.finish(&mut events);
        self.push_all(events);
        match finished {
            Ok(completion) => match self.expectation.checks.check(&completion) {
                Ok(()) => self.succeed(&completion),
                Err(why) => self.fail(&completion, Failure::of_form(why)),
            },
            Err(error) => self.fail(&decoder.partial(), Failure::of_answer(error)),
        }
    }

    fn succeed(&mut self, completion: &Completion) {
        self.attempt.answered(completion);
        let finish = completion.finish.into();
        let closed = self.attempt.close_ok(finish);
        let attempts = self.tries.ended().iter().cloned().chain([closed]).collect();
        self.push_done(completion, finish, attempts);
        self.phase = Phase::Ended(None);
    }

    fn fail(&mut self, partial: &Completion, failure: Failure) {
        self.attempt.answered(partial);
        if self.delivered {
            let error = self.tries.broken(&mut self.attempt, failure);
            return self.end(partial, error);
        }
        match self.tries.failed(&mut self.attempt, failure) {
            Ok(wait) => {
                self.queue.extend(self.tries.ended().last().cloned().map(WireEvent::Attempt));
                self.phase = Phase::Again(wait);
            }
            Err(error) => self.end(partial, error),
        }
    }

    fn end(&mut self, partial: &Completion, error: Error) {
        self.push_done(partial, FinishReason::Error, self.tries.ended().to_vec());
        self.phase = Phase::Ended(Some(error));
    }

    fn push_done(&mut self, completion: &Completion, finish: FinishReason, attempts: Vec<Attempt>) {
        let first_token = self.attempt.time_to_first_token();
        let done = answer::response(&self.plan, completion, finish, attempts, first_token);
        self.queue.push_back(WireEvent::Done(done));
    }
}

/// The next piece if it came already. The connection hands pieces over one by one from a task of its own, which gets a
/// turn for it.
async fn also_there(response: &mut Response) -> Option<Result<Option<Bytes>, Failure>> {
    if let Some(piece) = next_piece(response).now_or_never() {
        return Some(piece);
    }
    tokio::task::yield_now().await;
    next_piece(response).now_or_never()
}
