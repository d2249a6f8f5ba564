//! The tool sandbox: which tools there are, and runs of them.

use async_trait::async_trait;
use futures::stream::BoxStream;
use tutti_client::{Channel, request};
use tutti_error::Result;
use tutti_layers::{CallContext, MAX_MESSAGE_BYTES};
pub(crate) use tutti_proto::sandbox::v1::execute_response::Event as ToolEvent;
use tutti_proto::sandbox::v1::{ExecuteRequest, ListToolsRequest, ToolInfo, tool_service_client::ToolServiceClient};

use super::{events, unary};

const PEER: &str = "sandbox";

/// What the router wants of the sandbox.
#[async_trait]
pub(crate) trait Tools: Send + Sync + 'static {
    /// All tools, those that are switched off included.
    async fn list(&self, context: &CallContext) -> Result<Vec<ToolInfo>>;

    /// Runs one call; the last event is `result`. Dropping the stream kills what runs.
    async fn execute(
        &self,
        context: &CallContext,
        execute: ExecuteRequest,
    ) -> Result<BoxStream<'static, Result<ToolEvent>>>;
}

/// The sandbox over gRPC.
pub(crate) struct SandboxClient(ToolServiceClient<Channel>);

impl SandboxClient {
    pub(crate) fn new(channel: Channel) -> Self {
        let client = ToolServiceClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        Self(client)
    }
}

#[async_trait]
impl Tools for SandboxClient {
    async fn list(&self, context: &CallContext) -> Result<Vec<ToolInfo>> {
        let call = request(ListToolsRequest::default(), context);
        Ok(unary(self.0.clone().list_tools(call).await, PEER, context)?.tools)
    }

    async fn execute(
        &self,
        context: &CallContext,
        execute: ExecuteRequest,
    ) -> Result<BoxStream<'static, Result<ToolEvent>>> {
        let stream = unary(self.0.clone().execute(request(execute, context)).await, PEER, context)?;
        Ok(events(stream, PEER, context, |message| message.event))
    }
}
