//! The context memory: what a conversation was, and what a backend is shown of it.

use async_trait::async_trait;
use tutti_client::{Channel, request};
use tutti_error::Result;
use tutti_layers::{CallContext, MAX_MESSAGE_BYTES};
use tutti_proto::{
    llm::v1::Message,
    memory::v1::{AppendMessagesRequest, BuildContextRequest, session_service_client::SessionServiceClient},
};

use super::unary;

const PEER: &str = "memory";

/// What the router wants of the memory.
#[async_trait]
pub(crate) trait Sessions: Send + Sync + 'static {
    /// What a backend should be shown before the new messages.
    async fn context(&self, context: &CallContext, build: BuildContextRequest) -> Result<Vec<Message>>;

    /// Appends to a turn; idempotent by (session, turn, index).
    async fn append(&self, context: &CallContext, append: AppendMessagesRequest) -> Result<()>;
}

/// The memory over gRPC.
pub(crate) struct MemoryClient(SessionServiceClient<Channel>);

impl MemoryClient {
    pub(crate) fn new(channel: Channel) -> Self {
        let client = SessionServiceClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        Self(client)
    }
}

#[async_trait]
impl Sessions for MemoryClient {
    async fn context(&self, context: &CallContext, build: BuildContextRequest) -> Result<Vec<Message>> {
        Ok(unary(self.0.clone().build_context(request(build, context)).await, PEER, context)?.messages)
    }

    async fn append(&self, context: &CallContext, append: AppendMessagesRequest) -> Result<()> {
        unary(self.0.clone().append_messages(request(append, context)).await, PEER, context).map(drop)
    }
}
