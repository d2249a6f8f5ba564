//! `[orchestrator]`, `[routing]` and the personas.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use indexmap::IndexMap;
use tutti_config::{Personas, Reader, Section, StorageConfig, nearest};

use crate::domain::rules::{Rules, TaskRule, default_tasks};

/// The backend that `tutti up` adds when no other is usable: known without being written.
const SIMULATOR: &str = "simulator";

/// The router's configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// How backends are chosen.
    pub rules: Rules,
    /// By id of the persona, where it was defined: `built-in`, `global` or `project`.
    pub persona_sources: HashMap<String, &'static str>,
    /// `[storage]`. Default: SQLite in the data folder.
    pub storage: StorageConfig,
    /// How calls with an idempotency key are kept.
    pub idempotency: Idempotency,
}

/// How calls with an idempotency key are kept.
#[derive(Debug, Clone, Copy)]
pub struct Idempotency {
    /// How long a key stands for its call, and the call can be read.
    pub ttl: Duration,
    /// How long a call goes on after its last reader has left.
    pub resume_grace: Duration,
    /// A router that is silent for so long is taken for dead, and its calls are run anew.
    pub lease: Duration,
    /// The longest that a call may run, unless it has a shorter bound of its own.
    pub max_run: Duration,
}

impl Config {
    /// Reads the router's sections; the reader collects what is wrong.
    ///
    /// - `[orchestrator]` `default_backend` ("claude"), `fallback_chain` (claude, openai, gemini, ollama),
    ///   `auto_switch_on_context_limit` (true), `streaming_preferred` (true)
    /// - `[orchestrator.idempotency]` `ttl` (24 h), `resume_grace` (30 s), `lease` (10 s), `max_run` (10 min)
    /// - `[storage]`
    /// - `[routing.chains.TASK]` `backends` (built-in task types: their chain; else the global chain),
    ///   `max_output_tokens` (tokens; none), `never_local` (false; true for `architecture`)
    pub fn read(reader: &Reader) -> Self {
        let known = reader.section("backends").entries();
        let orchestrator = reader.section("orchestrator");
        let default_backend = orchestrator.string("default_backend", "claude");
        if orchestrator.is_users("default_backend") {
            let problem = |message: &str| orchestrator.problem("default_backend", message);
            check_backend(&default_backend, &known, problem);
        }
        let fallback_chain = orchestrator.string_list("fallback_chain", &["claude", "openai", "gemini", "ollama"]);
        check_chain(&orchestrator, "fallback_chain", &fallback_chain, &known);
        let rules = Rules {
            default_backend,
            fallback_chain,
            auto_switch_on_context_limit: orchestrator.bool("auto_switch_on_context_limit", true),
            streaming_preferred: orchestrator.bool("streaming_preferred", true),
            tasks: read_tasks(reader, &known),
            personas: Personas::read(reader),
            own_caps: own_caps(reader, &known),
        };
        let idempotency = read_idempotency(&orchestrator.subsection("idempotency"));
        orchestrator.finish();
        let persona_sources = persona_sources(reader, &rules.personas);
        Self { rules, persona_sources, storage: StorageConfig::read(reader), idempotency }
    }
}

fn read_idempotency(table: &Section<'_>) -> Idempotency {
    const LEAST_LEASE: Duration = Duration::from_millis(500);
    let lease = table.duration("lease", Duration::from_secs(10));
    if lease < LEAST_LEASE {
        table.problem("lease", "must be at least 500ms: a router that is busy for a moment is not dead");
    }
    Idempotency {
        ttl: table.positive_duration("ttl", Duration::from_secs(24 * 3600)),
        resume_grace: table.duration("resume_grace", Duration::from_secs(30)),
        lease,
        max_run: table.positive_duration("max_run", Duration::from_secs(600)),
    }
}

/// The backends for which the user wrote an output cap.
fn own_caps(reader: &Reader, known: &[String]) -> HashSet<String> {
    let backends = reader.section("backends");
    let is_written = |name: &&String| backends.subsection(name).is_users("max_output_tokens");
    known.iter().filter(is_written).cloned().collect()
}

/// The layer that said the last word about each persona.
fn persona_sources(reader: &Reader, personas: &Personas) -> HashMap<String, &'static str> {
    const KEYS: [&str; 11] = [
        "name",
        "description",
        "system_prompt",
        "preferred_backends",
        "temperature",
        "max_tokens",
        "context_window",
        "verbosity",
        "thinking_style",
        "prefers_streaming",
        "requires_tools",
    ];
    let of_project = project_personas(reader);
    let section = reader.section("personas");
    let source = |id: &str| {
        let table = section.subsection(id);
        if !KEYS.iter().any(|key| table.is_users(key)) {
            "built-in"
        } else if of_project.contains_key(id) {
            "project"
        } else {
            "global"
        }
    };
    personas.ids().map(|id| (id.to_owned(), source(id))).collect()
}

