//! What a backend is shown and how it is asked: persona, sampling, budget of the context.

use tutti_config::{Persona, ThinkingStyle, Verbosity};
use tutti_proto::llm::v1::{Message, Role, Sampling};

use super::route::Taken;

/// The persona's system message, unless the conversation has one already.
pub(crate) fn system_message(persona: Option<&Persona>, conversation: &[&[Message]]) -> Option<Message> {
    let persona = persona?;
    if conversation.iter().flat_map(|messages| messages.iter()).any(|m| m.role() == Role::System) {
        return None;
    }
    let mut text = persona.system_prompt.trim().to_owned();
    let verbosity = match persona.verbosity {
        Verbosity::Concise => "Answer in as few words as the question takes.",
        Verbosity::Normal => "",
        Verbosity::Verbose => "Answer at length: give the background, the alternatives and examples.",
    };
    let thinking = match persona.thinking_style {
        ThinkingStyle::Direct => "",
        ThinkingStyle::StepByStep => "Work step by step.",
        ThinkingStyle::DeepReasoning => "Think the matter through from several sides before you answer.",
    };
    for sentence in [verbosity, thinking].into_iter().filter(|s| !s.is_empty()) {
        text.push_str("\n\n");
        text.push_str(sentence);
    }
    Some(Message { role: Role::System.into(), text, ..Default::default() })
}

/// The output cap: the caller's, else the task type's, else that of the persona that the caller named, else what is
/// written for the backend, else the backend's persona's, else the backend's default.
pub(crate) fn max_output(asked: Option<u32>, task: Option<u32>, taken: &Taken) -> u32 {
    let of_backend = u32::try_from(taken.backend.max_output_tokens).unwrap_or(u32::MAX);
    let of_persona = taken.persona.as_ref().map(|p| p.max_tokens);
    let named = of_persona.filter(|_| taken.persona_named);
    let written = taken.own_cap.then_some(of_backend);
    asked.or(task).or(named).or(written).or(of_persona).unwrap_or(of_backend)
}

/// The caller's sampling with what it leaves open: output cap and temperature.
pub(crate) fn sampling(asked: Option<&Sampling>, task_cap: Option<u32>, taken: &Taken) -> Sampling {
    let mut sampling = asked.cloned().unwrap_or_default();
    sampling.max_output_tokens = Some(max_output(sampling.max_output_tokens, task_cap, taken));
    let of_persona = taken.persona.as_ref().map(|p| p.temperature);
    let named = of_persona.filter(|_| taken.persona_named);
    sampling.temperature = sampling.temperature.or(named).or(taken.backend.temperature).or(of_persona);
    sampling
}

/// The tokens that a session's context and the new messages may take together: within the fit, with room for the
/// answer, but at least half of the fit.
pub(crate) fn context_budget(taken: &Taken, max_output: u32, system_and_tools: i64) -> i64 {
    let room = taken.backend.context_window.saturating_sub(i64::from(max_output));
    (taken.budget.min(room) - system_and_tools).max(taken.budget / 2).max(1)
}

#[cfg(test)]
mod tests {
    use tutti_proto::gateway::v1::BackendStatus;

    use super::*;
    use crate::domain::fakes::rules;

    fn user() -> Message {
        Message { role: Role::User.into(), text: "hi".into(), ..Default::default() }
    }

    #[test]
    fn a_persona_speaks_first_unless_somebody_did() {
        let rules = rules();
        let architect = rules.personas.get("architect");
        let system = system_message(architect, &[&[], &[user()]]).unwrap();
        assert!(system.text.starts_with("You design software systems"));
        assert!(system.text.ends_with("from several sides before you answer."));
        let concise = system_message(rules.personas.get("local-coder"), &[]).unwrap();
        assert!(concise.text.contains("few words"));
        assert_eq!(system_message(architect, &[&[system], &[user()]]), None);
        assert_eq!(system_message(None, &[&[user()]]), None);
    }

    fn taken(backend: BackendStatus, persona: Option<&Persona>) -> Taken {
        Taken {
            backend,
            model: String::new(),
            persona: persona.cloned(),
            persona_named: false,
            own_cap: false,
            budget: 6_553,
            why: String::new(),
        }
    }

    #[test]
    fn the_callers_numbers_win_over_task_persona_and_backend() {
        let rules = rules();
        let backend = BackendStatus { max_output_tokens: 4096, ..Default::default() };
        let mut taken = taken(backend, rules.personas.get("fast-parser"));
        assert_eq!(max_output(Some(1), Some(2), &taken), 1);
        assert_eq!(max_output(None, Some(2), &taken), 2);
        assert_eq!(max_output(None, None, &taken), 2000);
        let asked = Sampling { temperature: Some(1.5), ..Default::default() };
        assert_eq!(sampling(Some(&asked), None, &taken).temperature, Some(1.5));
        assert_eq!(sampling(None, None, &taken).temperature, Some(0.2));
        taken.persona = None;
        assert_eq!(max_output(None, None, &taken), 4096);
        assert_eq!(sampling(None, None, &taken).temperature, None);
    }

    #[test]
    fn what_is_written_for_a_backend_beats_a_persona_that_nobody_named() {
        let rules = rules();
        let backend = BackendStatus { max_output_tokens: 700, temperature: Some(0.9), ..Default::default() };
        let mut taken = taken(backend, rules.personas.get("fast-parser"));
        taken.own_cap = true;
        assert_eq!(max_output(None, None, &taken), 700);
        assert_eq!(sampling(None, None, &taken).temperature, Some(0.9));
        taken.persona_named = true;
        assert_eq!(max_output(None, None, &taken), 2000);
        assert_eq!(sampling(None, None, &taken).temperature, Some(0.2));
    }

    #[test]
    fn a_context_leaves_room_for_the_answer() {
        let backend = BackendStatus { context_window: 8_192, ..Default::default() };
        let taken = taken(backend, None);
        assert_eq!(context_budget(&taken, 2_000, 192), 6_000);
        assert_eq!(context_budget(&taken, 8_000, 0), 3_276);
    }
}
