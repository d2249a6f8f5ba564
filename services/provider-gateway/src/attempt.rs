//! The life of an attempt: reserve, send, settle. An [`Attempt`] is opened with a hold at the ledger and ends exactly
//! once, whatever happens: closed with its outcome, or, when it is dropped (the caller went away), as cancelled.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::oneshot;
use tracing::{Instrument as _, Span};
use tutti_error::{Error, Reason, Result};
use tutti_proto::{
    ledger::v1::{ReleaseRequest, ReserveRequest, SettleRequest},
    llm::v1::{self as wire, AttemptOutcome, FinishReason},
};
use tutti_providers::ProviderError;
use tutti_telemetry::Current;
use tutti_types::{AttemptId, TokenCounts, UnitPrices, llm::Completion, time};

use crate::{
    app::Gateway,
    domain::{breaker::Ending as Told, estimate},
    driver::OnWire,
    error::{Failure, Spent},
    observe,
    plan::Plan,
    resilience::{Charge, Key, Pass},
    settle::{Ending, Settler, What},
};

/// A hold outlives the call by this long, then it becomes an assumed record.
const HOLD_GRACE: Duration = Duration::from_secs(30);

/// A caller that leaves so shortly before its deadline leaves because of it: callers end early, to have time for their
/// own answer, and the server drops the call in the same moment as ours would end it.
const LATE: Duration = Duration::from_millis(100);

/// One paid HTTP call.
#[derive(Debug)]
pub(crate) struct Attempt {
    /// Its id, sent upstream and the key of the ledger's row.
    pub(crate) id: AttemptId,
    /// The credential it is made with.
    pass: Pass,
    /// What it was charged by our rate limits.
    charge: Charge,
    /// It failed for its credential, and there are others.
    others: bool,
    plan: Arc<Plan>,
    settler: Settler,
    stage: Stage,
    on_wire: OnWire,
    started: Instant,
    started_at: SystemTime,
    first_output: Option<Duration>,
    told: Option<TokenCounts>,
    received_chars: u64,
    provider_request_id: String,
    span: Span,
    /// Where it belongs: in its span, else in that of the call.
    place: Option<Current>,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// There is a hold; nothing was sent.
    Held,
    /// The request is under way; once it is on the wire the provider may have got it.
    Sent,
    /// The ledger is told.
    Closed,
}

/// How it ended, for the ledger and the caller.
struct Outcome<'a> {
    outcome: AttemptOutcome,
    reason: Reason,
    message: &'a str,
    http_status: u16,
    finish: FinishReason,
    tokens: TokenCounts,
    estimated: bool,
}

impl Attempt {
    /// Reserves the worst case. Nothing is sent without a hold.
    ///
    /// # Errors
    /// CIRCUIT_OPEN; BACKEND_RATE_LIMITED; RATE_LIMITED; ATTEMPTS_EXCEEDED; BUDGET_EXCEEDED and other refusals of the ledger; SERVICE_UNAVAILABLE when it can't be reached.
    pub(crate) async fn open(gateway: &Gateway, plan: &Arc<Plan>) -> Result<Self> {
        let pass = plan.backend.pass(plan.attribution.as_ref())?;
        let charge = gateway.limits.charge(plan, pass.key()).await?;
        if !plan.context.attempts.take() {
            let message = "no attempts are left for this call; allow more with limits.max_attempts";
            return Err(Error::new(Reason::AttemptsExceeded, message));
        }
        let id = AttemptId::generate();
        tutti_telemetry::set_request_id(&plan.request_id);
        let request = reservation(id, plan, pass.key());
        let attempt = Self::new(id, (pass, charge), Arc::clone(plan), gateway.settler.clone());
        let ledger = Arc::clone(&gateway.ledger);
        let (context, span) = (plan.context.clone(), attempt.span.clone());
        // In a task of its own, so that a caller who goes away can't leave a hold nobody knows of: the attempt comes
        // back through the channel, and where nobody receives it, its drop releases the hold.
        let (answer, answered) = oneshot::channel();
        let reserving = async move {
            let reserved = ledger.reserve(request, &context).await;
            let _ = answer.send(attempt.reserved(reserved));
        };
        gateway.tasks.spawn(reserving.instrument(span));
        let late = || Error::new(Reason::DeadlineExceeded, "the deadline passed while the cost was being reserved");
        let lost = || Error::new(Reason::ShuttingDown, "the gateway is shutting down");
        let waited = tokio::time::timeout_at(plan.context.deadline.instant().into(), answered).await;
        waited.map_err(|_| late())?.map_err(|_| lost())?
    }

