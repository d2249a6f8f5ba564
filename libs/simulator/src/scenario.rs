//! The scenario: rules that match requests and script their answers and faults.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use serde::{Deserialize, Deserializer, Serialize};

use crate::digest;
use crate::fault::{Fault, matches_glob};
use crate::format::{Endpoint, Format};

/// Fault texts whose uses are counted at most; beyond, counting starts anew.
const MAX_COUNTED: usize = 10_000;

/// A scenario file that cannot be used; the text says where.
#[derive(Debug, thiserror::Error)]
#[error("scenario: {0}")]
pub struct ScenarioError(String);

/// Rules and defaults by which a simulator answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scenario {
    /// Accept connections only to reset them at once.
    pub refuse_connections: bool,
    /// What applies to every generation unless a rule or prompt says otherwise (delays, mostly).
    #[serde(deserialize_with = "Fault::deserialize_either")]
    pub defaults: Fault,
    /// All rules that match a request apply; later ones win field by field.
    pub rules: Vec<Rule>,
}

impl Scenario {
    /// No rules.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a rule.
    #[must_use]
    pub fn rule(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }

    /// Sets what applies to every generation.
    #[must_use]
    pub fn defaults(mut self, defaults: Fault) -> Self {
        self.defaults = defaults;
        self
    }

    /// Reads TOML, or JSON when the text begins with `{`.
    ///
    /// # Errors
    /// [`ScenarioError`] says what and, for TOML, on which line.
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        if text.trim_start().starts_with('{') {
            serde_json::from_str(text).map_err(|error| ScenarioError(error.to_string()))
        } else {
            toml::from_str(text).map_err(|error| ScenarioError(error.to_string()))
        }
    }
}

/// One rule: conditions, of which all must hold, and what then happens.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rule {
    /// Pattern of the model's name; `*` stands for anything.
    pub model: Option<String>,
    /// The wire format.
    pub format: Option<Format>,
    /// What is asked for.
    pub endpoint: Option<Endpoint>,
    /// Text that the last user message must contain.
    pub text: Option<String>,
    /// Only these of the requests that match so far, counted from 1.
    #[serde(deserialize_with = "one_or_many")]
    pub nth: Vec<u64>,
    /// Only the first so many of the requests that match so far.
    pub first: Option<u64>,
    /// Only every so-manieth of the requests that match so far.
    pub every: Option<u64>,
    /// The fault, as a table or in the text grammar.
    #[serde(deserialize_with = "Fault::deserialize_either")]
    pub fault: Fault,
    /// Text in the prompt language that takes the place of the markers in the prompt.
    pub script: Option<String>,
}

fn one_or_many<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u64>, D::Error> {
    let value = serde_json::Value::deserialize(from)?;
    let numbers = if value.is_array() { value } else { serde_json::Value::Array(vec![value]) };
    serde_json::from_value(numbers).map_err(serde::de::Error::custom)
}

impl Rule {
    /// A rule that matches everything and does nothing; a start for the builder methods.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Only models that match `pattern`.
    #[must_use]
    pub fn model(mut self, pattern: &str) -> Self {
        self.model = Some(pattern.to_owned());
        self
    }

    /// Only this wire format.
    #[must_use]
    pub fn format(mut self, format: Format) -> Self {
        self.format = Some(format);
        self
    }

    /// Only this endpoint.
    #[must_use]
    pub fn endpoint(mut self, endpoint: Endpoint) -> Self {
        self.endpoint = Some(endpoint);
        self
    }

    /// Only prompts that contain `text`.
    #[must_use]
    pub fn text(mut self, text: &str) -> Self {
        self.text = Some(text.to_owned());
        self
    }

    /// Only the `n`-th matching request, counted from 1; may be called again for further ones.
    #[must_use]
    pub fn nth(mut self, n: u64) -> Self {
        self.nth.push(n);
        self
    }

    /// Only the first `n` matching requests.
    #[must_use]
    pub fn first(mut self, n: u64) -> Self {
        self.first = Some(n);
        self
    }

    /// Only every `n`-th matching request.
    #[must_use]
    pub fn every(mut self, n: u64) -> Self {
        self.every = Some(n);
        self
    }

    /// Then this fault happens.
    #[must_use]
    pub fn fault(mut self, fault: Fault) -> Self {
        self.fault = fault;
        self
    }

    /// Then this script answers.
    #[must_use]
    pub fn script(mut self, script: &str) -> Self {
        self.script = Some(script.to_owned());
        self
    }

    fn matches(&self, seen: &Seen<'_>) -> bool {
        self.format.is_none_or(|format| format == seen.format)
            && self.endpoint.is_none_or(|endpoint| endpoint == seen.endpoint)
            && self.model.as_deref().is_none_or(|pattern| matches_glob(pattern, seen.model))
            && self.text.as_deref().is_none_or(|text| seen.prompt.contains(text))
    }

    fn selects(&self, count: u64) -> bool {
        (self.nth.is_empty() || self.nth.contains(&count))
            && self.first.is_none_or(|first| count <= first)
            && self.every.is_none_or(|every| every > 0 && count.is_multiple_of(every))
    }
}

