//! Ports that answer as a test tells them, and remember what they were asked.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Instant,
};

use async_trait::async_trait;
use futures::{StreamExt as _, stream, stream::BoxStream};
use tokio_util::sync::{CancellationToken, DropGuard};
use tutti_config::Loader;
use tutti_error::{Error, Reason, Result};
use tutti_layers::CallContext;
use tutti_proto::{
    gateway::v1::{
        BackendStatus, EmbedRequest, EmbedResponse, GenerateRequest, GenerateResponse, Model, ModelCapabilities,
    },
    llm::v1::{Attempt, AttemptOutcome, FinishReason, Message, Role, Tool, ToolCall, Usage},
    memory::v1::{AppendMessagesRequest, BuildContextRequest, TurnState},
    router::v1::ChatRequest,
    sandbox::v1::{ExecuteRequest, ToolInfo, ToolResult},
};
use tutti_types::{Deadline, RequestId, Scope, TurnId};

use super::{
    ask::Ask,
    keyed::{Batch, Call, Ending, Held, NewCall, Owned, Progress},
    outbox::{Events, Outbox},
    rules::Rules,
    run::Run,
    turn::Turn,
};
use crate::{
    Config, Idempotency,
    app::Desk,
    clients::{Gateway, GatewayEvent, Ports, Sessions, ToolEvent, Tools},
    store::{CallStore, Claimed},
};

/// The built-in rules.
pub(crate) fn rules() -> Rules {
    config().rules
}

pub(crate) fn config() -> Config {
    let folder = tempfile::tempdir().unwrap();
    Config::read(&Loader::new().start_dir(folder.path()).load().unwrap().reader())
}

/// One generation as the gateway plays it.
pub(crate) enum Play {
    /// These events.
    Events(Vec<Result<GatewayEvent>>),
    /// These events, then nothing until it is dropped.
    Stalls(Vec<Result<GatewayEvent>>),
    /// A refusal at once.
    Fails(Error),
}

#[derive(Default)]
pub(crate) struct Fake {
    pub(crate) plays: Mutex<VecDeque<Play>>,
    pub(crate) generated: Mutex<Vec<GenerateRequest>>,
    /// Attempts of lost tries below, in each generation.
    pub(crate) loses: u32,
    /// Cancelled when a stalled generation was dropped.
    pub(crate) dropped: CancellationToken,
    pub(crate) history: Mutex<Vec<Message>>,
    pub(crate) built: Mutex<Vec<BuildContextRequest>>,
    pub(crate) appended: Mutex<Vec<AppendMessagesRequest>>,
    /// Appends of this state fail so often.
    pub(crate) append_fails: Mutex<Option<(TurnState, u32)>>,
    /// The append of this index is written and never answered.
    pub(crate) append_hangs: Mutex<Option<u32>>,
    pub(crate) executed: Mutex<Vec<ExecuteRequest>>,
    /// So many sandboxes go away while a tool runs.
    pub(crate) sandboxes_gone: AtomicU32,
    /// Tools wait for each other here, so that only parallel runs end.
    pub(crate) together: Option<tokio::sync::Barrier>,
}

impl Fake {
    pub(crate) fn playing(plays: Vec<Play>) -> Self {
        Self { plays: Mutex::new(plays.into()), ..Self::default() }
    }

    pub(crate) fn desk(self) -> (Arc<Desk>, Arc<Self>) {
        let fake = Arc::new(self);
        let ports = Ports { gateway: fake.clone(), sessions: fake.clone(), tools: fake.clone() };
        (Arc::new(Desk::new(&config(), ports, Arc::new(NoStore))), fake)
    }

    /// A desk of a replica with this store.
    pub(crate) fn desk_with(self: &Arc<Self>, store: Arc<dyn CallStore>, idempotency: Idempotency) -> Arc<Desk> {
        let ports = Ports { gateway: self.clone(), sessions: self.clone(), tools: self.clone() };
        Arc::new(Desk::new(&Config { idempotency, ..config() }, ports, store))
    }

    pub(crate) fn states(&self) -> Vec<(u32, TurnState, usize)> {
        self.appended.lock().unwrap().iter().map(|a| (a.index, a.state(), a.messages.len())).collect()
    }
}

