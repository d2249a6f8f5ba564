//! `tutti.gateway.v1.GatewayService`: decode, validate, call, encode.

mod backends;
mod calls;
mod models;
mod status;
mod watch;

use std::{pin::Pin, sync::Arc};

use futures::{Stream, StreamExt as _};
use tonic::{Request, Response, Status};
use tutti_layers::CallContext;
use tutti_proto::gateway::v1::{
    CheckBackendsRequest, CheckBackendsResponse, EmbedRequest, EmbedResponse, GenerateRequest, GenerateResponse,
    GenerateStreamRequest, GenerateStreamResponse, ListModelsRequest, ListModelsResponse, ModelCapabilities,
    ResetBackendRequest, ResetBackendResponse, WatchBackendsRequest, WatchBackendsResponse,
    gateway_service_server::GatewayService,
};

use crate::{app::Gateway, domain::catalogue::Capabilities};

/// The service.
#[derive(Debug)]
pub(crate) struct Grpc {
    gateway: Arc<Gateway>,
}

impl Grpc {
    /// Over this gateway.
    pub(crate) fn new(gateway: Arc<Gateway>) -> Self {
        Self { gateway }
    }
}

type EventStream = Pin<Box<dyn Stream<Item = Result<GenerateStreamResponse, Status>> + Send>>;

#[tonic::async_trait]
impl GatewayService for Grpc {
    async fn generate(&self, request: Request<GenerateRequest>) -> Result<Response<GenerateResponse>, Status> {
        let context = CallContext::of(&request);
        let answer = calls::generate(&self.gateway, &request.into_inner(), context).await;
        answer.map(Response::new).map_err(Status::from)
    }

    type GenerateStreamStream = EventStream;

    async fn generate_stream(&self, request: Request<GenerateStreamRequest>) -> Result<Response<EventStream>, Status> {
        let context = CallContext::of(&request);
        let stream = calls::generate_stream(&self.gateway, request.into_inner(), context).await;
        stream.map(Response::new).map_err(Status::from)
    }

    async fn embed(&self, request: Request<EmbedRequest>) -> Result<Response<EmbedResponse>, Status> {
        let context = CallContext::of(&request);
        let answer = calls::embed(&self.gateway, &request.into_inner(), context).await;
        answer.map(Response::new).map_err(Status::from)
    }

    async fn list_models(&self, request: Request<ListModelsRequest>) -> Result<Response<ListModelsResponse>, Status> {
        let answer = models::list(&self.gateway.catalogue, &request.into_inner());
        answer.map(Response::new).map_err(Status::from)
    }

    async fn check_backends(
        &self,
        request: Request<CheckBackendsRequest>,
    ) -> Result<Response<CheckBackendsResponse>, Status> {
        let context = CallContext::of(&request);
        let answer = backends::check(&self.gateway, &request.into_inner(), &context).await;
        answer.map(Response::new).map_err(Status::from)
    }

    type WatchBackendsStream = Pin<Box<dyn Stream<Item = Result<WatchBackendsResponse, Status>> + Send>>;

    async fn watch_backends(
        &self,
        request: Request<WatchBackendsRequest>,
    ) -> Result<Response<Self::WatchBackendsStream>, Status> {
        let stream = watch::watch(&self.gateway, &request.into_inner())?;
        Ok(Response::new(Box::pin(stream.map(Ok))))
    }

    async fn reset_backend(
        &self,
        request: Request<ResetBackendRequest>,
    ) -> Result<Response<ResetBackendResponse>, Status> {
        let answer = backends::reset(&self.gateway, &request.into_inner()).await;
        answer.map(Response::new).map_err(Status::from)
    }
}

fn capabilities(of: Capabilities) -> ModelCapabilities {
    ModelCapabilities {
        tools: of.tools,
        json_schema: of.json_schema,
        streaming: of.streaming,
        images: of.images,
        audio: of.audio,
        files: of.files,
        reasoning: of.reasoning,
        embeddings: of.embeddings,
        video: of.video,
    }
}
