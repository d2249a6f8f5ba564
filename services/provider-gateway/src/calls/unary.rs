//! A generation in one piece.

use std::sync::Arc;

use bytes::Bytes;
use tutti_error::{Reason, Result};
use tutti_proto::gateway::v1::GenerateResponse;
use tutti_types::llm::Completion;

use super::{answer, tries::Tries};
use crate::{
    app::Gateway,
    attempt::Attempt,
    driver::{self, Clock, MAX_BODY_BYTES, Wait},
    error::Failure,
    plan::{Expectation, Plan},
};

/// The largest body that is handed on raw: with the answer beside it, a message stays below the mesh's bound.
const MAX_RAW_BYTES: usize = 8 * 1024 * 1024;

/// Makes the call.
///
/// # Errors
/// The ledger's refusal, or the last attempt's failure, with all attempts.
pub(crate) async fn generate(gateway: &Gateway, plan: Plan, expectation: &Expectation) -> Result<GenerateResponse> {
    let plan = Arc::new(plan);
    let mut tries = Tries::new(Arc::clone(&plan));
    loop {
        let mut attempt = tries.open(gateway).await?;
        match exchange(&plan, expectation, &mut attempt).await {
            Ok((completion, raw)) => {
                let finish = completion.finish.into();
                let attempts = tries.succeeded(attempt.close_ok(finish));
                let first_token = attempt.time_to_first_token();
                let mut response = answer::response(&plan, &completion, finish, attempts, first_token);
                if expectation.include_raw {
                    add_raw(&mut response, &raw);
                }
                return Ok(response);
            }
            Err(failure) => {
                let wait = tries.failed(&mut attempt, failure)?;
                tokio::time::sleep(wait).await;
            }
        }
    }
}

async fn exchange(
    plan: &Plan,
    expectation: &Expectation,
    attempt: &mut Attempt,
) -> Result<(Completion, Bytes), Failure> {
    let upstream = plan.backend.upstream().map_err(|error| Failure::unreached(error.reason(), error.message()))?;
    let on_wire = attempt.sending();
    let clock = Clock::start(&plan.backend.config.timeouts, plan.context.deadline);
    let response = upstream.send(plan.http.clone(), attempt.id, attempt.key(), on_wire, &clock, Wait::Whole).await?;
    let body = driver::collect(response, &clock, MAX_BODY_BYTES).await?;
    let completion = upstream.adapter().completion(&body, &plan.target).map_err(|error| {
        let failure = Failure::of_answer(error);
        if failure.error.reason == Reason::MalformedOutput {
            attempt.received_unreadable(body.len());
        }
        failure
    })?;
    attempt.answered(&completion);
    attempt.received(&completion.text());
    for call in &completion.tool_calls {
        attempt.received(&call.arguments);
    }
    expectation.checks.check(&completion).map_err(Failure::of_form)?;
    Ok((completion, body))
}

fn add_raw(response: &mut GenerateResponse, raw: &Bytes) {
    if raw.len() > MAX_RAW_BYTES {
        response.warnings.push("the provider's body is too large to be handed on raw".into());
    } else {
        response.raw = String::from_utf8_lossy(raw).into_owned();
    }
}