/// What rules look at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'a> {
    pub(crate) format: Format,
    pub(crate) endpoint: Endpoint,
    pub(crate) model: &'a str,
    pub(crate) prompt: &'a str,
}

/// A scenario with the counts of its rules.
#[derive(Debug)]
struct Counted {
    scenario: Scenario,
    hits: Vec<AtomicU64>,
}

/// The scenario in force, which may be replaced while requests run.
#[derive(Debug)]
pub(crate) struct Stage {
    current: RwLock<Arc<Counted>>,
    uses: Mutex<HashMap<u64, u32>>,
}

impl Stage {
    pub(crate) fn new(scenario: Scenario) -> Self {
        Self { current: RwLock::new(counted(scenario)), uses: Mutex::new(HashMap::new()) }
    }

    fn current(&self) -> Arc<Counted> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts `scenario` in force, with all counts at 0.
    pub(crate) fn set(&self, scenario: Scenario) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = counted(scenario);
        self.forget_uses();
    }

    /// Sets all counts to 0.
    pub(crate) fn reset(&self) {
        let scenario = self.current().scenario.clone();
        self.set(scenario);
    }

    fn forget_uses(&self) {
        self.uses.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(crate) fn refuses_connections(&self) -> bool {
        self.current().scenario.refuse_connections
    }

    /// What the matching rules say: their faults in order and the last script.
    pub(crate) fn direct(&self, seen: &Seen<'_>) -> (Vec<Fault>, Option<String>) {
        let current = self.current();
        let mut faults = Vec::new();
        if matches!(seen.endpoint, Endpoint::Chat | Endpoint::Embed) {
            faults.push(current.scenario.defaults.clone());
        }
        let mut script = None;
        for (rule, hits) in current.scenario.rules.iter().zip(&current.hits) {
            if !rule.matches(seen) {
                continue;
            }
            let count = hits.fetch_add(1, Ordering::Relaxed) + 1;
            if rule.selects(count) {
                faults.push(rule.fault.clone());
                script = rule.script.clone().or(script);
            }
        }
        (faults, script)
    }

    /// Whether a fault limited to its first `times` uses may strike again; counts the use.
    /// Uses are told apart by the fault's text and `context` (the prompt it stands in).
    pub(crate) fn may_strike(&self, text: &str, context: &str, times: Option<u32>) -> bool {
        let Some(times) = times else { return true };
        let key = digest::hash(text.as_bytes()) ^ digest::hash(context.as_bytes()).rotate_left(1);
        let mut uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        if uses.len() >= MAX_COUNTED {
            uses.clear();
        }
        let used = uses.entry(key).or_default();
        *used = used.saturating_add(1);
        *used <= times
    }
}

fn counted(scenario: Scenario) -> Arc<Counted> {
    let hits = scenario.rules.iter().map(|_| AtomicU64::new(0)).collect();
    Arc::new(Counted { scenario, hits })
}

#[cfg(test)]
mod tests {
    use super::{Rule, Scenario, Seen, Stage};
    use crate::fault::Fault;
    use crate::format::{Endpoint, Format};

    const SEEN: Seen<'_> =
        Seen { format: Format::OpenAi, endpoint: Endpoint::Chat, model: "gpt-5.4", prompt: "hello there" };

    #[test]
    fn a_file_takes_faults_as_text_and_as_table() {
        let text = r#"
            defaults = "chunk_ms=5"
            [[rules]]
            model = "gpt-*"
            nth = 2
            fault = { status = 429, retry_after = 2 }
            [[rules]]
            text = "hello"
            script = "[[say hi]]"
        "#;
        let scenario = Scenario::parse(text).unwrap();
        assert_eq!(scenario.defaults.chunk_ms, Some(5));
        assert_eq!(scenario.rules[0].nth, [2]);
        assert_eq!(scenario.rules[0].fault.retry_after, Some(2.0));
        let as_json = serde_json::to_string(&scenario).unwrap();
        assert_eq!(Scenario::parse(&as_json).unwrap(), scenario);
    }

    #[test]
    fn a_wrong_key_is_named() {
        let error = Scenario::parse("[[rules]]\nmodle = \"x\"").unwrap_err().to_string();
        assert!(error.contains("modle"), "{error}");
    }

    #[test]
    fn rules_strike_by_count() {
        let rule = Rule::new().model("gpt-*").nth(2).fault(Fault::status(500));
        let stage = Stage::new(Scenario::new().rule(rule));
        let strikes = || stage.direct(&SEEN).0.iter().any(|fault| fault.status == Some(500));
        assert_eq!([strikes(), strikes(), strikes()], [false, true, false]);
        stage.reset();
        assert_eq!([strikes(), strikes()], [false, true]);
    }

    #[test]
    fn a_fault_with_times_strikes_so_often() {
        let stage = Stage::new(Scenario::new());
        let struck: Vec<bool> = (0..3).map(|_| stage.may_strike("f", "p", Some(2))).collect();
        assert_eq!(struck, [true, true, false]);
        assert!(stage.may_strike("f", "another prompt", Some(2)));
    }
}
