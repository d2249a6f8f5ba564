use tutti_proto::gateway::v1::{CircuitBreaker, ModelCapabilities};

use super::*;
use crate::domain::fakes::rules;

fn backend(name: &str, model: &str, window: i64) -> BackendStatus {
    BackendStatus {
        name: name.into(),
        model: model.into(),
        provider: name.into(),
        usable: true,
        context_window: window,
        max_output_tokens: 4096,
        capabilities: Some(ModelCapabilities { tools: true, streaming: true, json_schema: true, ..Default::default() }),
        ..Default::default()
    }
}

/// The five backends of the requirement.
fn five() -> Vec<BackendStatus> {
    let mut ollama = backend("ollama", "deepseek-coder:latest", 8_192);
    ollama.local = true;
    ollama.capabilities = Some(ModelCapabilities { streaming: true, ..Default::default() });
    vec![
        backend("claude", "claude-sonnet-4.5-20250929", 200_000),
        backend("openai", "gpt-4o", 128_000),
        backend("gemini", "gemini-2-flash", 1_000_000),
        ollama,
        backend("opus", "claude-opus-4-5-20251101", 200_000),
    ]
}

fn taken(decision: &Decision) -> Vec<&str> {
    decision.taken.iter().map(|t| t.backend.name.as_str()).collect()
}

fn because(decision: &Decision, name: &str) -> LeftBecause {
    decision.left.iter().find(|l| l.backend == name).unwrap().because
}

fn ask(text: &str) -> Question<'static> {
    Question { last_user_text: text.into(), ..Default::default() }
}

#[test]
fn each_task_type_has_its_chain() {
    let decide = |question: &Question<'_>| decide(&rules(), &five(), question).unwrap();
    assert_eq!(taken(&decide(&ask("hi"))), ["claude", "openai", "gemini", "ollama"]);
    assert_eq!(taken(&decide(&ask("design a database"))), ["opus", "claude", "openai", "gemini"]);
    assert_eq!(taken(&decide(&ask("implement it"))), ["openai", "claude", "ollama"]);
    assert_eq!(taken(&decide(&ask("summarize it"))), ["gemini", "openai", "claude"]);
    let review = Question { task_type: "code_review", ..Default::default() };
    let decision = decide(&review);
    assert_eq!(taken(&decision), ["openai", "opus"]);
    assert_eq!(decision.max_output_tokens, Some(2048));
}

#[test]
fn a_persona_puts_its_backends_first() {
    let question = Question { persona: "architect", ..Default::default() };
    let decision = decide(&rules(), &five(), &question).unwrap();
    assert_eq!(taken(&decision), ["opus", "claude", "openai", "gemini"]);
    assert_eq!(decision.task_from, TaskFrom::Persona);
    let question = Question { persona: "reviewer", ..Default::default() };
    assert_eq!(taken(&decide(&rules(), &five(), &question).unwrap()), ["claude", "openai", "opus", "gemini"]);
}

#[test]
fn architecture_never_goes_to_a_local_model_unless_it_is_named() {
    let only_local: Vec<_> = five().into_iter().filter(|b| b.name == "ollama").collect();
    let decision = decide(&rules(), &only_local, &ask("design it")).unwrap();
    assert!(decision.taken.is_empty());
    assert_eq!(because(&decision, "ollama"), LeftBecause::Rule);
    assert_eq!(decision.require().unwrap_err().reason(), Reason::Unsupported);
    let named = Question { backend: "ollama", ..ask("design it") };
    assert_eq!(taken(&decide(&rules(), &only_local, &named).unwrap()), ["ollama"]);
}

#[test]
fn a_mesh_that_has_only_the_simulator_answers() {
    let mut backends = five();
    backends.iter_mut().for_each(|b| b.usable = false);
    let mut simulator = backend("simulator", "echo", 8_192);
    (simulator.local, simulator.simulator) = (true, true);
    backends.push(simulator);
    for text in ["hi", "design it", "implement it"] {
        let decision = decide(&rules(), &backends, &ask(text)).unwrap();
        assert_eq!(taken(&decision), ["simulator"]);
        assert_eq!(because(&decision, "claude"), LeftBecause::NotUsable);
    }
}

#[test]
fn a_prompt_over_80_percent_switches_to_a_larger_window() {
    let question = Question { prompt_tokens: 102_401, ..ask("implement it") };
    let decision = decide(&rules(), &five(), &question).unwrap();
    assert_eq!(taken(&decision), ["claude"]);
    assert_eq!(because(&decision, "openai"), LeftBecause::Window);
    let fits = Question { prompt_tokens: 102_400, ..ask("implement it") };
    assert_eq!(taken(&decide(&rules(), &five(), &fits).unwrap()), ["openai", "claude"]);
    let mut fixed = rules();
    fixed.auto_switch_on_context_limit = false;
    assert_eq!(taken(&decide(&fixed, &five(), &question).unwrap()), ["openai", "claude", "ollama"]);
}

