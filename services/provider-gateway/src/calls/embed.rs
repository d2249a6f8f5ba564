//! Embeddings.

use std::sync::Arc;

use tutti_error::Result;
use tutti_proto::{
    gateway::v1::{EmbedResponse, Embedding},
    llm::v1::{self as wire, FinishReason},
};
use tutti_providers::Embeddings;
use tutti_types::TokenCounts;

use super::{answer, tries::Tries};
use crate::{
    app::Gateway,
    attempt::Attempt,
    driver::{self, Clock, MAX_VECTORS_BYTES, Wait},
    error::Failure,
    plan::Plan,
};

/// Makes the call.
///
/// # Errors
/// The ledger's refusal, or the last attempt's failure, with all attempts.
pub(crate) async fn embed(gateway: &Gateway, plan: Plan, count: usize) -> Result<EmbedResponse> {
    let plan = Arc::new(plan);
    let mut tries = Tries::new(Arc::clone(&plan));
    loop {
        let mut attempt = tries.open(gateway).await?;
        match exchange(&plan, count, &mut attempt).await {
            Ok(embeddings) => {
                let attempts = tries.succeeded(attempt.close_ok(FinishReason::Stop));
                return Ok(response(&plan, embeddings, attempts));
            }
            Err(failure) => {
                let wait = tries.failed(&mut attempt, failure)?;
                tokio::time::sleep(wait).await;
            }
        }
    }
}

fn response(plan: &Plan, embeddings: Embeddings, attempts: Vec<wire::Attempt>) -> EmbedResponse {
    let model = if embeddings.model.is_empty() { plan.target.model.clone() } else { embeddings.model };
    EmbedResponse {
        request_id: plan.request_id.to_string(),
        embeddings: embeddings.vectors.into_iter().map(|values| Embedding { values }).collect(),
        usage: Some(answer::sum(&attempts)),
        backend: plan.backend.config.name.clone(),
        model,
        attempts,
    }
}

async fn exchange(plan: &Plan, count: usize, attempt: &mut Attempt) -> Result<Embeddings, Failure> {
    let upstream = plan.backend.upstream().map_err(|error| Failure::unreached(error.reason(), error.message()))?;
    let on_wire = attempt.sending();
    let clock = Clock::start(&plan.backend.config.timeouts, plan.context.deadline);
    let response = upstream.send(plan.http.clone(), attempt.id, attempt.key(), on_wire, &clock, Wait::Whole).await?;
    let body = driver::collect(response, &clock, MAX_VECTORS_BYTES).await?;
    let embeddings = upstream.adapter().embeddings(&body, count).map_err(Failure::of_answer)?;
    let tokens = embeddings.input_tokens.map(|input| TokenCounts { fresh_input: input, ..TokenCounts::default() });
    attempt.told(tokens);
    attempt.answered_by(&embeddings.model);
    attempt.received("");
    Ok(embeddings)
}
