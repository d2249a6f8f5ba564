//! The turn of a conversation: one state machine, readable top to bottom.
//!
//! ```text
//! run ── converse ── show the context ── check results ── begin the log
//!          │
//!          ├─► generate ── attempt on the current backend ──► answer
//!          │      ▲            │ failed before its first token, or after it and the caller has said what to do then
//!          │      └── the next backend of the plan, while the bounds allow
//!          │
//!          ├── calls of mesh tools only: run them, append the round, generate again
//!          └── anything else: append the answer, end
//! ```
//!
//! Dropping the turn drops what it waits for (the gateway's stream, running tools); its log closes itself.

mod asking;
mod recovery;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use tutti_error::{Error, Reason, Result};
use tutti_layers::CallContext;
use tutti_proto::{
    gateway::v1::{GenerateRequest, GenerateResponse},
    llm::v1::{Attempt, FinishReason, Message, Role, ToolCall},
    memory::v1::BuildContextRequest,
    router::v1::{ChatResponse, RouteChosen, Warning, chat_stream_response::Event},
};
use tutti_server::Tasks;
use tutti_types::{Deadline, time};

use recovery::{Broken, Delivered};

use super::{
    ask::Ask,
    needs,
    outbox::Outbox,
    plan::Plan,
    prompt, room,
    route::Taken,
    run::{Journal, Run},
    running::Place,
    session::TurnLog,
    tally::Tally,
    tools::{self, Round, Runner},
};
use crate::clients::{GatewayEvent, Ports};

/// The turn ends a little before its caller's time, so that it can say what it was doing.
const MARGIN: Duration = Duration::from_millis(50);

/// One turn, planned.
pub(crate) struct Turn {
    ask: Ask,
    plan: Plan,
    ports: Ports,
    context: CallContext,
    outbox: Outbox,
    log: TurnLog,
    /// Given back after the log was closed.
    place: Place,
    /// Which run of its call it is, from 0.
    run: u32,
    /// With an idempotency key, where it is noted what is going to be paid.
    journal: Option<Arc<dyn Journal>>,
    tally: Tally,
    /// The backend in use: an index of the plan's.
    at: usize,
    /// What the backend in use is shown before the new messages; `None` until it was asked for.
    shown: Option<Vec<Message>>,
    /// Whether the caller has seen a `route` event.
    routed: bool,
    /// What the generation that broke had said, as the gateway tells it.
    broken: Option<Message>,
    /// Whether a generation is running.
    generating: bool,
    /// When the first of the failed backends may be tried again.
    retry_after: Option<Duration>,
    /// Number of the last event before the generation that runs.
    mark: u64,
    /// What backends that broke have said of this answer, when the next one goes on from there.
    stands: String,
    /// Whether the backend in use was asked once more because its answer had the wrong form.
    regenerated: bool,
}

impl Turn {
    /// A turn that arrived at `arrived`.
    ///
    /// # Errors
    /// When no backend can take it.
    pub(crate) fn new(
        ask: Ask,
        plan: Plan,
        ports: Ports,
        (context, arrived): (&CallContext, Instant),
        (outbox, place, tasks): (Outbox, Place, Tasks),
        run: Run,
    ) -> Result<Self> {
        plan.decision.require()?;
        let context = match ask.bounds.timeout {
            Some(timeout) => context.no_later_than(Deadline::after(timeout)),
            None => context.clone(),
        };
        let log = TurnLog::new(ports.sessions.clone(), tasks, (&context.scope, &ask.chat.session_id), &run);
        let tally = Tally::new(arrived, &run);
        Ok(Self {
            ask,
            plan,
            ports,
            context,
            outbox,
            place,
            run: run.number,
            journal: run.journal,
            log,
            tally,
            at: 0,
            shown: None,
            routed: false,
            broken: None,
            generating: false,
            retry_after: None,
            mark: 0,
            stands: String::new(),
            regenerated: false,
        })
    }

