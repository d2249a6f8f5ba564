//! The RPCs: decode, validate, call the domain, encode.

mod chat;
mod personas;
mod route;

use std::{sync::Arc, time::Instant};

use futures::stream::BoxStream;
pub(crate) use personas::PersonaApi;
use tonic::{Request, Response, Status};
use tutti_error::{Error, Result};
use tutti_layers::CallContext;
use tutti_proto::router::v1::{
    AttachRequest, AttachResponse, CancelRequest, CancelResponse, ChatRequest, ChatResponse, ChatStreamRequest,
    ChatStreamResponse, ListBackendsRequest, ListBackendsResponse, RouteRequest, RouteResponse,
    router_service_server::RouterService,
};

use crate::app::Desk;

/// The `RouterService`.
pub(crate) struct RouterApi(Arc<Desk>);

impl RouterApi {
    pub(crate) fn new(desk: Arc<Desk>) -> Self {
        Self(desk)
    }
}

#[tonic::async_trait]
impl RouterService for RouterApi {
    type ChatStreamStream = BoxStream<'static, Result<ChatStreamResponse, Status>>;
    type AttachStream = BoxStream<'static, Result<AttachResponse, Status>>;

    async fn chat(&self, request: Request<ChatRequest>) -> Result<Response<ChatResponse>, Status> {
        let (context, arrived) = (CallContext::of(&request), Instant::now());
        let answer = chat::chat(&self.0, &context, arrived, request.into_inner()).await?;
        Ok(Response::new(answer))
    }

    async fn chat_stream(
        &self,
        request: Request<ChatStreamRequest>,
    ) -> Result<Response<Self::ChatStreamStream>, Status> {
        let (context, arrived) = (CallContext::of(&request), Instant::now());
        let chat = required(request.into_inner().chat)?;
        Ok(Response::new(chat::chat_stream(&self.0, &context, arrived, chat).await?))
    }

    async fn attach(&self, request: Request<AttachRequest>) -> Result<Response<Self::AttachStream>, Status> {
        let context = CallContext::of(&request);
        Ok(Response::new(chat::attach(&self.0, &context, &request.into_inner()).await?))
    }

    async fn cancel(&self, request: Request<CancelRequest>) -> Result<Response<CancelResponse>, Status> {
        let context = CallContext::of(&request);
        chat::cancel(&self.0, &context, &request.into_inner()).await?;
        Ok(Response::new(CancelResponse {}))
    }

    async fn route(&self, request: Request<RouteRequest>) -> Result<Response<RouteResponse>, Status> {
        let context = CallContext::of(&request);
        let chat = required(request.into_inner().chat)?;
        Ok(Response::new(route::route(&self.0, &context, chat).await?))
    }

    async fn list_backends(
        &self,
        request: Request<ListBackendsRequest>,
    ) -> Result<Response<ListBackendsResponse>, Status> {
        let context = CallContext::of(&request);
        Ok(Response::new(route::list_backends(&self.0, &context, &request.into_inner()).await?))
    }
}

fn required(chat: Option<ChatRequest>) -> Result<ChatRequest> {
    chat.ok_or_else(|| Error::invalid("chat", "is required"))
}