    fn new(id: AttemptId, (pass, charge): (Pass, Charge), plan: Arc<Plan>, settler: Settler) -> Self {
        let span = observe::span(&plan, id);
        Self {
            place: span.in_scope(tutti_telemetry::current),
            span,
            id,
            pass,
            charge,
            others: false,
            plan,
            settler,
            stage: Stage::Held,
            on_wire: OnWire::default(),
            started: Instant::now(),
            started_at: SystemTime::now(),
            first_output: None,
            told: None,
            received_chars: 0,
            provider_request_id: String::new(),
        }
    }

    fn reserved(mut self, reserved: Result<()>) -> Result<Self> {
        let Err(error) = reserved else { return Ok(self) };
        self.stage = Stage::Closed;
        // The ledger refused, or its answer got lost on the way; only then there may be a hold.
        if error.reason() != Reason::BudgetExceeded && error.reason() != Reason::InvalidRequest {
            self.submit(What::ReleaseIfHeld(self.release(error.reason())));
        }
        Err(error)
    }

    /// The credential it is made with.
    pub(crate) fn key(&self) -> &Key {
        self.pass.key()
    }

    /// Whether it failed for its credential, and another one could be tried.
    pub(crate) fn may_switch(&self) -> bool {
        self.others
    }

    /// It is about to be sent; what is returned says later whether it really left.
    pub(crate) fn sending(&mut self) -> OnWire {
        self.stage = Stage::Sent;
        self.started = Instant::now();
        self.started_at = SystemTime::now();
        self.on_wire.clone()
    }

    /// Notes output as it comes.
    pub(crate) fn received(&mut self, output: &str) {
        self.first_output.get_or_insert_with(|| self.started.elapsed());
        self.received_chars += output.chars().count() as u64;
    }

    /// Notes output of so many bytes that can't be read.
    pub(crate) fn received_unreadable(&mut self, bytes: usize) {
        self.received_chars = self.received_chars.max(bytes as u64);
    }

    /// Notes the usage told so far.
    pub(crate) fn told(&mut self, tokens: Option<TokenCounts>) {
        self.told = tokens.or(self.told);
    }

    /// Notes the answer, or what there is of it.
    pub(crate) fn answered(&mut self, completion: &Completion) {
        self.provider_request_id.clone_from(&completion.provider_request_id);
        self.told(completion.tokens);
        observe::answered(&self.span, completion);
    }

    /// Notes the model that answered.
    pub(crate) fn answered_by(&self, model: &str) {
        observe::model(&self.span, model);
    }

    /// From the call's arrival to the first piece of output.
    pub(crate) fn time_to_first_token(&self) -> Option<Duration> {
        self.first_output.map(|since_sent| (self.started + since_sent).saturating_duration_since(self.plan.arrived))
    }

    /// Usage as callers see it: what it is so far.
    pub(crate) fn usage(&self) -> wire::Usage {
        let (tokens, estimated) = self.tokens();
        let prices = self.prices(&tokens);
        tokens.usage(prices.cost(&tokens), estimated || prices.estimated)
    }

    /// Ends it as a success.
    pub(crate) fn close_ok(&mut self, finish: FinishReason) -> wire::Attempt {
        let (tokens, estimated) = self.used(true);
        self.plan.backend.observe(Ok(()), self.first_output);
        self.pass.end(Told::Ok);
        self.close(&Outcome {
            outcome: AttemptOutcome::Ok,
            reason: Reason::Unspecified,
            message: "",
            http_status: 200,
            finish,
            tokens,
            estimated,
        })
    }

    /// Ends it as a failure.
    pub(crate) fn close_failed(&mut self, failure: &Failure) -> wire::Attempt {
        self.plan.backend.observe(Err(failure), self.first_output);
        self.pass.end(failure.ending());
        if let Ok(upstream) = &self.plan.backend.upstream {
            let ProviderError { reason, retry_after, .. } = failure.error;
            self.others = upstream.keys().refused(self.pass.key(), reason, retry_after);
        }
        let nothing_came = self.told.is_none() && self.received_chars == 0;
        let (tokens, estimated) = match failure.spent {
            Spent::Nothing => (TokenCounts::default(), false),
            Spent::Zero if nothing_came => (TokenCounts::default(), false),
            Spent::Zero | Spent::Something => self.tokens(),
        };
        let outcome = Outcome {
            outcome: AttemptOutcome::Failed,
            reason: failure.error.reason,
            message: &failure.error.message,
            http_status: failure.error.http_status,
            finish: FinishReason::Error,
            tokens,
            estimated,
        };
        if failure.spent == Spent::Nothing {
            self.stage = Stage::Held;
        }
        self.close(&outcome)
    }

