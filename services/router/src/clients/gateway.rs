//! The provider gateway: generations, backends, models.

use async_trait::async_trait;
use futures::{StreamExt as _, stream::BoxStream};
use tutti_client::{Channel, request};
use tutti_error::Result;
use tutti_layers::{CallContext, MAX_MESSAGE_BYTES};
pub(crate) use tutti_proto::gateway::v1::generate_stream_response::Event as GatewayEvent;
use tutti_proto::gateway::v1::{
    BackendStatus, CheckBackendsRequest, EmbedRequest, EmbedResponse, GenerateRequest, GenerateStreamRequest,
    ListModelsRequest, Model, WatchBackendsRequest, gateway_service_client::GatewayServiceClient,
};

use super::{events, unary};

const PEER: &str = "gateway";

/// What the router wants of the gateway.
#[async_trait]
pub(crate) trait Gateway: Send + Sync + 'static {
    /// One generation on one backend as events, the last of which is `done`; without `streamed` there is no other. A
    /// broken stream gives `done` (ERROR) before its error. Dropping the stream cancels the call.
    async fn generate(
        &self,
        context: &CallContext,
        generate: GenerateRequest,
        streamed: bool,
    ) -> Result<BoxStream<'static, Result<GatewayEvent>>>;

    /// Vectors of texts, on one backend.
    async fn embed(&self, context: &CallContext, embed: EmbedRequest) -> Result<EmbedResponse>;

    /// All backends in the order of the configuration; with `probe`, the providers are asked.
    async fn backends(&self, context: &CallContext, probe: bool) -> Result<Vec<BackendStatus>>;

    /// The backends as they are, then those that have changed, until the context's deadline or the gateway's end.
    async fn watch(&self, context: &CallContext) -> Result<BoxStream<'static, Result<Vec<BackendStatus>>>>;

    /// Models whose id or alias contains this text.
    async fn models(&self, context: &CallContext, contains: &str) -> Result<Vec<Model>>;
}

/// The gateway over gRPC.
pub(crate) struct GatewayClient(GatewayServiceClient<Channel>);

impl GatewayClient {
    pub(crate) fn new(channel: Channel) -> Self {
        let client = GatewayServiceClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        Self(client)
    }
}

#[async_trait]
impl Gateway for GatewayClient {
    async fn generate(
        &self,
        context: &CallContext,
        generate: GenerateRequest,
        streamed: bool,
    ) -> Result<BoxStream<'static, Result<GatewayEvent>>> {
        let mut client = self.0.clone();
        if streamed {
            let call = GenerateStreamRequest { generate: Some(generate) };
            let stream = unary(client.generate_stream(request(call, context)).await, PEER, context)?;
            return Ok(events(stream, PEER, context, |message| message.event));
        }
        let done = unary(client.generate(request(generate, context)).await, PEER, context)?;
        Ok(futures::stream::iter([Ok(GatewayEvent::Done(done))]).boxed())
    }

    async fn embed(&self, context: &CallContext, embed: EmbedRequest) -> Result<EmbedResponse> {
        unary(self.0.clone().embed(request(embed, context)).await, PEER, context)
    }

    async fn backends(&self, context: &CallContext, probe: bool) -> Result<Vec<BackendStatus>> {
        let call = CheckBackendsRequest { backends: Vec::new(), probe };
        Ok(unary(self.0.clone().check_backends(request(call, context)).await, PEER, context)?.backends)
    }

    async fn watch(&self, context: &CallContext) -> Result<BoxStream<'static, Result<Vec<BackendStatus>>>> {
        let call = WatchBackendsRequest { backends: Vec::new() };
        let stream = unary(self.0.clone().watch_backends(request(call, context)).await, PEER, context)?;
        Ok(events(stream, PEER, context, |message| Some(message.backends)))
    }

    async fn models(&self, context: &CallContext, contains: &str) -> Result<Vec<Model>> {
        let call = ListModelsRequest { contains: contains.to_owned(), page_size: 1000, ..Default::default() };
        Ok(unary(self.0.clone().list_models(request(call, context)).await, PEER, context)?.models)
    }
}
