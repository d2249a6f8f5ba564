//! `personas.toml`.

use indexmap::IndexMap;

use crate::problem::{nearest, suggestion};
use crate::reader::Reader;
use crate::section::Section;

/// All personas: the built-in ones, then the user's in the order they were written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Personas {
    personas: IndexMap<String, Persona>,
}

/// A role a model can take.
#[derive(Clone, Debug, PartialEq)]
pub struct Persona {
    /// The name that backends and callers use.
    pub id: String,
    /// The name shown to people.
    pub name: String,
    /// What it is good for, in one line.
    pub description: String,
    /// What the model is told before anything else.
    pub system_prompt: String,
    /// Backends it works best on, best first.
    pub preferred_backends: Vec<String>,
    /// Sampling temperature, 0 to 2.
    pub temperature: f64,
    /// The most tokens of one answer.
    pub max_tokens: u32,
    /// A window in tokens that replaces the model's.
    pub context_window: Option<u64>,
    /// How much it says.
    pub verbosity: Verbosity,
    /// How it gets to an answer.
    pub thinking_style: ThinkingStyle,
    /// Whether answers are streamed unless the caller decides.
    pub prefers_streaming: bool,
    /// Whether it only works on a model that can call tools.
    pub requires_tools: bool,
}

/// How much a persona says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verbosity {
    /// As little as answers the question.
    Concise,
    /// Neither.
    Normal,
    /// Everything that may help.
    Verbose,
}

/// How a persona gets to an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThinkingStyle {
    /// Straight.
    Direct,
    /// In visible steps.
    StepByStep,
    /// With the model's own reasoning as deep as it goes.
    DeepReasoning,
}

const VERBOSITIES: [(&str, Verbosity); 3] =
    [("concise", Verbosity::Concise), ("normal", Verbosity::Normal), ("verbose", Verbosity::Verbose)];

const THINKING_STYLES: [(&str, ThinkingStyle); 3] = [
    ("direct", ThinkingStyle::Direct),
    ("step_by_step", ThinkingStyle::StepByStep),
    ("deep_reasoning", ThinkingStyle::DeepReasoning),
];

impl Personas {
    /// Reads all personas.
    pub fn read(reader: &Reader) -> Self {
        let section = reader.section("personas");
        let persona = |id: String| {
            let persona = Persona::read(reader, &section.subsection(&id));
            (id, persona)
        };
        let personas = section.entries().into_iter().map(persona).collect();
        section.finish();
        Self { personas }
    }

    /// The persona of this id.
    pub fn get(&self, id: &str) -> Option<&Persona> {
        self.personas.get(id)
    }

    /// All personas, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Persona> {
        self.personas.values()
    }

    /// All ids, in order.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.personas.keys().map(String::as_str)
    }

    /// The ids someone who wrote `id` may have meant, best first.
    pub fn nearest(&self, id: &str) -> Vec<&str> {
        nearest(id, self.ids())
    }
}

impl Verbosity {
    /// The name as personas.toml writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Concise => "concise",
            Self::Normal => "normal",
            Self::Verbose => "verbose",
        }
    }
}

impl ThinkingStyle {
    /// The name as personas.toml writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::StepByStep => "step_by_step",
            Self::DeepReasoning => "deep_reasoning",
        }
    }
}

impl Persona {
    fn read(reader: &Reader, table: &Section<'_>) -> Self {
        Self {
            id: table.name().to_owned(),
            name: table.string("name", table.name()),
            description: table.string("description", ""),
            system_prompt: table.required_string("system_prompt"),
            preferred_backends: preferred_backends(reader, table),
            temperature: table.float("temperature", 0.7, 0.0..=2.0),
            max_tokens: table.integer("max_tokens", 4_000, 1..=u32::MAX),
            context_window: table.opt_integer("context_window", 1..=u64::MAX),
            verbosity: table.choice("verbosity", &VERBOSITIES, Verbosity::Normal),
            thinking_style: table.choice("thinking_style", &THINKING_STYLES, ThinkingStyle::StepByStep),
            prefers_streaming: table.bool("prefers_streaming", true),
            requires_tools: table.bool("requires_tools", false),
        }
    }
}

fn preferred_backends(reader: &Reader, table: &Section<'_>) -> Vec<String> {
    const KEY: &str = "preferred_backends";
    let preferred = table.string_list(KEY, &[]);
    // A built-in persona may name a built-in backend that the user has taken out.
    if table.is_users(KEY) {
        let known = reader.names_in(&["backends"]);
        for (index, name) in preferred.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                let near = suggestion(name, known.iter().copied());
                table.item_problem(KEY, index, &format!("unknown backend {name:?}{near}"));
            }
        }
    }
    preferred
}