    /// Runs the turn to its end: the answer, or an error that lists the attempts. Events go to the outbox; when a route
    /// was announced, the last one is `done`.
    ///
    /// # Errors
    /// Of the request, of all backends, or of what the turn ran into after its first token.
    pub(crate) async fn run(mut self) -> Result<ChatResponse> {
        let cancelled = self.place.cancelled.clone();
        let left = self.context.deadline.remaining();
        let end = tokio::time::sleep(left - MARGIN.min(left / 20));
        let ended = tokio::select! {
            biased;
            () = cancelled.cancelled() => Err(self.place.why()),
            () = end => Err(Error::new(Reason::DeadlineExceeded, "the deadline passed; ask with a longer one, or for less")),
            ended = self.converse() => ended,
        };
        match ended {
            Ok(response) => {
                let response = room::fit(response);
                self.outbox.push(Event::Done(response.clone())).await;
                Ok(response)
            }
            Err(error) => Err(self.fail(error).await),
        }
    }

    async fn converse(&mut self) -> Result<ChatResponse> {
        let context = self.show_context().await?;
        self.ask.check_results(&context)?;
        // Before anything is done: until its caller has seen this, a turn whose router dies can be begun anew elsewhere.
        self.announce(None).await;
        self.log.begin(&self.context, &self.ask.chat.messages).await?;
        self.shown = Some(context);
        loop {
            let answer = self.generate().await?;
            let calls = answer.message.as_ref().map(|m| m.tool_calls.as_slice()).unwrap_or_default();
            let (of_mesh, of_caller): (Vec<ToolCall>, Vec<ToolCall>) =
                calls.iter().cloned().partition(|call| self.plan.tools.runner(&call.name) == Runner::Mesh);
            if of_mesh.is_empty() {
                return self.complete(answer, Vec::new()).await;
            }
            let results = self.run_tools(&of_mesh).await?;
            if !of_caller.is_empty() {
                return self.complete(answer, results).await;
            }
            let round: Vec<Message> = answer.message.into_iter().chain(results).collect();
            room::check_rounds(&[&self.tally.rounds, &round], self.taken())?;
            self.log.round(&self.context, &round).await?;
            self.tally.rounds.extend(round);
        }
    }

    /// What the backend in use is shown of the session.
    async fn show_context(&self) -> Result<Vec<Message>> {
        let Some(turn_id) = self.log.turn_id().filter(|_| self.ask.chat.include_context.unwrap_or(true)) else {
            return Ok(Vec::new());
        };
        let taken = self.taken();
        let system = prompt::system_message(taken.persona.as_ref(), &[]);
        let fixed = needs::estimate(system.as_slice(), &self.plan.definitions);
        let cap = prompt::sampling(self.ask.chat.sampling.as_ref(), self.plan.decision.max_output_tokens, taken)
            .max_output_tokens
            .unwrap_or_default();
        let build = BuildContextRequest {
            session_id: self.ask.chat.session_id.clone(),
            backend: taken.backend.name.clone(),
            max_tokens: prompt::context_budget(taken, cap, fixed),
            // Also the rounds that the backend before this one has called for.
            new_messages: [&self.ask.chat.messages, &self.tally.rounds].into_iter().flatten().cloned().collect(),
            turn_id: turn_id.to_string(),
            ..Default::default()
        };
        self.ports.sessions.context(&self.context, build).await
    }

    /// One generation: on the backend in use, then on those after it until one answers.
    async fn generate(&mut self) -> Result<GenerateResponse> {
        let mut failed = None;
        self.regenerated = false;
        loop {
            let limits = self.limits()?;
            if self.shown.is_none() {
                self.shown = Some(self.show_context().await?);
            }
            self.announce(failed.take()).await;
            if self.stands.is_empty() {
                self.mark = self.outbox.mark();
            }
            let request = self.request(limits);
            if let Some(journal) = &self.journal {
                journal.generating(self.tally.sent() + 1).await?;
            }
            let began = self.tally.arrived.elapsed();
            self.generating = true;
            let ended = self.attempt(request).await;
            self.generating = false;
            match ended {
                Ok(response) => {
                    self.tally.succeeded(&response, began);
                    self.warn(response.warnings.clone()).await;
                    return Ok(recovery::joined(std::mem::take(&mut self.stands), response));
                }
                Err(broken) => failed = Some(self.fall_back(*broken).await?),
            }
        }
    }

