//! What a turn asks the gateway.

use tutti_error::{Error, Reason, Result};
use tutti_layers::Attempts;
use tutti_proto::{
    gateway::v1::GenerateRequest,
    llm::v1::{RunLimits, ToolChoice, tool_choice::Mode},
};
use tutti_types::time;

use super::{Turn, prompt};

impl Turn {
    /// What the backend in use is asked.
    pub(super) fn request(&self, limits: RunLimits) -> GenerateRequest {
        let (chat, taken) = (&self.ask.chat, self.taken());
        let shown = self.shown.as_deref().unwrap_or_default();
        let system = prompt::system_message(taken.persona.as_ref(), &[shown, &chat.messages]);
        let messages = [shown, &chat.messages, &self.tally.rounds].into_iter().flatten().cloned();
        GenerateRequest {
            request_id: self.ask.id.to_string(),
            backend: taken.backend.name.clone(),
            model: taken.model.clone(),
            messages: system.into_iter().chain(messages).chain(self.continuation()).collect(),
            tools: self.plan.definitions.clone(),
            tool_choice: self.tool_choice(),
            response_format: chat.response_format.clone(),
            sampling: Some(prompt::sampling(chat.sampling.as_ref(), self.plan.decision.max_output_tokens, taken)),
            attribution: chat.attribution.clone(),
            limits: Some(limits),
            include_raw: chat.include_raw,
        }
    }

    /// A forced choice holds for the first round: after it, the model must be able to answer.
    fn tool_choice(&self) -> Option<ToolChoice> {
        let mut choice = self.ask.chat.tool_choice.clone()?;
        if self.tally.tool_rounds > 0 && matches!(choice.mode(), Mode::Required | Mode::Tool) {
            choice.set_mode(Mode::Auto);
            choice.tool_name.clear();
        }
        Some(choice)
    }

    /// The attempts that a generation may cause, for those below who send or ask again.
    pub(super) fn cap(limits: Option<&RunLimits>) -> Attempts {
        let limits = limits.copied().unwrap_or_default();
        let cap = Attempts::at_most(limits.max_attempts);
        if limits.max_cost_nano_usd > 0 { cap.never_after_loss() } else { cap }
    }

    /// What is left of the turn's bounds.
    pub(super) fn limits(&self) -> Result<RunLimits> {
        let bounds = &self.ask.bounds;
        let (sent, max) = (self.tally.sent(), bounds.attempts(self.tally.tool_rounds));
        if sent >= max {
            let message = format!("{sent} attempts were made; allow more with limits.max_attempts");
            return Err(Error::new(Reason::AttemptsExceeded, message));
        }
        let spent = self.tally.usage().cost_nano_usd;
        if bounds.max_cost.is_some_and(|cap| spent >= cap) {
            let message = "the turn has used up limits.max_cost_nano_usd";
            return Err(Error::new(Reason::BudgetExceeded, message));
        }
        // The gateway tries a backend several times: one attempt is kept for each of those after it.
        let later = u32::try_from(self.plan.decision.taken.len() - self.at - 1).unwrap_or(u32::MAX);
        Ok(RunLimits {
            max_attempts: (max - sent).saturating_sub(later).max(1),
            max_cost_nano_usd: bounds.max_cost.map_or(0, |cap| cap - spent),
            max_tool_rounds: bounds.max_tool_rounds,
            timeout: Some(time::to_wire(self.context.deadline.remaining())),
        })
    }
}
