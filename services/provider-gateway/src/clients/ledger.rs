//! The usage ledger: asked before an attempt, told after it.

use std::fmt;

use async_trait::async_trait;
use tonic::Status;
use tutti_client::Channel;
use tutti_error::{Error, Reason, Result};
use tutti_layers::{CallContext, MAX_MESSAGE_BYTES};
use tutti_proto::ledger::v1::{
    ReleaseRequest, ReserveRequest, SettleRequest, ledger_service_client::LedgerServiceClient,
};

/// What the gateway needs of the ledger. All three are idempotent by attempt id.
#[async_trait]
pub trait Ledger: Send + Sync + fmt::Debug {
    /// Puts a hold on the worst case of an attempt; it is durable on return.
    ///
    /// # Errors
    /// BUDGET_EXCEEDED, or whatever keeps the ledger from answering. Without a hold there is no attempt.
    async fn reserve(&self, request: ReserveRequest, context: &CallContext) -> Result<()>;

    /// Records what an attempt used.
    ///
    /// # Errors
    /// UNKNOWN_ATTEMPT, INVALID_REQUEST, or whatever keeps the ledger from answering.
    async fn settle(&self, request: SettleRequest, context: &CallContext) -> Result<()>;

    /// Ends the hold of an attempt that was never sent.
    ///
    /// # Errors
    /// UNKNOWN_ATTEMPT, a refusal for a settled attempt, or whatever keeps the ledger from answering.
    async fn release(&self, request: ReleaseRequest, context: &CallContext) -> Result<()>;
}

/// The ledger over gRPC.
#[derive(Debug, Clone)]
pub struct LedgerClient(LedgerServiceClient<Channel>);

impl LedgerClient {
    /// Over this channel.
    pub fn new(channel: Channel) -> Self {
        let client = LedgerServiceClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        Self(client)
    }
}

#[async_trait]
impl Ledger for LedgerClient {
    async fn reserve(&self, request: ReserveRequest, context: &CallContext) -> Result<()> {
        let answer = self.0.clone().reserve(tutti_client::request(request, context)).await;
        answer.map(drop).map_err(|status| error(&status, context))
    }

    async fn settle(&self, request: SettleRequest, context: &CallContext) -> Result<()> {
        let answer = self.0.clone().settle(tutti_client::request(request, context)).await;
        answer.map(drop).map_err(|status| error(&status, context))
    }

    async fn release(&self, request: ReleaseRequest, context: &CallContext) -> Result<()> {
        let answer = self.0.clone().release(tutti_client::request(request, context)).await;
        answer.map(drop).map_err(|status| error(&status, context))
    }
}

fn error(status: &Status, context: &CallContext) -> Error {
    let error = tutti_client::error(status, "ledger", context);
    // Nobody cancels these calls but a ledger that dies.
    if error.reason() == Reason::Cancelled {
        return Error::new(Reason::ServiceUnavailable, "the ledger service can't be reached; try again").context(error);
    }
    error
}
