//! `Reserve`, `Settle`, `Release`.

use tutti_error::{Error, Result};
use tutti_proto::{ledger::v1 as wire, llm::v1::AttemptOutcome};
use tutti_types::AttemptId;

use super::field;
use crate::domain::{Release, Reservation, Settlement};

/// Bound of a name, in bytes.
const MAX_NAME: usize = 256;
/// Bound of a request's id, in bytes: callers may choose their own.
const MAX_REQUEST_ID: usize = 128;
/// A provider's id is cut here, in characters: a long one is no reason to lose a settlement.
const PROVIDER_ID: usize = 256;

pub(super) fn reservation(asked: wire::ReserveRequest) -> Result<Reservation> {
    let expires_at = asked.expires_at.ok_or_else(|| Error::invalid("expires_at", "is required"))?;
    Ok(Reservation {
        attempt_id: attempt_id(&asked.attempt_id)?,
        request_id: field::required("request_id", asked.request_id, MAX_REQUEST_ID)?,
        backend: field::required("backend", asked.backend, MAX_NAME)?,
        provider: field::required("provider", asked.provider, MAX_NAME)?,
        model: field::required("model", asked.model, MAX_NAME)?,
        credential: field::text("credential", asked.credential)?,
        attribution: field::attribution(asked.attribution)?,
        worst_case: field::tokens("worst_case", asked.worst_case)?,
        prices: field::prices("prices", asked.prices.unwrap_or_default())?,
        expires_at: field::moment("expires_at", &expires_at)?,
    })
}

pub(super) fn settlement(told: wire::SettleRequest) -> Result<Settlement> {
    let outcome = match field::known("outcome", told.outcome)? {
        AttemptOutcome::Unspecified => return Err(Error::invalid("outcome", "is required")),
        AttemptOutcome::Skipped => {
            return Err(Error::invalid("outcome", "an attempt that was never sent is released, not settled"));
        }
        outcome => outcome,
    };
    let duration = |name, value: Option<prost_types::Duration>| value.map(|v| field::duration(name, &v)).transpose();
    Ok(Settlement {
        attempt_id: attempt_id(&told.attempt_id)?,
        used: field::tokens("used", told.used)?,
        prices: told.prices.map(|prices| field::prices("prices", prices)).transpose()?,
        outcome,
        reason: field::known("reason", told.reason)?,
        finish_reason: field::known("finish_reason", told.finish_reason)?,
        tokens_estimated: told.tokens_estimated,
        latency: duration("latency", told.latency)?,
        time_to_first_token: duration("time_to_first_token", told.time_to_first_token)?,
        provider_request_id: told.provider_request_id.chars().filter(|c| !c.is_control()).take(PROVIDER_ID).collect(),
    })
}

pub(super) fn result(of: Result<wire::SettleResponse>) -> wire::SettleResult {
    use wire::settle_result::Result::{Refused, Settled};
    let result = match of {
        Ok(settled) => Settled(settled),
        Err(error) => {
            Refused(wire::SettleRefusal { reason: error.reason().into(), message: error.message().to_owned() })
        }
    };
    wire::SettleResult { result: Some(result) }
}

pub(super) fn release(told: &wire::ReleaseRequest) -> Result<Release> {
    Ok(Release { attempt_id: attempt_id(&told.attempt_id)?, reason: field::known("reason", told.reason)? })
}

fn attempt_id(text: &str) -> Result<AttemptId> {
    if text.is_empty() {
        return Err(Error::invalid("attempt_id", "is required"));
    }
    AttemptId::parse(text)
}