#[test]
fn when_nothing_fits_the_first_is_still_tried() {
    let question = Question { prompt_tokens: 5_000_000, exclude: &["claude".into()], ..Default::default() };
    let decision = decide(&rules(), &five(), &question).unwrap();
    assert_eq!(taken(&decision), ["openai"]);
    assert_eq!(because(&decision, "claude"), LeftBecause::Excluded);
}

#[test]
fn a_model_without_the_capability_is_left() {
    let needs = Needs { tools: true, ..Default::default() };
    let decision = decide(&rules(), &five(), &Question { needs, ..ask("hi") }).unwrap();
    assert_eq!(taken(&decision), ["claude", "openai", "gemini"]);
    assert_eq!(because(&decision, "ollama"), LeftBecause::Capability);
    let named = Question { needs, backend: "ollama", ..ask("hi") };
    let refused = decide(&rules(), &five(), &named).unwrap().require().unwrap_err();
    assert_eq!(refused.reason(), Reason::Unsupported);
    assert!(refused.message().contains("lacks tools"), "{refused}");
}

#[test]
fn what_the_gateway_can_make_up_for_is_preferred_not_required() {
    let needs = Needs { json_schema: true, ..Default::default() };
    let mut backends = five();
    let none = Some(ModelCapabilities { tools: true, ..Default::default() });
    backends[0].capabilities = none;
    assert_eq!(taken(&decide(&rules(), &backends, &Question { needs, ..ask("hi") }).unwrap())[0], "openai");
    backends.iter_mut().for_each(|b| b.capabilities = none);
    assert_eq!(taken(&decide(&rules(), &backends, &Question { needs, ..ask("hi") }).unwrap()), ["claude"]);
}

#[test]
fn overrides_leave_all_others() {
    let decision = decide(&rules(), &five(), &Question { backend: "gemini", ..ask("hi") }).unwrap();
    assert_eq!((taken(&decision), decision.named), (vec!["gemini"], true));
    assert_eq!(because(&decision, "claude"), LeftBecause::Overridden);
    let model = Question { model: "opus", serving: Some(vec!["opus".into(), "claude".into()]), ..ask("hi") };
    let decision = decide(&rules(), &five(), &model).unwrap();
    assert_eq!(taken(&decision), ["claude"]);
    assert_eq!(decision.taken[0].asked_model(), "opus");
}

#[test]
fn every_backend_is_explained() {
    for question in [ask("hi"), ask("design it"), Question { backend: "opus", ..ask("hi") }] {
        let decision = decide(&rules(), &five(), &question).unwrap();
        assert_eq!(decision.taken.len() + decision.left.len(), 5);
        assert!(decision.left.iter().all(|l| !l.why.is_empty() && l.because != LeftBecause::Unspecified));
    }
}

#[test]
fn unknown_names_come_with_the_nearest() {
    let refuse = |question: &Question<'_>| decide(&rules(), &five(), question).unwrap_err();
    let error = refuse(&Question { backend: "claud", ..Default::default() });
    assert_eq!(error.reason(), Reason::UnknownBackend);
    assert!(error.message().contains("\"claude\""));
    let error = refuse(&Question { exclude: &["opsu".into()], ..Default::default() });
    assert_eq!(error.reason(), Reason::UnknownBackend);
    let error = refuse(&Question { persona: "architekt", ..Default::default() });
    assert_eq!(error.reason(), Reason::UnknownPersona);
    assert!(error.message().contains("\"architect\""));
    let error = refuse(&Question { task_type: "codin", path: "chat.", ..Default::default() });
    assert_eq!(error.fields()[0].0, "chat.task_type");
    assert!(error.fields()[0].1.contains("\"coding\""));
}

#[test]
fn a_personas_window_bounds_the_backends() {
    let question = Question { persona: "local-coder", prompt_tokens: 7_000, ..Default::default() };
    let decision = decide(&rules(), &five(), &question).unwrap();
    // None fits the persona's 8192; the first is tried.
    assert_eq!(taken(&decision), ["ollama"]);
    assert_eq!(decision.taken[0].budget, 6_553);
}

#[test]
fn a_backend_whose_breaker_is_open_is_left_unless_all_are() {
    let with = |names: &[&str], state: BreakerState| {
        let mut backends = five();
        for backend in backends.iter_mut().filter(|backend| names.contains(&backend.name.as_str())) {
            backend.breaker = Some(CircuitBreaker { state: state.into(), ..Default::default() });
        }
        backends
    };
    let decision = decide(&rules(), &with(&["claude"], BreakerState::Open), &ask("hi")).unwrap();
    assert_eq!(taken(&decision), ["openai", "gemini", "ollama"]);
    assert_eq!(because(&decision, "claude"), LeftBecause::Failing);
    let half = decide(&rules(), &with(&["claude"], BreakerState::HalfOpen), &ask("hi")).unwrap();
    assert_eq!(taken(&half)[0], "claude");
    let all = with(&["claude", "openai", "gemini", "ollama", "opus"], BreakerState::Open);
    let decision = decide(&rules(), &all, &ask("hi")).unwrap();
    assert_eq!(taken(&decision), ["claude"]);
    let named = Question { backend: "gemini", ..Default::default() };
    assert_eq!(taken(&decide(&rules(), &all, &named).unwrap()), ["gemini"]);
}
