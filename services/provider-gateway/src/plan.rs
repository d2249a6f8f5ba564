//! What a call is going to do, decided before anything is reserved or sent.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tutti_error::{Error, Reason, Result};
use tutti_layers::CallContext;
use tutti_proto::{
    gateway::v1::{EmbedRequest, GenerateRequest},
    llm::v1::{Attribution, RunLimits},
};
use tutti_providers::{HttpRequest, Target};
use tutti_types::{
    Deadline, NanoUsd, RequestId, TokenCounts, UnitPrices,
    llm::{Generation, generation_from_wire},
    time,
};

use crate::{
    backends::Backend,
    domain::{
        catalogue::Catalogue,
        estimate,
        resolve::{Resolved, vendor_of},
        validate::Checks,
    },
    observe,
};

/// The most inputs of one embedding call.
const MAX_INPUTS: usize = 2048;

/// The most attempts of a call that says nothing about them, as `RunLimits` promises.
const MAX_ATTEMPTS: u32 = 10;

/// What is asked of the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// A generation.
    Chat,
    /// Embeddings.
    Embeddings,
}

impl Operation {
    /// As OpenTelemetry calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Embeddings => "embeddings",
        }
    }
}

/// What all attempts of a call share.
#[derive(Debug)]
pub(crate) struct Plan {
    /// What is asked for.
    pub(crate) operation: Operation,
    /// The caller's request.
    pub(crate) request_id: RequestId,
    /// When it came.
    pub(crate) arrived: Instant,
    /// Who calls, and until when.
    pub(crate) context: CallContext,
    /// On whose behalf.
    pub(crate) attribution: Option<Attribution>,
    /// Whom to call.
    pub(crate) backend: Arc<Backend>,
    /// The model.
    pub(crate) model: Resolved,
    /// The same for the adapter.
    pub(crate) target: Target,
    /// The HTTP request, made anew from this for every attempt.
    pub(crate) http: HttpRequest,
    /// The most that all its attempts may cost together; how many there may be is in the context.
    pub(crate) max_cost: Option<NanoUsd>,
    /// What is reserved.
    pub(crate) worst_case: TokenCounts,
    /// Unit prices at the worst case.
    pub(crate) prices: UnitPrices,
    /// Input tokens as we count them, for the books where the provider told nothing.
    pub(crate) input_estimate: u64,
    /// What was dropped or assumed so far, in words.
    pub(crate) warnings: Vec<String>,
    /// What a trace is shown of the prompt: usually nothing.
    pub(crate) prompt: Option<String>,
}

/// What a generation needs besides.
#[derive(Debug)]
pub(crate) struct Expectation {
    /// What is checked of the answer.
    pub(crate) checks: Checks,
    /// Put the provider's body into the answer.
    pub(crate) include_raw: bool,
}

/// Plans a generation, streamed or not.
///
/// # Errors
/// INVALID_REQUEST, UNKNOWN_BACKEND, UNKNOWN_MODEL, BACKEND_NOT_USABLE, UNSUPPORTED, BUDGET_EXCEEDED.
pub(crate) fn generation(
    backend: Arc<Backend>,
    catalogue: &Catalogue,
    request: &GenerateRequest,
    context: CallContext,
    stream: bool,
) -> Result<(Plan, Expectation)> {
    let arrived = Instant::now();
    let mut generation = generation_from_wire(
        "",
        &request.messages,
        &request.tools,
        request.tool_choice.as_ref(),
        request.response_format.as_ref(),
        request.sampling.as_ref(),
    )?;
    let checks = Checks::new(&generation)?;
    let model = backend.resolve(catalogue, &request.model)?;
    let target = backend.target(&model);
    let mut warnings = Vec::new();
    let cap = output_cap(&mut generation, &backend, &target, &mut warnings);
    let mut http = backend.upstream()?.adapter().generate(&generation, &target, stream)?;
    warnings.append(&mut http.warnings);
    if stream && request.include_raw {
        warnings.push("raw is not kept of a stream; ask with Generate".into());
    }
    let bound = input_bound(estimate::input_bound(&generation), &model);
    let prices = backend.prices(&model, bound);
    let worst_case = estimate::worst_case(bound, cap.into(), estimate::cache_wish(&generation), &prices);
    let plan = Plan {
        operation: Operation::Chat,
        prompt: observe::prompt(&request.messages),
        request_id: RequestId::parse_or_generate(&request.request_id)?,
        arrived,
        context: bounded(context, request.limits.as_ref()),
        attribution: request.attribution.clone(),
        input_estimate: estimate::input_estimate(&generation),
        backend,
        model,
        target,
        http,
        max_cost: max_cost(request.limits.as_ref()),
        worst_case,
        prices,
        warnings,
    };
    plan.check_cost()?;
    Ok((plan, Expectation { checks, include_raw: request.include_raw && !stream }))
}

