//! `Route` and `ListBackends`.

use tutti_error::Result;
use tutti_layers::CallContext;
use tutti_proto::{
    gateway::v1::BackendStatus,
    router::v1::{Candidate, ChatRequest, ListBackendsRequest, ListBackendsResponse, RouteResponse},
};

use crate::{
    app::Desk,
    domain::{
        ask::Ask,
        candidates,
        route::{Left, Taken},
        rules::Rules,
    },
};

/// What Chat would do. A request that no backend can take is explained, not refused.
pub(crate) async fn route(desk: &Desk, context: &CallContext, chat: ChatRequest) -> Result<RouteResponse> {
    let ask = Ask::read(chat, "chat.", false)?;
    let plan = desk.planner.plan(context, &ask).await?;
    let max_output_tokens = plan.max_output(&ask);
    let persona = plan.decision.taken.first().and_then(|t| t.persona.as_ref()).map(|p| p.id.clone());
    let taken = (1..).zip(&plan.decision.taken).map(|(place, taken)| candidate_taken(place, taken));
    let left = plan.decision.left.iter().map(candidate_left);
    Ok(RouteResponse {
        task_type: plan.decision.task_type.clone(),
        task_type_from: plan.decision.task_from.to_string(),
        persona: persona.unwrap_or_default(),
        candidates: taken.chain(left).collect(),
        max_output_tokens,
        prompt_tokens: plan.prompt_tokens,
    })
}

fn candidate_taken(place: u32, taken: &Taken) -> Candidate {
    Candidate {
        backend: taken.backend.name.clone(),
        model: taken.asked_model().to_owned(),
        place,
        explanation: taken.why.clone(),
        ..Default::default()
    }
}

fn candidate_left(left: &Left) -> Candidate {
    Candidate {
        backend: left.backend.clone(),
        model: left.model.clone(),
        place: 0,
        left_because: left.because.into(),
        explanation: left.why.clone(),
    }
}

/// All backends, as last known or probed now.
pub(crate) async fn list_backends(
    desk: &Desk,
    context: &CallContext,
    request: &ListBackendsRequest,
) -> Result<ListBackendsResponse> {
    let directory = &desk.planner.directory;
    let backends = if request.probe { directory.probe(context).await? } else { directory.backends().await? };
    let default_backend = default_backend(&desk.planner.rules, &backends);
    Ok(ListBackendsResponse { backends: backends.to_vec(), default_backend })
}

/// The first usable backend of the global chain, else the first usable one, else the configured one.
fn default_backend(rules: &Rules, backends: &[BackendStatus]) -> String {
    let of_chain = rules.global_chain().filter_map(|name| candidates::find(name, backends)).find(|b| b.usable);
    let any = || backends.iter().find(|b| b.usable);
    of_chain.or_else(any).map_or_else(|| rules.default_backend.clone(), |b| b.name.clone())
}
