//! `personas.toml`.

use tutti_config::{ThinkingStyle, Verbosity};

use crate::support::Home;

#[test]
fn the_built_in_personas_are_those_of_the_documents() {
    let all = Home::new().all().unwrap();
    let rows: Vec<_> = all
        .personas
        .iter()
        .map(|p| (p.id.as_str(), p.temperature, p.max_tokens, p.preferred_backends.join(" ")))
        .collect();
    let row = |id, temperature, tokens, backends: &str| (id, temperature, tokens, backends.to_owned());
    let expected = [
        row("default", 0.7, 4_000, "claude openai"),
        row("general-assistant", 0.7, 4_000, "claude openai"),
        row("code-specialist", 0.3, 8_000, "openai claude"),
        row("fast-parser", 0.2, 2_000, "gemini openai"),
        row("context-distiller", 0.3, 4_000, "gemini"),
        row("local-coder", 0.3, 2_000, "ollama"),
        row("architect", 0.2, 16_000, "opus"),
        row("reviewer", 0.2, 4_000, "claude openai"),
    ];
    assert_eq!(rows, expected);
    assert!(all.personas.iter().all(|persona| persona.system_prompt.len() > 80));
    assert!(all.personas.iter().all(|persona| persona.prefers_streaming));
    let local = all.personas.get("local-coder").unwrap();
    assert_eq!((local.context_window, local.verbosity), (Some(8_192), Verbosity::Concise));
    assert_eq!(all.personas.get("architect").unwrap().thinking_style, ThinkingStyle::DeepReasoning);
    let tools: Vec<_> = all.personas.iter().filter(|p| p.requires_tools).map(|p| p.id.as_str()).collect();
    assert_eq!(tools, ["reviewer"]);
}

#[test]
fn a_project_persona_overrides_a_global_one_key_by_key() {
    let home = Home::new()
        .file(
            "global/personas.toml",
            "[personas.a]\nsystem_prompt = \"p\"\nmax_tokens = 1\n[personas.architect]\nmax_tokens = 7\n",
        )
        .file("project/.tutti/personas.toml", "[personas.a]\nmax_tokens = 2\nverbosity = \"verbose\"\n");
    let all = home.all().unwrap();
    let a = all.personas.get("a").unwrap();
    assert_eq!((a.system_prompt.as_str(), a.max_tokens, a.verbosity), ("p", 2, Verbosity::Verbose));
    assert_eq!((a.name.as_str(), a.thinking_style), ("a", ThinkingStyle::StepByStep));
    assert_eq!(all.personas.get("architect").unwrap().max_tokens, 7);
    assert_eq!(all.personas.nearest("architct"), ["architect"]);
}

#[test]
fn everything_wrong_with_personas_is_named_at_once() {
    let home = Home::new().file(
        "global/personas.toml",
        r#"[persona.b]

[personas.a]
preferred_backends = [
  "claude",
  "cluade",
]
temperature = 2.5
thinking_style = "deep"
toolz = true
"#,
    );
    let expected = [
        "global/personas.toml:1: persona: unknown section; a persona's is [personas.persona]",
        "global/personas.toml:3: personas.a.system_prompt: missing key",
        "global/personas.toml:6: personas.a.preferred_backends: unknown backend \"cluade\"; did you mean \"claude\"?",
        "global/personas.toml:8: personas.a.temperature: expected a number from 0 to 2, found 2.5",
        "global/personas.toml:9: personas.a.thinking_style: expected \"direct\", \"step_by_step\" or \
         \"deep_reasoning\", found \"deep\"; did you mean \"deep_reasoning\"?",
        "global/personas.toml:10: personas.a.toolz: unknown key; known: context_window, description, max_tokens, name, \
         preferred_backends, prefers_streaming, requires_tools, system_prompt, temperature, thinking_style, verbosity",
    ];
    assert_eq!(home.all_problems(), expected);
}

#[test]
fn built_in_personas_may_name_backends_the_user_took_out() {
    let home = Home::new().global("[backends.opus]\nenabled = false\n");
    assert!(home.all().is_ok());
}
