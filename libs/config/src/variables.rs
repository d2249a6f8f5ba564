//! What each environment variable means.

use crate::loader::KNOWN_SECTIONS;
use crate::overrides::Overrides;
use crate::parse;
use crate::value::{Node, Origin, Value};

/// The variables vendors document for their keys, with the credentials sections they fill.
/// The first section is made if absent, the others only replaced; of two variables for one
/// section the later in this list wins.
const KEYS: [(&str, &[&str]); 11] = [
    ("OPENAI_API_KEY", &["openai"]),
    ("ANTHROPIC_API_KEY", &["anthropic", "claude", "opus_self"]),
    ("GEMINI_API_KEY", &["gemini", "google"]),
    ("GOOGLE_API_KEY", &["gemini", "google"]),
    ("KIMI_API_KEY", &["kimi"]),
    ("MOONSHOT_API_KEY", &["moonshot"]),
    ("DEEPSEEK_API_KEY", &["deepseek"]),
    ("MISTRAL_API_KEY", &["mistral"]),
    ("GROQ_API_KEY", &["groq"]),
    ("TOGETHER_API_KEY", &["together"]),
    ("OPENROUTER_API_KEY", &["openrouter"]),
];

const PREFIX: &str = "TUTTI_";

/// Lays one layer of variables (name, value, place) over the tree.
pub(crate) fn apply(variables: &[(String, String, Origin)], overrides: &mut Overrides<'_>) {
    for (variable, sections) in KEYS {
        for (_, key, origin) in variables.iter().filter(|(name, ..)| name == variable) {
            set_key(overrides, sections, key, origin);
        }
    }
    for (name, value, origin) in variables {
        if name == "KIMI_MODEL" {
            let node = string(value, origin);
            overrides.set(path(&["credentials", "kimi", "model"]), node);
        } else if let Some(rest) = name.strip_prefix(PREFIX) {
            set_tutti(overrides, rest, value, origin);
        }
    }
}

fn set_key(overrides: &mut Overrides<'_>, sections: &[&str], key: &str, origin: &Origin) {
    for (index, section) in sections.iter().enumerate() {
        match overrides.credential(section) {
            // Whatever form the file's key has, this one takes its place.
            Some(written) => {
                written.shift_remove("api_keys");
                written.shift_remove("api_key_file");
            }
            None if index > 0 => continue,
            None => {}
        }
        overrides.set(path(&["credentials", section, "api_key"]), string(key, origin));
    }
}

fn set_tutti(overrides: &mut Overrides<'_>, rest: &str, value: &str, origin: &Origin) {
    let steps: Vec<&str> = rest.split("__").collect();
    if steps.len() > 1 {
        return overrides.set_loosely(&steps, parse::scalar(value, origin.clone()));
    }
    // Names without `__` belong to other uses, unless one underscore was simply forgotten.
    let lower = rest.to_lowercase();
    let forgotten = KNOWN_SECTIONS
        .iter()
        .filter_map(|section| Some((section, lower.strip_prefix(section)?.strip_prefix('_')?)))
        .find(|(_, key)| !key.is_empty());
    if let Some((section, key)) = forgotten {
        let meant = format!("{PREFIX}{section}__{key}").to_uppercase();
        overrides.warn(format!("{origin}: ignored; did you mean {meant}?"));
    }
}

fn path(steps: &[&str]) -> Vec<String> {
    steps.iter().map(|step| (*step).to_owned()).collect()
}

fn string(text: &str, origin: &Origin) -> Node {
    Node::new(Value::String(text.to_owned()), origin.clone())
}