#[async_trait]
impl Gateway for Fake {
    async fn generate(
        &self,
        context: &CallContext,
        generate: GenerateRequest,
        _: bool,
    ) -> Result<BoxStream<'static, Result<GatewayEvent>>> {
        assert_eq!(context.attempts.left(), generate.limits.map(|limits| limits.max_attempts));
        let is_capped = generate.limits.is_some_and(|limits| limits.max_cost_nano_usd > 0);
        assert_eq!(context.attempts.repeats_lost(), !is_capped);
        context.attempts.spend(self.loses);
        self.generated.lock().unwrap().push(generate);
        match self.plays.lock().unwrap().pop_front().expect("no play is left") {
            Play::Events(events) => Ok(stream::iter(events).boxed()),
            Play::Stalls(events) => {
                let guard: DropGuard = self.dropped.clone().drop_guard();
                let stalled = stream::once(async move {
                    let _held = guard;
                    std::future::pending::<Result<GatewayEvent>>().await
                });
                Ok(stream::iter(events).chain(stalled).boxed())
            }
            Play::Fails(error) => Err(error),
        }
    }

    async fn embed(&self, _: &CallContext, _: EmbedRequest) -> Result<EmbedResponse> {
        unreachable!("no turn embeds")
    }

    async fn backends(&self, _: &CallContext, _: bool) -> Result<Vec<BackendStatus>> {
        Ok(["claude", "openai", "gemini"].map(backend).to_vec())
    }

    async fn watch(&self, _: &CallContext) -> Result<BoxStream<'static, Result<Vec<BackendStatus>>>> {
        Ok(stream::pending().boxed())
    }

    async fn models(&self, _: &CallContext, _: &str) -> Result<Vec<Model>> {
        Ok(vec![Model { id: "gpt-4o".into(), provider: "openai".into(), ..Default::default() }])
    }
}

#[async_trait]
impl Sessions for Fake {
    async fn context(&self, _: &CallContext, build: BuildContextRequest) -> Result<Vec<Message>> {
        self.built.lock().unwrap().push(build);
        Ok(self.history.lock().unwrap().clone())
    }

