//! `AuditService`.

use std::sync::Arc;

use tonic::{Request, Response, Status};
use tutti_error::{Error, Result};
use tutti_layers::CallContext;
use tutti_proto::sandbox::v1::{
    AuditRecord, PermissionDecision, QueryAuditRequest, QueryAuditResponse, audit_service_server::AuditService,
};
use tutti_types::time;

use crate::{
    domain::{Decision, Filter, Record},
    store::AuditStore,
    tools::Registry,
};

/// Records on a page unless the caller says otherwise, and at most.
const PAGE: (i32, i32) = (100, 1000);

/// Answers `AuditService`.
#[derive(Debug)]
pub(super) struct Handler {
    store: Arc<dyn AuditStore>,
    registry: Arc<Registry>,
}

impl Handler {
    pub(super) fn new(store: Arc<dyn AuditStore>, registry: Arc<Registry>) -> Self {
        Self { store, registry }
    }

    fn decode(&self, request: QueryAuditRequest) -> Result<Filter> {
        let limit = match request.page_size {
            0 => PAGE.0,
            size if size < 0 => return Err(Error::invalid("page_size", "must not be negative")),
            size => size.min(PAGE.1),
        };
        let below = match request.page_token.as_str() {
            "" => None,
            token => Some(token.parse().map_err(|_| Error::invalid("page_token", "is not one of ours"))?),
        };
        // An alias asks for its tool; a name that is no longer known may still be in the books.
        let tool = self.registry.find(&request.tool).map_or(request.tool, |entry| entry.definition.name.to_owned());
        Ok(Filter {
            request_id: request.request_id,
            session_id: request.session_id,
            tool,
            workspace: request.workspace,
            from: request.from.as_ref().map(time::to_unix_micros),
            to: request.to.as_ref().map(time::to_unix_micros),
            below,
            limit: i64::from(limit),
        })
    }
}

#[tonic::async_trait]
impl AuditService for Handler {
    async fn query_audit(&self, request: Request<QueryAuditRequest>) -> Result<Response<QueryAuditResponse>, Status> {
        let context = CallContext::of(&request);
        let filter = self.decode(request.into_inner())?;
        // One more than asked for, to see whether there is another page.
        let one_more = Filter { limit: filter.limit + 1, ..filter.clone() };
        let mut records = self.store.query(&context.scope, &one_more).await?;
        let limit = usize::try_from(filter.limit).unwrap_or(usize::MAX);
        let more = records.len() > limit;
        records.truncate(limit);
        let last = records.last().filter(|_| more);
        let next_page_token = last.map(|record| record.seq.to_string()).unwrap_or_default();
        Ok(Response::new(QueryAuditResponse { records: records.into_iter().map(encode).collect(), next_page_token }))
    }
}

fn encode(record: Record) -> AuditRecord {
    let Record { seq, org, principal, call, ending } = record;
    let finished = ending.is_some();
    let ending = ending.unwrap_or_default();
    let decision = match call.verdict.decision {
        Decision::Allowed => PermissionDecision::Allowed,
        Decision::Denied => PermissionDecision::Denied,
        Decision::NeedsApproval => PermissionDecision::NeedsApproval,
    };
    AuditRecord {
        seq,
        org,
        principal,
        request_id: call.request_id,
        tool_call_id: call.tool_call_id,
        tool: call.tool,
        workspace: call.workspace,
        arguments_json: call.arguments_json,
        attribution: Some(call.attribution),
        decision: decision.into(),
        decided_because: call.verdict.because,
        success: ending.success,
        reason: ending.reason.map_or(0, i32::from),
        error: ending.error,
        exit_code: ending.exit_code,
        output_bytes: i64::try_from(ending.output_bytes).unwrap_or(i64::MAX),
        started_at: Some(time::from_unix_micros(call.started_at)),
        duration: finished.then(|| time::to_wire(ending.duration)),
        isolation: call.isolation,
        finished,
    }
}
