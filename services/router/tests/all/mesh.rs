//! A router whose peers play what the words of the request ask for.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt as _, stream, stream::BoxStream};
use router::{App, Config, Peers};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tutti_client::Channel;
use tutti_config::Loader;
use tutti_error::{Error, Reason};
use tutti_proto::{
    gateway::v1::{
        self as gateway, BackendStatus, GenerateRequest, GenerateResponse, GenerateStreamRequest,
        GenerateStreamResponse, ModelCapabilities,
        gateway_service_server::{GatewayService, GatewayServiceServer},
        generate_stream_response::Event,
    },
    llm::v1::{Attempt, AttemptOutcome, FinishReason, Message, Role, Tool, ToolCall, Usage},
    memory::v1::{
        self as memory,
        session_service_server::{SessionService, SessionServiceServer},
    },
    router::v1::{
        ChatRequest, persona_service_client::PersonaServiceClient, router_service_client::RouterServiceClient,
    },
    sandbox::v1::{
        self as sandbox,
        tool_service_server::{ToolService, ToolServiceServer},
    },
};
use tutti_server::{Readiness, Services};

type Stream<T> = BoxStream<'static, Result<T, Status>>;

/// What the peers saw.
#[derive(Clone, Default)]
pub(crate) struct Seen {
    /// Cancelled when the gateway's stalled stream was dropped.
    pub(crate) dropped: CancellationToken,
    pub(crate) appended: Arc<Mutex<Vec<memory::AppendMessagesRequest>>>,
    pub(crate) checks: Arc<Mutex<u32>>,
    /// The gateway can't say how its backends are.
    pub(crate) unknowing: Arc<AtomicBool>,
    pub(crate) generated: Arc<Mutex<Vec<GenerateRequest>>>,
}

pub(crate) struct Mesh {
    pub(crate) app: App,
    pub(crate) seen: Seen,
    channel: Channel,
    _data: tempfile::TempDir,
}

impl Mesh {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::read(&Loader::new().start_dir(folder.path()).load().unwrap().reader());
        let seen = Seen::default();
        let channel = |services: Services| Channel::in_process(services.stack(Duration::from_secs(30)));
        let peers = Peers {
            gateway: channel(Services::default().with(GatewayServiceServer::new(seen.clone()))),
            memory: channel(Services::default().with(SessionServiceServer::new(seen.clone()))),
            sandbox: channel(Services::default().with(ToolServiceServer::new(seen.clone()))),
        };
        let app = App::start(config, folder.path(), peers, &Readiness::default()).await.unwrap();
        let channel = channel(app.services());
        Self { app, seen, channel, _data: folder }
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(crate) fn router(&self) -> RouterServiceClient<Channel> {
        RouterServiceClient::new(self.channel.clone())
    }

    pub(crate) fn personas(&self) -> PersonaServiceClient<Channel> {
        PersonaServiceClient::new(self.channel.clone())
    }
}

pub(crate) fn chat(text: &str) -> ChatRequest {
    let message = Message { role: Role::User.into(), text: text.into(), ..Default::default() };
    ChatRequest { messages: vec![message], ..Default::default() }
}

/// The reason, and the first field with why it is wrong.
pub(crate) fn refusal(status: &Status) -> (Reason, String, String) {
    let error = tutti_error::from_status(status, "router");
    let (field, why) = error.fields().first().cloned().unwrap_or_default();
    (error.reason(), field, why)
}

/// What the gateway plays: by the last message that says something.
enum Play {
    Answers(Box<GenerateResponse>),
    Fails(Error),
    Stalls,
    Breaks,
}

fn play(generate: &GenerateRequest) -> Play {
    let last = generate.messages.last().unwrap();
    if last.role() == Role::Tool {
        return Play::Answers(Box::new(answer(&generate.backend, &format!("tool said: {}", last.text), &[])));
    }
    match last.text.as_str() {
        "tool" => Play::Answers(Box::new(answer(&generate.backend, "", &["c1"]))),
        "two tools" => Play::Answers(Box::new(answer(&generate.backend, "", &["c1", "c2"]))),
        "stall" => Play::Stalls,
        "break" => Play::Breaks,
        "fail" => Play::Fails(failure(&generate.backend)),
        "fail first" if generate.backend == "claude" => Play::Fails(failure("claude")),
        text => Play::Answers(Box::new(answer(&generate.backend, &format!("echo: {text}"), &[]))),
    }
}