/// Plans an embedding.
///
/// # Errors
/// As for a generation.
pub(crate) fn embedding(
    backend: Arc<Backend>,
    catalogue: &Catalogue,
    request: &EmbedRequest,
    context: CallContext,
) -> Result<Plan> {
    let arrived = Instant::now();
    check_inputs(&request.inputs)?;
    let model = embedding_model(&backend, catalogue, &request.model)?;
    let target = backend.target(&model);
    let dimensions = (request.dimensions > 0).then_some(request.dimensions);
    let mut http = backend.upstream()?.adapter().embed(&request.inputs, dimensions, &target)?;
    let bound = estimate::texts_bound(&request.inputs);
    let prices = backend.prices(&model, bound);
    let plan = Plan {
        operation: Operation::Embeddings,
        prompt: None,
        request_id: RequestId::parse_or_generate(&request.request_id)?,
        arrived,
        context: bounded(context, request.limits.as_ref()),
        attribution: request.attribution.clone(),
        input_estimate: estimate::texts_estimate(&request.inputs),
        backend,
        model,
        target,
        warnings: std::mem::take(&mut http.warnings),
        http,
        max_cost: max_cost(request.limits.as_ref()),
        worst_case: TokenCounts { fresh_input: bound, ..TokenCounts::default() },
        prices,
    };
    plan.check_cost()?;
    Ok(plan)
}

impl Plan {
    /// What is held: the price of the worst case.
    pub(crate) fn hold(&self) -> NanoUsd {
        self.prices.cost(&self.worst_case)
    }

    /// Whether another attempt stays within the cost bound when so much was spent before.
    pub(crate) fn affords(&self, spent: NanoUsd) -> bool {
        self.max_cost.is_none_or(|most| self.hold().0.saturating_add(spent.0) <= most.0)
    }

    /// Input and output cap: what a rate limit is charged before the call.
    pub(crate) fn token_estimate(&self) -> u64 {
        self.input_estimate.saturating_add(self.worst_case.output())
    }

    fn check_cost(&self) -> Result<()> {
        match self.max_cost {
            Some(most) if !self.affords(NanoUsd(0)) => {
                let message = format!("this call may cost up to {}, more than its bound of {most}", self.hold());
                Err(Error::new(Reason::BudgetExceeded, message))
            }
            _ => Ok(()),
        }
    }
}

fn max_cost(limits: Option<&RunLimits>) -> Option<NanoUsd> {
    limits.map(|limits| NanoUsd(limits.max_cost_nano_usd)).filter(|most| most.0 > 0)
}

/// The call until its own limit, if that is nearer, and with its own cap on attempts, if that is lower.
fn bounded(mut context: CallContext, limits: Option<&RunLimits>) -> CallContext {
    let most = limits.map(|limits| limits.max_attempts).filter(|most| *most > 0);
    context.attempts = context.attempts.no_more_than(most.unwrap_or(MAX_ATTEMPTS));
    let timeout = limits.and_then(|limits| limits.timeout.as_ref()).map(time::from_wire);
    match timeout.filter(|timeout| *timeout > Duration::ZERO) {
        // Longer than any call may take; larger ones don't fit on the clock.
        Some(timeout) => context.no_later_than(Deadline::after(timeout.min(Duration::from_secs(86_400)))),
        None => context,
    }
}

/// Fills in what the caller left open; the output cap, which is always sent, is the caller's, else the backend's, and
/// never above what the model can.
fn output_cap(generation: &mut Generation, backend: &Backend, target: &Target, warnings: &mut Vec<String>) -> u32 {
    let sampling = &mut generation.sampling;
    sampling.temperature = sampling.temperature.or(backend.config.temperature);
    let asked = sampling.max_output_tokens;
    let most = target.max_output_tokens.unwrap_or(u32::MAX);
    let cap = asked.unwrap_or(backend.config.max_output_tokens).min(most);
    if asked.is_some_and(|asked| asked > cap) {
        warnings.push(format!("max_output_tokens was lowered to {cap}, the most that {} can", target.model));
    }
    sampling.max_output_tokens = Some(cap);
    cap
}

/// A prompt above the window is refused by the provider, so it can't cost more than the window.
fn input_bound(bound: u64, model: &Resolved) -> u64 {
    model.model.as_ref().and_then(|known| known.context_window).map_or(bound, |window| bound.min(window))
}

fn check_inputs(inputs: &[String]) -> Result<()> {
    if inputs.is_empty() || inputs.len() > MAX_INPUTS {
        return Err(Error::invalid("inputs", format!("1 to {MAX_INPUTS} texts are taken")));
    }
    match inputs.iter().position(String::is_empty) {
        Some(empty) => Err(Error::invalid(format!("inputs[{empty}]"), "is empty")),
        None => Ok(()),
    }
}

fn embedding_model(backend: &Backend, catalogue: &Catalogue, name: &str) -> Result<Resolved> {
    if !name.is_empty() {
        return backend.resolve(catalogue, name);
    }
    let vendor = vendor_of(backend.provider);
    if let Some(model) = catalogue.default_embedding(vendor) {
        return Ok(Resolved { wire: model.id.clone(), model: Some(Arc::clone(model)) });
    }
    // A server of its own has what it was configured with; a provider of the catalogue would be listed.
    if catalogue.has_provider(vendor) {
        let message = format!("{} has no embedding model; name another backend", backend.provider);
        return Err(Error::new(Reason::Unsupported, message));
    }
    backend.resolve(catalogue, "")
}