    /// One generation on the backend in use; what comes of it goes to the caller.
    async fn attempt(&mut self, request: GenerateRequest) -> Result<GenerateResponse, Box<Broken>> {
        let broken = |error, done, delivered| Box::new(Broken { error, done, delivered, gone: false });
        let (mut done, mut delivered) = (None::<GenerateResponse>, Delivered::Nothing);
        let cap = Self::cap(request.limits.as_ref());
        let context = self.context.with_attempts(cap.clone());
        let started = self.ports.gateway.generate(&context, request, self.streams()).await;
        self.tally.lost += cap.spent();
        let mut events = started.map_err(|error| broken(error, None, delivered))?;
        while let Some(event) = events.next().await {
            let event = match event {
                Ok(event) => event,
                Err(error) => {
                    let gone = done.is_none() && error.reason() == Reason::ServiceUnavailable;
                    return Err(Box::new(Broken { error, done, delivered, gone }));
                }
            };
            delivered = delivered.max(Delivered::of(&event));
            if delivered > Delivered::Nothing {
                self.tally.output();
            }
            match event {
                GatewayEvent::Delta(text) => {
                    self.log.said(&text);
                    self.outbox.push(Event::Delta(text)).await;
                }
                GatewayEvent::Reasoning(text) => self.outbox.push(Event::Reasoning(text)).await,
                GatewayEvent::ToolCall(call) => self.outbox.push(Event::ToolCall(call)).await,
                GatewayEvent::Usage(usage) => {
                    self.tally.using(usage);
                    self.outbox.push(Event::Usage(self.tally.usage())).await;
                }
                GatewayEvent::Attempt(attempt) => {
                    if let Some(journal) = &self.journal {
                        journal.sending(&attempt);
                    }
                    self.tally.attempting(attempt);
                }
                GatewayEvent::Done(response) => done = Some(response),
            }
        }
        match done {
            Some(response) if response.finish_reason() != FinishReason::Error => {
                if delivered == Delivered::Nothing {
                    self.tell(&response).await;
                }
                Ok(response)
            }
            done => {
                let error = Error::new(Reason::Truncated, "the gateway's answer ended before its end mark");
                Err(broken(error, done, delivered))
            }
        }
    }

    /// Whether the gateway streams: also what is kept of a call that is answered in one piece, because a stream tells of
    /// each attempt before it is made.
    fn streams(&self) -> bool {
        let can = || self.taken().backend.capabilities.as_ref().is_some_and(|can| can.streaming);
        self.ask.streamed || (self.journal.is_some() && can())
    }

    /// Says in one piece what was not streamed: whoever reads a kept turn later may do so as a stream.
    async fn tell(&self, response: &GenerateResponse) {
        let Some(message) = response.message.as_ref().filter(|_| self.journal.is_some()) else { return };
        if !message.text.is_empty() {
            self.outbox.push(Event::Delta(message.text.clone())).await;
        }
        for call in &message.tool_calls {
            self.outbox.push(Event::ToolCall(call.clone())).await;
        }
    }

    /// Runs calls of mesh tools and gives their results as messages.
    async fn run_tools(&mut self, calls: &[ToolCall]) -> Result<Vec<Message>> {
        let max = self.ask.bounds.max_tool_rounds;
        if self.tally.tool_rounds >= max {
            let message =
                format!("the model still wants tools after {max} rounds; allow more with limits.max_tool_rounds");
            return Err(Error::new(Reason::ToolRoundsExceeded, message));
        }
        let round = Round {
            tools: &*self.ports.tools,
            set: &self.plan.tools,
            ask: &self.ask,
            turn: self.log.id(),
            context: &self.context,
            outbox: &self.outbox,
            number: self.tally.tool_rounds,
            run: self.run,
        };
        let results = round.run(calls).await?;
        self.tally.tool_rounds += 1;
        let unapproved = results.iter().filter(|result| result.reason() == Reason::ApprovalRequired);
        let warnings = unapproved.map(|r| format!("the tool {} was not run: nobody approved it", r.name)).collect();
        self.warn(warnings).await;
        let most = room::shown(self.taken());
        let messages = calls.iter().zip(&results).map(|(call, result)| tools::message(call, result, most)).collect();
        room::keep(results, &mut self.tally.tool_results);
        Ok(messages)
    }