fn attempt(backend: &str, outcome: AttemptOutcome, reason: Reason) -> Attempt {
    Attempt {
        attempt_id: format!("of {backend}"),
        backend: backend.into(),
        outcome: outcome.into(),
        reason: reason.into(),
        ..Default::default()
    }
}

fn failure(backend: &str) -> Error {
    let attempts = vec![attempt(backend, AttemptOutcome::Failed, Reason::ProviderError)];
    Error::new(Reason::ProviderError, "the provider answered 500").attempts(attempts)
}

fn answer(backend: &str, text: &str, calls: &[&str]) -> GenerateResponse {
    let call = |id: &&str| ToolCall {
        id: (*id).into(),
        name: "read".into(),
        opaque: "state".into(),
        provider: backend.into(),
        model: "m".into(),
        ..Default::default()
    };
    let message = Message {
        role: Role::Assistant.into(),
        text: text.into(),
        tool_calls: calls.iter().map(call).collect(),
        ..Default::default()
    };
    let finish = if calls.is_empty() { FinishReason::Stop } else { FinishReason::ToolCalls };
    GenerateResponse {
        message: Some(message),
        finish_reason: finish.into(),
        backend: backend.into(),
        usage: Some(Usage { cost_nano_usd: 7, ..Default::default() }),
        attempts: vec![attempt(backend, AttemptOutcome::Ok, Reason::Unspecified)],
        ..Default::default()
    }
}

fn event(event: Event) -> Result<GenerateStreamResponse, Status> {
    Ok(GenerateStreamResponse { seq: 1, event: Some(event) })
}

#[tonic::async_trait]
impl GatewayService for Seen {
    type GenerateStreamStream = Stream<GenerateStreamResponse>;

    async fn generate(&self, request: Request<GenerateRequest>) -> Result<Response<GenerateResponse>, Status> {
        self.generated.lock().unwrap().push(request.get_ref().clone());
        match play(request.get_ref()) {
            Play::Answers(answer) => Ok(Response::new(*answer)),
            Play::Fails(error) => Err(error.into()),
            Play::Stalls | Play::Breaks => {
                let _held = self.dropped.clone().drop_guard();
                std::future::pending().await
            }
        }
    }

    async fn generate_stream(
        &self,
        request: Request<GenerateStreamRequest>,
    ) -> Result<Response<Self::GenerateStreamStream>, Status> {
        let generate = request.into_inner().generate.unwrap();
        self.generated.lock().unwrap().push(generate.clone());
        let stream = match play(&generate) {
            Play::Fails(error) => return Err(error.into()),
            Play::Answers(answer) => {
                let message = answer.message.clone().unwrap();
                let mut events: Vec<_> = message.tool_calls.into_iter().map(|c| event(Event::ToolCall(c))).collect();
                events.extend(message.text.split_inclusive(' ').map(|word| event(Event::Delta(word.into()))));
                events.push(event(Event::Done(*answer)));
                stream::iter(events).boxed()
            }
            Play::Breaks => {
                let mut done = answer(&generate.backend, "half", &[]);
                done.set_finish_reason(FinishReason::Error);
                let error = Error::new(Reason::Truncated, "cut").attempts(done.attempts.clone()).after_output();
                let events = [event(Event::Delta("half".into())), event(Event::Done(done)), Err(error.into())];
                stream::iter(events).boxed()
            }
            Play::Stalls => {
                let guard = self.dropped.clone().drop_guard();
                let stalled = stream::once(async move {
                    let _held = guard;
                    std::future::pending().await
                });
                stream::iter([event(Event::Delta("so far".into()))]).chain(stalled).boxed()
            }
        };
        Ok(Response::new(stream))
    }

    /// The length of each text.
    async fn embed(&self, request: Request<gateway::EmbedRequest>) -> Result<Response<gateway::EmbedResponse>, Status> {
        let request = request.into_inner();
        let vector = |text: &String| gateway::Embedding { values: vec![text.len() as f32, 0.5] };
        let response = gateway::EmbedResponse {
            request_id: request.request_id,
            embeddings: request.inputs.iter().map(vector).collect(),
            usage: Some(Usage { input_tokens: 3, ..Default::default() }),
            attempts: vec![attempt(&request.backend, AttemptOutcome::Ok, Reason::Unspecified)],
            backend: request.backend,
            model: request.model,
        };
        Ok(Response::new(response))
    }

    async fn list_models(
        &self,
        _: Request<gateway::ListModelsRequest>,
    ) -> Result<Response<gateway::ListModelsResponse>, Status> {
        Ok(Response::new(gateway::ListModelsResponse::default()))
    }