/// The project's own personas. The loader has read and checked the file; it doesn't tell which layer a value is of.
fn project_personas(reader: &Reader) -> toml::Table {
    let path = reader.config().project_dir().map(|dir| dir.join("personas.toml"));
    let text = path.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
    let file: toml::Table = text.parse().unwrap_or_default();
    file.get("personas").and_then(toml::Value::as_table).cloned().unwrap_or_default()
}

fn read_tasks(reader: &Reader, known: &[String]) -> IndexMap<String, TaskRule> {
    let routing = reader.section("routing");
    routing.not_built(&["strategy", "weights", "policies"]);
    let chains = routing.subsection("chains");
    let mut tasks = default_tasks();
    for name in chains.entries() {
        let table = chains.subsection(&name);
        let built_in = tasks.get(&name).cloned().unwrap_or_default();
        let chain = table.opt_string_list("backends").inspect(|chain| check_chain(&table, "backends", chain, known));
        let rule = TaskRule {
            chain: chain.unwrap_or(built_in.chain),
            max_output_tokens: table.opt_integer("max_output_tokens", 1..=u32::MAX).or(built_in.max_output_tokens),
            never_local: table.bool("never_local", built_in.never_local),
        };
        tasks.insert(name, rule);
    }
    routing.finish();
    tasks
}

/// The user's chains name backends that exist; the built-in ones may name backends that were taken out.
fn check_chain(section: &Section<'_>, key: &str, chain: &[String], known: &[String]) {
    if !section.is_users(key) {
        return;
    }
    for (index, name) in chain.iter().enumerate() {
        check_backend(name, known, |message| section.item_problem(key, index, message));
    }
}

fn check_backend(name: &str, known: &[String], problem: impl Fn(&str)) {
    if name == SIMULATOR || known.iter().any(|k| k == name) {
        return;
    }
    let near: Vec<String> =
        nearest(name, known.iter().map(String::as_str)).iter().map(|near| format!("{near:?}")).collect();
    let hint = if near.is_empty() {
        format!("; known: {}", known.join(", "))
    } else {
        format!("; did you mean {}?", near.join(" or "))
    };
    problem(&format!("unknown backend {name:?}{hint}"));
}

#[cfg(test)]
mod tests {
    use tutti_config::Loader;

    use super::*;

    fn read(flags: &[(&str, &str)]) -> (Config, Result<(), String>) {
        let folder = tempfile::tempdir().unwrap();
        let mut loader = Loader::new().start_dir(folder.path());
        for (key, value) in flags {
            loader = loader.flag(*key, value);
        }
        let reader = loader.load().unwrap().reader();
        let config = Config::read(&reader);
        (config, reader.finish().map(drop).map_err(|problems| problems.to_string()))
    }

    #[test]
    fn defaults_are_those_of_the_requirement() {
        let (config, result) = read(&[]);
        assert_eq!(result, Ok(()));
        let chain: Vec<_> = config.rules.global_chain().collect();
        assert_eq!(chain, ["claude", "openai", "gemini", "ollama"]);
        assert!(config.rules.tasks["architecture"].never_local);
        assert_eq!(config.rules.tasks["evaluation"].max_output_tokens, Some(600));
    }

    #[test]
    fn a_chain_that_names_no_backend_is_a_problem_with_the_nearest() {
        let (_, result) =
            read(&[("orchestrator.default_backend", "cluade"), ("routing.chains.poems.backends", "[\"opsu\"]")]);
        let text = result.unwrap_err();
        assert!(text.contains("unknown backend \"cluade\"; did you mean \"claude\"?"), "{text}");
        assert!(text.contains("unknown backend \"opsu\"; did you mean \"opus\"?"), "{text}");
    }

    #[test]
    fn a_persona_says_where_it_was_defined() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(".tutti")).unwrap();
        let mine = "[personas.mine]\nsystem_prompt = \"Be mine.\"\n";
        std::fs::write(folder.path().join(".tutti/personas.toml"), mine).unwrap();
        let reader = Loader::new().start_dir(folder.path()).load().unwrap().reader();
        let sources = Config::read(&reader).persona_sources;
        assert_eq!((sources["mine"], sources["architect"]), ("project", "built-in"));
    }

    #[test]
    fn an_output_cap_that_was_written_is_told_from_a_default() {
        let (config, result) = read(&[("backends.openai.max_output_tokens", "700")]);
        assert_eq!(result, Ok(()));
        assert!(config.rules.own_caps.contains("openai") && !config.rules.own_caps.contains("claude"));
    }

    #[test]
    fn a_task_type_of_the_users_own_keeps_what_it_does_not_say() {
        let (config, result) = read(&[("routing.chains.coding.max_output_tokens", "700")]);
        assert_eq!(result, Ok(()));
        let coding = &config.rules.tasks["coding"];
        assert_eq!((coding.max_output_tokens, coding.chain.len()), (Some(700), 3));
    }
}