    fn close(&mut self, outcome: &Outcome<'_>) -> wire::Attempt {
        let prices = self.prices(&outcome.tokens);
        match std::mem::replace(&mut self.stage, Stage::Closed) {
            Stage::Closed => {}
            Stage::Sent if self.on_wire.is_set() => {
                self.charge.used(outcome.tokens.input().saturating_add(outcome.tokens.output()));
                self.submit(What::Settle(Box::new(self.settlement(outcome, &prices))));
            }
            Stage::Held | Stage::Sent => self.submit(What::Release(self.release(outcome.reason))),
        }
        let usage = outcome.tokens.usage(prices.cost(&outcome.tokens), outcome.estimated || prices.estimated);
        let ended = observe::Ended {
            outcome: outcome.outcome,
            reason: outcome.reason,
            finish: outcome.finish,
            http_status: outcome.http_status,
            usage: &usage,
            first_output: self.first_output,
        };
        observe::ended(&self.span, &self.plan, &ended);
        self.span = Span::none();
        wire::Attempt {
            attempt_id: self.id.to_string(),
            backend: self.plan.backend.config.name.clone(),
            provider: self.plan.target.provider.clone(),
            model: self.plan.target.model.clone(),
            outcome: outcome.outcome.into(),
            reason: outcome.reason.into(),
            message: outcome.message.to_owned(),
            http_status: outcome.http_status.into(),
            started_at: Some(time::timestamp(self.started_at)),
            latency: Some(time::to_wire(self.started.elapsed())),
            time_to_first_token: self.first_output.map(time::to_wire),
            usage: Some(usage),
            provider_request_id: self.provider_request_id.clone(),
        }
    }

    /// What was used so far: as told, else estimated. True when we counted.
    fn tokens(&self) -> (TokenCounts, bool) {
        self.used(false)
    }

    /// The same, of a whole answer or of a part.
    fn used(&self, is_whole: bool) -> (TokenCounts, bool) {
        if !self.on_wire.is_set() {
            return (TokenCounts::default(), false);
        }
        let counted = estimate::tokens_of_chars(self.received_chars);
        estimate::used(self.told, self.plan.input_estimate, counted, is_whole)
    }

    /// Unit prices for what the prompt really was.
    fn prices(&self, tokens: &TokenCounts) -> UnitPrices {
        self.plan.backend.prices(&self.plan.model, tokens.input())
    }

    fn settlement(&self, outcome: &Outcome<'_>, prices: &UnitPrices) -> SettleRequest {
        SettleRequest {
            attempt_id: self.id.to_string(),
            used: Some(outcome.tokens.into()),
            outcome: outcome.outcome.into(),
            reason: outcome.reason.into(),
            finish_reason: outcome.finish.into(),
            tokens_estimated: outcome.estimated,
            latency: Some(time::to_wire(self.started.elapsed())),
            time_to_first_token: self.first_output.map(time::to_wire),
            provider_request_id: self.provider_request_id.clone(),
            prices: (*prices != self.plan.prices).then(|| prices.clone().into()),
        }
    }

    fn release(&self, reason: Reason) -> ReleaseRequest {
        ReleaseRequest { attempt_id: self.id.to_string(), reason: reason.into() }
    }

    fn submit(&self, what: What) {
        let place = self.place.clone();
        self.settler.submit(Ending { scope: self.plan.context.scope.clone(), what, place });
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.stage == Stage::Closed {
            return;
        }
        let (tokens, estimated) = self.tokens();
        let is_late = self.plan.context.deadline.remaining() <= LATE;
        let (outcome, reason, finish) = if is_late {
            (AttemptOutcome::Failed, Reason::DeadlineExceeded, FinishReason::Error)
        } else {
            (AttemptOutcome::Cancelled, Reason::Cancelled, FinishReason::Cancelled)
        };
        self.close(&Outcome { outcome, reason, message: "", http_status: 0, finish, tokens, estimated });
    }
}

fn reservation(id: AttemptId, plan: &Plan, key: &Key) -> ReserveRequest {
    let expires_at = SystemTime::now() + plan.context.deadline.remaining() + HOLD_GRACE;
    ReserveRequest {
        attempt_id: id.to_string(),
        request_id: plan.request_id.to_string(),
        backend: plan.backend.config.name.clone(),
        provider: plan.target.provider.clone(),
        model: plan.target.model.clone(),
        attribution: plan.attribution.clone(),
        worst_case: Some(plan.worst_case.into()),
        prices: Some(plan.prices.clone().into()),
        expires_at: Some(time::timestamp(expires_at)),
        credential: key.masked.clone(),
    }
}
