//! The usage ledger: asked before an attempt, told after it.

use std::fmt;

use async_trait::async_trait;
use tonic::Status;
use tutti_client::Channel;
use tutti_error::{Error, Reason, Result};
use tutti_layers::{CallContext, MAX_MESSAGE_BYTES};
use tutti_proto::ledger::v1::{
    ReleaseRequest, ReserveRequest, SettleManyRequest, SettleRequest, SettleResult,
    ledger_service_client::LedgerServiceClient, settle_result,
};

/// Bound of [`Ledger::settle_many`].
pub(crate) const MAX_SETTLEMENTS: usize = 256;

/// What the gateway needs of the ledger. All are idempotent by attempt id.
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

    /// Records what several attempts of one scope used, at most [`MAX_SETTLEMENTS`]: the result of each, in order.
    ///
    /// # Errors
    /// Whatever keeps the ledger from answering at all.
    async fn settle_many(&self, requests: Vec<SettleRequest>, context: &CallContext) -> Result<Vec<Result<()>>>;

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

    async fn settle_many(&self, requests: Vec<SettleRequest>, context: &CallContext) -> Result<Vec<Result<()>>> {
        let request = SettleManyRequest { settlements: requests };
        let answer = self.0.clone().settle_many(tutti_client::request(request, context)).await;
        let results = answer.map_err(|status| error(&status, context))?.into_inner().results;
        Ok(results.into_iter().map(result).collect())
    }

    async fn release(&self, request: ReleaseRequest, context: &CallContext) -> Result<()> {
        let answer = self.0.clone().release(tutti_client::request(request, context)).await;
        answer.map(drop).map_err(|status| error(&status, context))
    }
}

fn result(of: SettleResult) -> Result<()> {
    match of.result {
        Some(settle_result::Result::Settled(_)) => Ok(()),
        Some(settle_result::Result::Refused(refusal)) => Err(Error::new(refusal.reason(), refusal.message)),
        None => Err(Error::internal("the ledger answered a settlement with nothing")),
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