    /// Writes the answer, with the results of mesh tools among its calls, and ends.
    async fn complete(&mut self, answer: GenerateResponse, results: Vec<Message>) -> Result<ChatResponse> {
        if let Some(journal) = self.journal.as_ref().filter(|_| !self.ask.chat.session_id.is_empty()) {
            journal.check().await?;
        }
        let mixed = !results.is_empty();
        let messages: Vec<Message> = answer.message.clone().into_iter().chain(results).collect();
        if let Err(error) = self.log.complete(&messages).await {
            self.warn(vec![format!("the session could not be written yet: {error}")]).await;
        }
        if mixed && self.ask.chat.session_id.is_empty() {
            let text = "the answer calls tools of the mesh and of the caller: add tool_results to your own results";
            self.warn(vec![text.into()]).await;
        }
        let finish = if mixed { FinishReason::ToolCalls } else { answer.finish_reason() };
        Ok(ChatResponse {
            message: answer.message,
            backend: answer.backend,
            model: answer.model,
            provider_request_id: answer.provider_request_id,
            cached: answer.cached,
            raw: answer.raw,
            ..self.response(finish)
        })
    }

    /// Ends a turn that failed: the log is closed, and a caller who saw its beginning sees its end.
    async fn fail(&mut self, error: Error) -> Error {
        if std::mem::take(&mut self.generating) {
            self.tally.failed(&self.plan.decision.taken[self.at], &error, None);
        }
        let text = self.log.partial().to_owned();
        let said = || Message { role: Role::Assistant.into(), text, ..Default::default() };
        let partial = self.broken.take().filter(|_| self.stands.is_empty()).unwrap_or_else(said);
        // After the deadline nobody waits.
        self.log.incomplete(error.reason() != Reason::DeadlineExceeded).await;
        if self.routed {
            let cancelled = error.reason() == Reason::Cancelled;
            let taken = self.taken();
            let done = ChatResponse {
                message: Some(partial),
                backend: taken.backend.name.clone(),
                model: taken.asked_model().to_owned(),
                ..self.response(if cancelled { FinishReason::Cancelled } else { FinishReason::Error })
            };
            self.outbox.push(Event::Done(room::fit(done))).await;
        }
        error.attempts(std::mem::take(&mut self.tally.attempts))
    }

    /// What all ends have in common.
    fn response(&self, finish: FinishReason) -> ChatResponse {
        ChatResponse {
            request_id: self.ask.id.to_string(),
            finish_reason: finish.into(),
            usage: Some(self.tally.usage()),
            attempts: self.tally.attempts.clone(),
            tool_results: self.tally.tool_results.clone(),
            latency: Some(time::to_wire(self.tally.arrived.elapsed())),
            time_to_first_token: self.tally.first_output.map(time::to_wire),
            warnings: self.tally.warnings.clone(),
            round_messages: self.tally.rounds.clone(),
            ..Default::default()
        }
    }

    /// Says which backend answers: at the beginning, and when another one takes over.
    async fn announce(&mut self, failed: Option<Attempt>) {
        let taken = &self.plan.decision.taken[self.at];
        self.log.answering(&taken.backend.name, taken.asked_model());
        if self.routed && failed.is_none() {
            return;
        }
        let route = RouteChosen {
            backend: taken.backend.name.clone(),
            model: taken.asked_model().to_owned(),
            task_type: self.plan.decision.task_type.clone(),
            persona: taken.persona.as_ref().map(|p| p.id.clone()).unwrap_or_default(),
            round: self.tally.tool_rounds,
            failed_attempt: failed,
        };
        self.routed = true;
        self.outbox.push(Event::Route(route)).await;
    }

    async fn warn(&mut self, warnings: Vec<String>) {
        for text in warnings {
            // Each round of tools may say the same again.
            if self.tally.warnings.contains(&text) {
                continue;
            }
            self.outbox.push(Event::Warning(Warning { text: text.clone() })).await;
            self.tally.warnings.push(text);
        }
    }

    fn taken(&self) -> &Taken {
        &self.plan.decision.taken[self.at]
    }
}
