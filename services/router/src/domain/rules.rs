//! What the configuration says about choosing: chains, task types, personas.

use std::collections::HashSet;

use indexmap::IndexMap;
use tutti_config::Personas;

/// The persona of backends that name none.
pub(crate) const DEFAULT_PERSONA: &str = "default";

/// The rules of routing.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Tried first when neither the caller nor the task type decides.
    pub default_backend: String,
    /// Tried after it, in order.
    pub fallback_chain: Vec<String>,
    /// Leave backends whose window the prompt would fill to more than 80 %.
    pub auto_switch_on_context_limit: bool,
    /// Leave backends whose model can't stream when the caller wants a stream.
    pub streaming_preferred: bool,
    /// The task types, by name.
    pub tasks: IndexMap<String, TaskRule>,
    /// The personas, by id.
    pub personas: Personas,
    /// Backends for which somebody wrote an output cap; those of the others are defaults.
    pub own_caps: HashSet<String>,
}

/// What holds for one task type.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskRule {
    /// Backends in order; empty for the global chain. An entry that is no backend's name stands for the backend whose
    /// model it names (`sonnet`, `gpt-4o`), and for none when there is no such backend.
    pub chain: Vec<String>,
    /// Output cap in tokens.
    pub max_output_tokens: Option<u32>,
    /// Never a model on this machine.
    pub never_local: bool,
}

impl Rules {
    /// The default backend, then the fallback chain.
    pub fn global_chain(&self) -> impl Iterator<Item = &str> {
        let rest = self.fallback_chain.iter().map(String::as_str).filter(|name| *name != self.default_backend);
        std::iter::once(self.default_backend.as_str()).chain(rest)
    }
}

/// The built-in task types: the four categories, then the presets for finer ones.
pub(crate) fn default_tasks() -> IndexMap<String, TaskRule> {
    const REASONING: &[&str] = &["kimi", "opus", "gpt-4o", "gemini-pro"];
    const CREATIVE: &[&str] = &["opus", "gpt-4o", "gemini-pro"];
    let rule = |name: &str, chain: &[&str], max: Option<u32>, never_local| {
        let chain = chain.iter().map(|entry| (*entry).to_owned()).collect();
        (name.to_owned(), TaskRule { chain, max_output_tokens: max, never_local })
    };
    IndexMap::from([
        rule("architecture", &["opus", "claude", "openai", "gemini"], None, true),
        rule("coding", &["openai", "claude", "ollama"], None, false),
        rule("parsing", &["gemini", "openai", "claude"], None, false),
        rule("general", &[], None, false),
        rule("code_generation", &["kimi", "sonnet", "gpt-4o", "gemini-pro"], Some(4096), false),
        rule("code_review", &["kimi", "gpt-4o", "opus", "gemini-pro"], Some(2048), false),
        rule("complex_reasoning", REASONING, Some(2048), false),
        rule("evaluation", REASONING, Some(600), false),
        rule("creative_writing", CREATIVE, Some(2048), false),
        rule("data_extraction", &["gemini-flash", "gpt-4o-mini", "haiku"], Some(1024), false),
        rule("summarization", &["gemini-flash", "haiku", "gpt-4o-mini"], Some(512), false),
    ])
}
