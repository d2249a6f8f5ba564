//! A ledger in this process and requests to it.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tempfile::TempDir;
use tonic::{Code, Request, Status};
use tutti_client::Channel;
use tutti_layers::CallContext;
use tutti_proto::{
    ledger::v1::{
        ListUsageRequest, ReleaseRequest, ReserveRequest, SettleRequest, TokenCounts, UnitPrices, UsageFilter,
        UsageRecord, ledger_service_client::LedgerServiceClient,
    },
    llm::v1::{AttemptOutcome, ErrorReason, FinishReason},
};
use tutti_types::{AttemptId, Deadline, Scope, time};
use usage_ledger::{
    App, Config,
    group_commit::Limits,
    store::{SqliteStore, Store},
};

pub(crate) type Client = LedgerServiceClient<Channel>;

pub(crate) struct Ledger {
    pub(crate) app: App,
    pub(crate) client: Client,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) dir: TempDir,
}

/// No expiry but the one that a test asks for.
pub(crate) fn config(queue: usize) -> Config {
    let limits = Limits { queue, batch: 256 };
    Config { limits, expiry_interval: Duration::from_secs(3600), ..Config::default() }
}

pub(crate) async fn ledger() -> Ledger {
    let dir = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(dir.path()).await.unwrap());
    with_store(&config(4096), store, dir)
}

pub(crate) fn with_store(config: &Config, store: Arc<dyn Store>, dir: TempDir) -> Ledger {
    let app = App::with_store(config, Arc::clone(&store));
    let channel = Channel::in_process(app.services().stack(Duration::from_secs(30)));
    Ledger { app, client: LedgerServiceClient::new(channel), store, dir }
}

impl Ledger {
    pub(crate) async fn records(&self) -> Vec<UsageRecord> {
        let all = ListUsageRequest { page_size: 1000, ..ListUsageRequest::default() };
        self.client.clone().list_usage(all).await.unwrap().into_inner().records
    }

    pub(crate) async fn record(&self, attempt_id: &str) -> UsageRecord {
        let filter = Some(UsageFilter { attempt_id: attempt_id.into(), ..UsageFilter::default() });
        let one = ListUsageRequest { filter, ..ListUsageRequest::default() };
        let mut records = self.client.clone().list_usage(one).await.unwrap().into_inner().records;
        assert_eq!(records.len(), 1, "of attempt {attempt_id}");
        records.remove(0)
    }
}

/// A hold of 20 000 000 nano dollars: 1000 tokens in at $10 and 500 out at $20 a million.
pub(crate) fn reserve() -> ReserveRequest {
    ReserveRequest {
        attempt_id: AttemptId::generate().to_string(),
        request_id: "request".into(),
        backend: "claude".into(),
        provider: "anthropic".into(),
        model: "sonnet".into(),
        worst_case: Some(TokenCounts { fresh_input: 1000, visible_output: 500, ..TokenCounts::default() }),
        prices: Some(UnitPrices {
            input_nano_usd: 10_000_000_000,
            output_nano_usd: 20_000_000_000,
            ..UnitPrices::default()
        }),
        expires_at: Some(time::timestamp(SystemTime::now() + Duration::from_secs(60))),
        ..ReserveRequest::default()
    }
}

/// Used that many fresh tokens, at 10 000 nano dollars each.
pub(crate) fn settle(attempt_id: &str, fresh_input: i64) -> SettleRequest {
    SettleRequest {
        attempt_id: attempt_id.into(),
        used: Some(TokenCounts { fresh_input, ..TokenCounts::default() }),
        outcome: AttemptOutcome::Ok.into(),
        finish_reason: FinishReason::Stop.into(),
        ..SettleRequest::default()
    }
}

pub(crate) fn release(attempt_id: &str) -> ReleaseRequest {
    ReleaseRequest { attempt_id: attempt_id.into(), reason: ErrorReason::BackendNotUsable.into() }
}

/// A call of this org with that much time.
pub(crate) fn call<T>(message: T, org: &str, timeout: Duration) -> Request<T> {
    let scope = Scope { org: org.into(), principal: "alice".into() };
    tutti_client::request(message, &CallContext::new(scope, Deadline::after(timeout)))
}

/// The refusal is INVALID_REQUEST and names this field.
pub(crate) fn assert_invalid(status: &Status, field: &str) {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let error = tutti_error::from_status(status, "ledger");
    assert_eq!(error.reason(), ErrorReason::InvalidRequest);
    assert!(error.fields().iter().any(|(name, _)| name == field), "{field} is not in {:?}", error.fields());
}

pub(crate) fn assert_reason(status: &Status, code: Code, reason: ErrorReason) {
    assert_eq!(status.code(), code, "{status:?}");
    assert_eq!(tutti_error::reason_of(status), Some(reason));
}
