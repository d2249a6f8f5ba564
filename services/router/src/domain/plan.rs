//! What a turn will do, before it does anything: the decision and the tools.

use std::sync::Arc;

use tutti_error::{Error, Reason, Result};
use tutti_layers::CallContext;
use tutti_proto::{gateway::v1::BackendStatus, llm::v1::Tool};

use super::{
    ask::Ask,
    candidates,
    needs::{self, Needs},
    prompt,
    route::{self, Decision, Question},
    rules::Rules,
    tools::ToolSet,
};
use crate::clients::{Directory, Ports};

/// What a turn will do.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) decision: Decision,
    pub(crate) tools: ToolSet,
    /// The tools as the model is shown them.
    pub(crate) definitions: Vec<Tool>,
    /// An estimate of the new messages and the tools.
    pub(crate) prompt_tokens: i64,
}

impl Plan {
    /// The output cap that the first backend would be sent; 0 when there is none.
    pub(crate) fn max_output(&self, ask: &Ask) -> u32 {
        let asked = ask.chat.sampling.as_ref().and_then(|s| s.max_output_tokens);
        self.decision.taken.first().map_or(0, |taken| prompt::max_output(asked, self.decision.max_output_tokens, taken))
    }
}

/// Makes plans.
pub(crate) struct Planner {
    pub(crate) rules: Arc<Rules>,
    pub(crate) ports: Ports,
    pub(crate) directory: Directory,
}

impl Planner {
    /// Decides about a request, without doing anything.
    ///
    /// # Errors
    /// Names that aren't known (backend, model, persona, tool, task type), tools that are off, and what the gateway and
    /// the sandbox answer. That no backend can take it is no error here: [`Decision::require`].
    pub(crate) async fn plan(&self, context: &CallContext, ask: &Ask) -> Result<Plan> {
        let backends = self.directory.backends().await?;
        let known = if ask.chat.mesh_tools.is_empty() { Vec::new() } else { self.ports.tools.list(context).await? };
        let tools = ToolSet::choose(ask, &known)?;
        let definitions = tools.definitions();
        let prompt_tokens = needs::estimate(&ask.chat.messages, &definitions);
        let question = Question {
            task_type: &ask.chat.task_type,
            persona: &ask.chat.persona,
            backend: &ask.chat.backend,
            model: &ask.chat.model,
            serving: self.serving(ask, &backends).await?,
            exclude: &ask.chat.exclude_backends,
            last_user_text: ask.last_user_text(),
            needs: Needs::of(&ask.chat, ask.streamed),
            prompt_tokens,
            path: ask.path,
        };
        let decision = route::decide(&self.rules, &backends, &question)?;
        Ok(Plan { decision, tools, definitions, prompt_tokens })
    }

    /// The backends that can serve the model that the caller named without a backend.
    async fn serving(&self, ask: &Ask, backends: &[BackendStatus]) -> Result<Option<Vec<String>>> {
        let model = ask.chat.model.as_str();
        // Beside a backend, the model is the gateway's to check.
        if model.is_empty() || !ask.chat.backend.is_empty() {
            return Ok(None);
        }
        self.serving_model(model, backends).await.map(Some)
    }

    /// The names of the backends that can serve a model: at least one.
    ///
    /// # Errors
    /// BACKEND_NOT_USABLE when no backend is configured for it, UNKNOWN_MODEL with the nearest names.
    pub(crate) async fn serving_model(&self, model: &str, backends: &[BackendStatus]) -> Result<Vec<String>> {
        let plainly = candidates::plainly_serving(model, backends);
        if !plainly.is_empty() {
            return Ok(plainly);
        }
        let models = self.directory.models(model).await?;
        let serving = candidates::serving(model, &models, backends);
        if !serving.is_empty() {
            return Ok(serving);
        }
        let is_it = |m: &&tutti_proto::gateway::v1::Model| m.id == model || m.aliases.iter().any(|a| a == model);
        if let Some(known) = models.iter().find(is_it) {
            let message = format!("no backend is configured for \"{model}\" of {}", known.provider);
            return Err(Error::new(Reason::BackendNotUsable, message));
        }
        let all = self.directory.models("").await?;
        let names = all.iter().flat_map(|m| std::iter::once(&m.id).chain(&m.aliases)).map(String::as_str);
        let own = backends.iter().map(|b| b.model.as_str());
        Err(Error::unknown(Reason::UnknownModel, "model", model, names.chain(own)))
    }
}