    async fn append(&self, _: &CallContext, append: AppendMessagesRequest) -> Result<()> {
        if let Some((state, left)) = &mut *self.append_fails.lock().unwrap()
            && *state == append.state()
            && *left > 0
        {
            *left -= 1;
            return Err(Error::new(Reason::StoreUnavailable, "the store is away"));
        }
        let hangs = *self.append_hangs.lock().unwrap() == Some(append.index);
        self.appended.lock().unwrap().push(append);
        if hangs {
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}

#[async_trait]
impl Tools for Fake {
    async fn list(&self, _: &CallContext) -> Result<Vec<ToolInfo>> {
        let tool = |name: &str| Some(Tool { name: name.into(), ..Default::default() });
        let info = |name: &str| ToolInfo { tool: tool(name), enabled: true, ..Default::default() };
        Ok(vec![info("read"), info("write"), info("big")])
    }

    async fn execute(&self, _: &CallContext, execute: ExecuteRequest) -> Result<BoxStream<'static, Result<ToolEvent>>> {
        let call = execute.tool_call.clone().unwrap();
        self.executed.lock().unwrap().push(execute);
        let gone = |left: u32| left.checked_sub(1);
        if self.sandboxes_gone.fetch_update(Ordering::SeqCst, Ordering::SeqCst, gone).is_ok() {
            let error = Error::new(Reason::ServiceUnavailable, "the sandbox service can't be reached; try again");
            return Ok(stream::iter([Err(error)]).boxed());
        }
        if let Some(barrier) = &self.together {
            barrier.wait().await;
        }
        let mut result =
            ToolResult { tool_call_id: call.id.clone(), name: call.name.clone(), success: true, ..Default::default() };
        match call.name.as_str() {
            "write" => {
                result.success = false;
                result.error = "needs approval".into();
                result.set_reason(Reason::ApprovalRequired);
            }
            "big" => result.output = "x".repeat(1 << 20),
            _ => result.output = format!("content for {}", call.id),
        }
        Ok(stream::iter([Ok(ToolEvent::Result(result))]).boxed())
    }
}

/// For turns without an idempotency key: they don't touch the store.
#[derive(Debug)]
struct NoStore;

#[async_trait]
impl CallStore for NoStore {
    async fn claim(&self, _: &Scope, _: &NewCall, _: i64) -> Result<Claimed> {
        unreachable!("no key")
    }
    async fn find(&self, _: &Scope, _: RequestId) -> Result<Option<Call>> {
        unreachable!("no key")
    }
    async fn look(&self, _: &Scope, _: TurnId, _: bool) -> Result<Option<Call>> {
        unreachable!("no key")
    }
    async fn events(&self, _: &Scope, _: TurnId, _: u64) -> Result<Vec<Batch>> {
        unreachable!("no key")
    }
    async fn last(&self, _: &Scope, _: TurnId) -> Result<Option<Batch>> {
        unreachable!("no key")
    }
    async fn write(&self, _: &Held, _: &Progress, _: Option<&Ending>) -> Result<bool> {
        unreachable!("no key")
    }
    async fn take_over(&self, _: &Scope, _: TurnId, _: i64) -> Result<Option<(Held, Call)>> {
        unreachable!("no key")
    }
    async fn cancel(&self, _: &Scope, _: RequestId) -> Result<bool> {
        unreachable!("no key")
    }
    async fn owned(&self) -> Result<Vec<Owned>> {
        unreachable!("no key")
    }
    async fn purge(&self, _: i64) -> Result<u64> {
        unreachable!("no key")
    }
    async fn close(&self) {}
}

pub(crate) fn backend(name: &str) -> BackendStatus {
    let capabilities = ModelCapabilities { tools: true, streaming: true, ..Default::default() };
    BackendStatus {
        name: name.into(),
        provider: name.into(),
        model: format!("{name}-model"),
        usable: true,
        context_window: 100_000,
        max_output_tokens: 4096,
        capabilities: Some(capabilities),
        ..Default::default()
    }
}

/// A good answer: each text a delta, then `done`.
pub(crate) fn answer(texts: &[&str]) -> Play {
    let deltas = texts.iter().map(|text| Ok(GatewayEvent::Delta((*text).into())));
    Play::Events(deltas.chain([Ok(GatewayEvent::Done(done(&texts.concat(), &[])))]).collect())
}

/// An answer that calls tools: `(id, name)`.
pub(crate) fn calling(calls: &[(&str, &str)]) -> Play {
    let done = done("", calls);
    let called = done.message.iter().flat_map(|m| m.tool_calls.clone()).map(|call| Ok(GatewayEvent::ToolCall(call)));
    let mut events: Vec<_> = called.collect();
    events.push(Ok(GatewayEvent::Done(done)));
    Play::Events(events)
}

/// A refusal with its attempt, which cost 5.
pub(crate) fn failing(backend: &str, reason: Reason) -> Error {
    let message = format!("{backend} is down");
    let mut attempt = Attempt { backend: backend.into(), message, usage: Some(used(5)), ..Default::default() };
    attempt.set_outcome(AttemptOutcome::Failed);
    attempt.set_reason(reason);
    Error::new(reason, format!("{backend} is down")).attempts(vec![attempt])
}

pub(crate) fn used(cost: i64) -> Usage {
    Usage { input_tokens: 10, output_tokens: 2, cost_nano_usd: cost, ..Default::default() }
}

/// An attempt that is about to be sent.
pub(crate) fn sent(attempt_id: &str, usage: Usage) -> Attempt {
    Attempt { attempt_id: attempt_id.into(), backend: "claude".into(), usage: Some(usage), ..Default::default() }
}

/// A `done` that cost 100.
pub(crate) fn done(text: &str, calls: &[(&str, &str)]) -> GenerateResponse {
    let call = |(id, name): &(&str, &str)| ToolCall {
        id: (*id).into(),
        name: (*name).into(),
        arguments_json: "{}".into(),
        ..Default::default()
    };
    let message = Message {
        role: Role::Assistant.into(),
        text: text.into(),
        tool_calls: calls.iter().map(call).collect(),
        ..Default::default()
    };
    let mut attempt = Attempt { usage: Some(used(100)), ..Default::default() };
    attempt.set_outcome(AttemptOutcome::Ok);
    let finish = if calls.is_empty() { FinishReason::Stop } else { FinishReason::ToolCalls };
    GenerateResponse {
        message: Some(message),
        finish_reason: finish.into(),
        usage: Some(used(100)),
        backend: "b".into(),
        model: "m".into(),
        attempts: vec![attempt],
        ..Default::default()
    }
}

pub(crate) fn chat(text: &str) -> ChatRequest {
    let message = Message { role: Role::User.into(), text: text.into(), ..Default::default() };
    ChatRequest { messages: vec![message], ..Default::default() }
}

pub(crate) fn context(seconds: u64) -> CallContext {
    let deadline = Deadline::after(std::time::Duration::from_secs(seconds));
    CallContext::new(Scope::default(), deadline)
}

/// A streamed turn and its events.
pub(crate) async fn turn(desk: &Desk, chat: ChatRequest) -> (Turn, Events) {
    let (outbox, events) = Outbox::new();
    let ask = Ask::read(chat, "chat.", true).unwrap();
    (desk.turn(&context(30), Instant::now(), ask, (outbox, Run::default())).await.unwrap(), events)
}
