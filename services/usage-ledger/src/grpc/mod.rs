//! The RPCs: decode and validate, make the change or ask the store, encode.

mod attempts;
mod field;
mod usage;

use std::sync::Arc;

use futures::future::join_all;
use tonic::{Request, Response, Status};
use tutti_error::{Error, Reason, Result};
use tutti_layers::{CallContext, MAX_MESSAGE_BYTES};
use tutti_proto::ledger::v1 as wire;
use tutti_proto::ledger::v1::ledger_service_server::{LedgerService, LedgerServiceServer};
use tutti_server::Services;

use crate::{group_commit::GroupCommit, store::Store};

/// Settlements of one call.
const MAX_SETTLEMENTS: usize = 256;

/// All services of the ledger.
pub(crate) fn services(store: Arc<dyn Store>, writer: GroupCommit) -> Services {
    let ledger = LedgerServiceServer::new(Ledger { store, writer })
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    Services::default().with(ledger)
}

struct Ledger {
    store: Arc<dyn Store>,
    writer: GroupCommit,
}

impl Ledger {
    async fn settle_one(&self, call: &CallContext, told: wire::SettleRequest) -> Result<wire::SettleResponse> {
        let settled = self.writer.make(call, attempts::settlement(told)?).await?;
        Ok(wire::SettleResponse {
            cost_nano_usd: settled.cost.0,
            over_hold: settled.over_hold,
            existing: settled.existing,
        })
    }
}

#[tonic::async_trait]
impl LedgerService for Ledger {
    async fn reserve(&self, request: Request<wire::ReserveRequest>) -> Result<Response<wire::ReserveResponse>, Status> {
        let call = CallContext::of(&request);
        let reservation = attempts::reservation(request.into_inner())?;
        let reserved = self.writer.make(&call, reservation).await?;
        Ok(Response::new(wire::ReserveResponse { held_nano_usd: reserved.held.0, existing: reserved.existing }))
    }

    async fn settle(&self, request: Request<wire::SettleRequest>) -> Result<Response<wire::SettleResponse>, Status> {
        let call = CallContext::of(&request);
        Ok(Response::new(self.settle_one(&call, request.into_inner()).await?))
    }

    async fn settle_many(
        &self,
        request: Request<wire::SettleManyRequest>,
    ) -> Result<Response<wire::SettleManyResponse>, Status> {
        let call = CallContext::of(&request);
        let settlements = request.into_inner().settlements;
        if !(1..=MAX_SETTLEMENTS).contains(&settlements.len()) {
            return Err(Error::invalid("settlements", format!("takes 1 to {MAX_SETTLEMENTS}")).into());
        }
        let settling = settlements.into_iter().map(|told| self.settle_one(&call, told));
        let results = join_all(settling).await;
        if call.deadline.is_past() {
            return Err(Error::new(Reason::DeadlineExceeded, "the deadline passed while the ledger was writing").into());
        }
        let results = results.into_iter().map(attempts::result).collect();
        Ok(Response::new(wire::SettleManyResponse { results }))
    }

    async fn release(&self, request: Request<wire::ReleaseRequest>) -> Result<Response<wire::ReleaseResponse>, Status> {
        let call = CallContext::of(&request);
        let release = attempts::release(&request.into_inner())?;
        let existing = self.writer.make(&call, release).await?;
        Ok(Response::new(wire::ReleaseResponse { existing }))
    }

    async fn get_usage(
        &self,
        request: Request<wire::GetUsageRequest>,
    ) -> Result<Response<wire::GetUsageResponse>, Status> {
        let call = CallContext::of(&request);
        let (filter, by) = usage::sums(request.into_inner())?;
        let groups = self.store.usage(&call.scope, &filter, &by, usage::MAX_GROUPS).await?;
        Ok(Response::new(wire::GetUsageResponse { groups: groups.into_iter().map(usage::group).collect() }))
    }

    async fn list_usage(
        &self,
        request: Request<wire::ListUsageRequest>,
    ) -> Result<Response<wire::ListUsageResponse>, Status> {
        let call = CallContext::of(&request);
        let (filter, size, after) = usage::page(request.into_inner())?;
        let page = self.store.list(&call.scope, &filter, size, after).await?;
        let records = page.records.into_iter().map(|record| usage::record(record, &call.scope.org)).collect();
        let next_page_token = page.next.map(usage::token).unwrap_or_default();
        Ok(Response::new(wire::ListUsageResponse { records, next_page_token }))
    }
}