    type WatchBackendsStream = Stream<gateway::WatchBackendsResponse>;

    async fn watch_backends(
        &self,
        _: Request<gateway::WatchBackendsRequest>,
    ) -> Result<Response<Self::WatchBackendsStream>, Status> {
        Ok(Response::new(stream::pending().boxed()))
    }

    async fn reset_backend(
        &self,
        _: Request<gateway::ResetBackendRequest>,
    ) -> Result<Response<gateway::ResetBackendResponse>, Status> {
        Ok(Response::new(gateway::ResetBackendResponse::default()))
    }

    async fn check_backends(
        &self,
        _: Request<gateway::CheckBackendsRequest>,
    ) -> Result<Response<gateway::CheckBackendsResponse>, Status> {
        *self.checks.lock().unwrap() += 1;
        if self.unknowing.load(Ordering::Relaxed) {
            return Err(Error::new(Reason::StoreUnavailable, "the store is away").into());
        }
        let backend = |name: &str| BackendStatus {
            name: name.into(),
            provider: name.into(),
            model: format!("{name}-model"),
            usable: name != "gemini",
            unusable_because: "no credential".into(),
            context_window: 100_000,
            max_output_tokens: 4_096,
            capabilities: Some(ModelCapabilities { tools: true, streaming: true, ..Default::default() }),
            ..Default::default()
        };
        let backends = ["claude", "openai", "gemini"].map(backend).to_vec();
        Ok(Response::new(gateway::CheckBackendsResponse { backends }))
    }
}

#[tonic::async_trait]
impl ToolService for Seen {
    type ExecuteStream = Stream<sandbox::ExecuteResponse>;

    async fn list_tools(
        &self,
        _: Request<sandbox::ListToolsRequest>,
    ) -> Result<Response<sandbox::ListToolsResponse>, Status> {
        let info = |name: &str, enabled| sandbox::ToolInfo {
            tool: Some(Tool { name: name.into(), ..Default::default() }),
            enabled,
            disabled_because: "no isolation".into(),
            ..Default::default()
        };
        Ok(Response::new(sandbox::ListToolsResponse { tools: vec![info("bash", false), info("read", true)] }))
    }

    async fn execute(
        &self,
        request: Request<sandbox::ExecuteRequest>,
    ) -> Result<Response<Self::ExecuteStream>, Status> {
        use sandbox::execute_response::Event;
        let call = request.into_inner().tool_call.unwrap();
        let output = sandbox::ToolOutput { tool_call_id: call.id.clone(), text: "x".into(), ..Default::default() };
        let result = sandbox::ToolResult {
            tool_call_id: call.id,
            name: call.name,
            success: true,
            output: "x".into(),
            ..Default::default()
        };
        let events = [Event::Output(output), Event::Result(result)];
        let events = events.map(|event| Ok(sandbox::ExecuteResponse { event: Some(event) }));
        Ok(Response::new(stream::iter(events).boxed()))
    }
}

#[tonic::async_trait]
impl SessionService for Seen {
    async fn append_messages(
        &self,
        request: Request<memory::AppendMessagesRequest>,
    ) -> Result<Response<memory::AppendMessagesResponse>, Status> {
        self.appended.lock().unwrap().push(request.into_inner());
        Ok(Response::new(memory::AppendMessagesResponse::default()))
    }

    async fn build_context(
        &self,
        request: Request<memory::BuildContextRequest>,
    ) -> Result<Response<memory::BuildContextResponse>, Status> {
        if request.get_ref().session_id == "away" {
            return Err(Error::new(Reason::StoreUnavailable, "the store is away").into());
        }
        Ok(Response::new(memory::BuildContextResponse::default()))
    }

    async fn get_history(
        &self,
        _: Request<memory::GetHistoryRequest>,
    ) -> Result<Response<memory::GetHistoryResponse>, Status> {
        unreachable!("the router doesn't ask")
    }

    async fn reset_context(
        &self,
        _: Request<memory::ResetContextRequest>,
    ) -> Result<Response<memory::ResetContextResponse>, Status> {
        unreachable!("the router doesn't ask")
    }

    async fn list_sessions(
        &self,
        _: Request<memory::ListSessionsRequest>,
    ) -> Result<Response<memory::ListSessionsResponse>, Status> {
        unreachable!("the router doesn't ask")
    }

    async fn delete_session(
        &self,
        _: Request<memory::DeleteSessionRequest>,
    ) -> Result<Response<memory::DeleteSessionResponse>, Status> {
        unreachable!("the router doesn't ask")
    }
}
