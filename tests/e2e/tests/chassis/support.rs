//! A gateway that answers as the tests want, behind the real server.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt as _, stream::BoxStream};
use tokio::{sync::Semaphore, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tutti_client::Channel;
use tutti_error::{Error, Reason};
use tutti_layers::CallContext;
use tutti_proto::gateway::v1::{
    CheckBackendsRequest, CheckBackendsResponse, EmbedRequest, EmbedResponse, GenerateRequest, GenerateResponse,
    GenerateStreamRequest, GenerateStreamResponse, ListModelsRequest, ListModelsResponse, ResetBackendRequest,
    ResetBackendResponse, WatchBackendsRequest, WatchBackendsResponse,
    gateway_service_client::GatewayServiceClient,
    gateway_service_server::{GatewayService, GatewayServiceServer},
    generate_stream_response::Event,
};
use tutti_server::{Readiness, ServeOptions, Services, bind, serve};

/// How long anything may take here.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// How often `Generate` tries a provider.
pub(crate) const TRIES: usize = 5;

/// A service that answers with its name, the org it believes, and as many pieces as are asked for.
#[derive(Debug, Clone)]
pub(crate) struct Fake {
    name: &'static str,
    /// Calls of `Generate` wait for one of these.
    pub(crate) gate: Arc<Semaphore>,
    /// Calls that have begun.
    pub(crate) begun: Arc<AtomicUsize>,
    /// Calls that `Generate` has made of a provider which always fails: up to [`TRIES`], if it may.
    pub(crate) upstream: Arc<AtomicUsize>,
}

type Stream = BoxStream<'static, Result<GenerateStreamResponse, Status>>;

#[tonic::async_trait]
impl GatewayService for Fake {
    type GenerateStreamStream = Stream;

    async fn generate(&self, request: Request<GenerateRequest>) -> Result<Response<GenerateResponse>, Status> {
        let context = CallContext::of(&request);
        let made = (0..TRIES).take_while(|_| context.attempts.take()).count();
        self.upstream.fetch_add(made, Ordering::SeqCst);
        self.begun.fetch_add(1, Ordering::SeqCst);
        let permit = self.gate.acquire().await.map_err(Error::internal)?;
        permit.forget();
        Ok(Response::new(GenerateResponse {
            request_id: self.name.into(),
            raw: context.scope.org,
            ..Default::default()
        }))
    }

    /// As many pieces of 16 KiB as `max_output_tokens` says, each with one permit of the gate; the first waits too.
    async fn generate_stream(&self, request: Request<GenerateStreamRequest>) -> Result<Response<Stream>, Status> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let generate = request.into_inner().generate.unwrap_or_default();
        let count = u64::from(generate.sampling.and_then(|s| s.max_output_tokens).unwrap_or(1));
        let gate = Arc::clone(&self.gate);
        let pieces = futures::stream::iter(1..=count).then(move |seq| {
            let gate = Arc::clone(&gate);
            async move {
                gate.acquire().await.map_err(Error::internal)?.forget();
                let event = Some(Event::Delta("x".repeat(16 * 1024)));
                Ok(GenerateStreamResponse { seq, event })
            }
        });
        Ok(Response::new(pieces.boxed()))
    }

    async fn embed(&self, _: Request<EmbedRequest>) -> Result<Response<EmbedResponse>, Status> {
        Err(Error::new(Reason::Unsupported, "not here").into())
    }

    async fn list_models(&self, _: Request<ListModelsRequest>) -> Result<Response<ListModelsResponse>, Status> {
        Ok(Response::new(ListModelsResponse::default()))
    }

    async fn check_backends(
        &self,
        _: Request<CheckBackendsRequest>,
    ) -> Result<Response<CheckBackendsResponse>, Status> {
        Err(Error::new(Reason::Unsupported, "not here").into())
    }

    type WatchBackendsStream = futures::stream::Pending<Result<WatchBackendsResponse, Status>>;

    async fn watch_backends(
        &self,
        _: Request<WatchBackendsRequest>,
    ) -> Result<Response<Self::WatchBackendsStream>, Status> {
        Err(Error::new(Reason::Unsupported, "not here").into())
    }

    async fn reset_backend(&self, _: Request<ResetBackendRequest>) -> Result<Response<ResetBackendResponse>, Status> {
        Err(Error::new(Reason::Unsupported, "not here").into())
    }
}

/// A running server.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) fake: Fake,
    pub(crate) readiness: Readiness,
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: JoinHandle<tutti_error::Result<()>>,
}

impl Running {
    /// On a free port, with a gate that is open.
    pub(crate) async fn start(name: &'static str, options: ServeOptions) -> Self {
        Self::at(SocketAddr::from(([127, 0, 0, 1], 0)), name, options).await
    }

    pub(crate) async fn at(address: SocketAddr, name: &'static str, options: ServeOptions) -> Self {
        let gate = Arc::new(Semaphore::new(Semaphore::MAX_PERMITS));
        let fake = Fake { name, gate, begun: Arc::default(), upstream: Arc::default() };
        let readiness = Readiness::default();
        let services = Services::default().with(GatewayServiceServer::new(fake.clone())).ready_when(&readiness);
        let listening = bind(address).await.unwrap();
        let (address, shutdown) = (listening.address, CancellationToken::new());
        // Ended by `stop`, `kill`, or with the test's runtime.
        #[allow(clippy::disallowed_methods)]
        let task = tokio::spawn(serve(listening, services, options, shutdown.clone()));
        Self { address, fake, readiness, shutdown, task }
    }

    /// Everything waits from now on.
    pub(crate) fn close_gate(&self) {
        self.fake.gate.forget_permits(Semaphore::MAX_PERMITS);
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn client(&self) -> Client {
        GatewayServiceClient::new(Channel::connect(&self.url()).unwrap())
    }
}

pub(crate) type Client = GatewayServiceClient<Channel>;

/// A stream of so many pieces.
pub(crate) fn pieces(count: u32) -> GenerateStreamRequest {
    let sampling = tutti_proto::llm::v1::Sampling { max_output_tokens: Some(count), ..Default::default() };
    GenerateStreamRequest { generate: Some(GenerateRequest { sampling: Some(sampling), ..Default::default() }) }
}

/// What a call of `Generate` says.
pub(crate) async fn generate(client: &Client) -> Result<GenerateResponse, Status> {
    let mut request = Request::new(GenerateRequest::default());
    request.set_timeout(PATIENCE);
    Ok(client.clone().generate(request).await?.into_inner())
}
