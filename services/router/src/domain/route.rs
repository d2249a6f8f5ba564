//! The decision: which backends, in which order, and why not the others. A pure function of the rules, the state of the
//! backends and the request.

use tutti_config::Persona;
use tutti_error::{Error, Reason, Result};
use tutti_proto::{
    gateway::v1::{BackendStatus, BreakerState},
    router::v1::LeftBecause,
};

use super::{
    needs::{self, Needs},
    rules::{DEFAULT_PERSONA, Rules, TaskRule},
    task::{TaskFrom, classify},
};

/// The part of a window that a prompt may take, in percent.
const FIT_PERCENT: i64 = 80;

/// What the decision depends on, of a request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Question<'a> {
    pub(crate) task_type: &'a str,
    pub(crate) persona: &'a str,
    pub(crate) backend: &'a str,
    pub(crate) model: &'a str,
    /// The backends that can serve the model, when one is named without a backend.
    pub(crate) serving: Option<Vec<String>>,
    pub(crate) exclude: &'a [String],
    pub(crate) last_user_text: String,
    pub(crate) needs: Needs,
    pub(crate) prompt_tokens: i64,
    /// What stands before field names in errors.
    pub(crate) path: &'a str,
}

/// A backend to try.
#[derive(Debug, Clone)]
pub(crate) struct Taken {
    pub(crate) backend: BackendStatus,
    /// Another model than the backend's own; empty for none.
    pub(crate) model: String,
    pub(crate) persona: Option<Persona>,
    /// The caller named the persona.
    pub(crate) persona_named: bool,
    /// Somebody wrote an output cap for the backend.
    pub(crate) own_cap: bool,
    /// The prompt's share of the window, in tokens.
    pub(crate) budget: i64,
    pub(crate) why: String,
}

impl Taken {
    /// The model that is asked.
    pub(crate) fn asked_model(&self) -> &str {
        if self.model.is_empty() { &self.backend.model } else { &self.model }
    }
}

/// A backend that isn't tried.
#[derive(Debug, Clone)]
pub(crate) struct Left {
    pub(crate) backend: String,
    pub(crate) model: String,
    pub(crate) because: LeftBecause,
    pub(crate) why: String,
    /// It may be tried when there is no better one.
    pub(crate) soft: bool,
}

/// Why a backend can't take a request.
struct Refusal {
    because: LeftBecause,
    why: String,
    soft: bool,
}

impl Refusal {
    fn hard(because: LeftBecause, why: impl Into<String>) -> Self {
        Self { because, why: why.into(), soft: false }
    }
}

/// Every backend, taken or left.
#[derive(Debug, Clone)]
pub(crate) struct Decision {
    pub(crate) task_type: String,
    pub(crate) task_from: TaskFrom,
    /// The task type's own output cap.
    pub(crate) max_output_tokens: Option<u32>,
    /// The caller named the backend or the model: its failure is the turn's.
    pub(crate) named: bool,
    pub(crate) taken: Vec<Taken>,
    pub(crate) left: Vec<Left>,
}

impl Decision {
    /// Fails unless there is a backend to try.
    ///
    /// # Errors
    /// UNSUPPORTED when the request is the reason, else BACKEND_NOT_USABLE.
    pub(crate) fn require(&self) -> Result<()> {
        if !self.taken.is_empty() {
            return Ok(());
        }
        // The caller's own names already say which others are out of the question.
        let left = self.left.iter().filter(|l| l.because != LeftBecause::Overridden);
        let why: Vec<String> = left.map(|l| format!("{}: {}", l.backend, l.why)).collect();
        let of_request = |l: &Left| matches!(l.because, LeftBecause::Capability | LeftBecause::Rule);
        let lacking = self.left.iter().any(of_request);
        let reason = if lacking { Reason::Unsupported } else { Reason::BackendNotUsable };
        let why = if why.is_empty() { "none is configured".to_owned() } else { why.join("; ") };
        Err(Error::new(reason, format!("no backend can take this request ({why})")))
    }
}

/// Decides.
///
/// # Errors
/// UNKNOWN_BACKEND or UNKNOWN_PERSONA with the nearest names; INVALID_REQUEST for an unknown task type, or a backend
/// that is both named and excluded.
pub(crate) fn decide(rules: &Rules, backends: &[BackendStatus], question: &Question<'_>) -> Result<Decision> {
    check_names(rules, backends, question)?;
    let (task_type, task_from) = classify(question.task_type, question.persona, &question.last_user_text);
    let rule = rules.tasks.get(&task_type).cloned().unwrap_or_default();
    let judge = Judge { rules, question, rule: &rule, task_type: &task_type };
    let mut sorting = Sorting { judge, backends, taken: Vec::new(), left: Vec::new() };
    let named = !question.backend.is_empty() || question.serving.is_some();
    if named {
        sorting.named();
    } else {
        sorting.chains();
    }
    let (mut taken, mut left) = (sorting.taken, sorting.left);
    if taken.is_empty() {
        last_resort(&judge, backends, &mut taken, &mut left);
    }
    Ok(Decision { max_output_tokens: rule.max_output_tokens, task_type, task_from, named, taken, left })
}

fn check_names(rules: &Rules, backends: &[BackendStatus], question: &Question<'_>) -> Result<()> {
    let path = question.path;
    if !question.persona.is_empty() && rules.personas.get(question.persona).is_none() {
        return Err(Error::unknown(Reason::UnknownPersona, "persona", question.persona, rules.personas.ids()));
    }
    if !question.task_type.is_empty() && !rules.tasks.contains_key(question.task_type) {
        let known = rules.tasks.keys().map(String::as_str);
        let hint = Error::unknown(Reason::InvalidRequest, "task type", question.task_type, known);
        return Err(Error::invalid(format!("{path}task_type"), hint.message()));
    }
    let known = || backends.iter().map(|b| b.name.as_str());
    let named = std::iter::once(question.backend).filter(|name| !name.is_empty());
    for name in named.chain(question.exclude.iter().map(String::as_str)) {
        if !known().any(|k| k == name) {
            return Err(Error::unknown(Reason::UnknownBackend, "backend", name, known()));
        }
    }
    if question.exclude.iter().any(|name| name == question.backend) {
        return Err(Error::invalid(format!("{path}exclude_backends"), "excludes the backend that is named"));
    }
    Ok(())
}

/// Whether one backend can take the request.
#[derive(Clone, Copy)]
struct Judge<'a> {
    rules: &'a Rules,
    question: &'a Question<'a>,
    rule: &'a TaskRule,
    task_type: &'a str,
}

impl Judge<'_> {
    /// The caller's persona, else the backend's, else the default one.
    fn persona(&self, backend: &BackendStatus) -> Option<&Persona> {
        let personas = &self.rules.personas;
        if !self.question.persona.is_empty() {
            return personas.get(self.question.persona);
        }
        personas.get(&backend.persona).or_else(|| personas.get(DEFAULT_PERSONA))
    }

    /// What the prompt may take of the smaller of the two windows.
    fn budget(&self, backend: &BackendStatus) -> i64 {
        let of_persona = self.persona(backend).and_then(|p| p.context_window).and_then(|w| i64::try_from(w).ok());
        let window = of_persona.map_or(backend.context_window, |w| w.min(backend.context_window));
        window / 100 * FIT_PERCENT + window % 100 * FIT_PERCENT / 100
    }

    fn check(&self, backend: &BackendStatus) -> Result<(), Refusal> {
        if self.question.exclude.contains(&backend.name) {
            return Err(Refusal::hard(LeftBecause::Excluded, "the caller excluded it"));
        }
        if !backend.usable {
            let why = &backend.unusable_because;
            return Err(Refusal::hard(LeftBecause::NotUsable, if why.is_empty() { "not usable" } else { why }));
        }
        if is_open(backend) {
            let why = "it keeps failing and is left alone for a while: its circuit breaker is open";
            return Err(Refusal { because: LeftBecause::Failing, why: why.into(), soft: true });
        }
        // The simulator is no model; and a caller who names a backend has decided.
        let local = backend.local && !backend.simulator && self.question.backend != backend.name;
        if self.rule.never_local && local {
            let why = format!("{} is never given to a local model", self.task_type);
            return Err(Refusal::hard(LeftBecause::Rule, why));
        }
        let lacking = self.lacking(backend);
        if !lacking.is_empty() {
            let why = format!("its model lacks {}", lacking.join(", "));
            return Err(Refusal { because: LeftBecause::Capability, why, soft: needs::is_soft(&lacking) });
        }
        let budget = self.budget(backend);
        if self.rules.auto_switch_on_context_limit && self.question.prompt_tokens > budget {
            let tokens = self.question.prompt_tokens;
            let why = format!("the prompt's {tokens} tokens are more than {FIT_PERCENT} % of its window ({budget})");
            return Err(Refusal { because: LeftBecause::Window, why, soft: true });
        }
        Ok(())
    }

    fn lacking(&self, backend: &BackendStatus) -> Vec<&'static str> {
        let mut needs = self.question.needs;
        // A persona that comes with the backend asks for no more than the backend has.
        needs.tools |= !self.question.persona.is_empty() && self.persona(backend).is_some_and(|p| p.requires_tools);
        needs.streaming &= self.rules.streaming_preferred;
        needs.lacking(&backend.capabilities.unwrap_or_default())
    }

    fn take(&self, backend: &BackendStatus, why: String) -> Taken {
        Taken {
            backend: backend.clone(),
            model: self.question.model.to_owned(),
            persona: self.persona(backend).cloned(),
            persona_named: !self.question.persona.is_empty(),
            own_cap: self.rules.own_caps.contains(&backend.name),
            budget: self.budget(backend),
            why,
        }
    }
}

/// Backends on their way to one of the two piles.
struct Sorting<'a> {
    judge: Judge<'a>,
    backends: &'a [BackendStatus],
    taken: Vec<Taken>,
    left: Vec<Left>,
}

impl Sorting<'_> {
    /// The backend that the caller named, or the first that serves the model that the caller named.
    fn named(&mut self) {
        let Judge { question, rules, .. } = self.judge;
        let backends = self.backends;
        // Those of the global chain in its order, then the others in theirs.
        let of_chain = rules.global_chain().filter_map(|name| super::candidates::find(name, backends));
        for backend in of_chain.chain(backends) {
            if self.is_sorted(backend) {
                continue;
            }
            let serves = match &question.serving {
                None => backend.name == question.backend,
                Some(serving) => serving.contains(&backend.name),
            };
            let what = if question.serving.is_none() { "backend" } else { "model" };
            if !serves || !self.taken.is_empty() {
                let why = format!("the caller named another {what}");
                self.leave(backend, Refusal::hard(LeftBecause::Overridden, why));
            } else {
                self.try_taking(backend, format!("the caller named this {what}"));
            }
        }
    }

    /// The persona's preferred backends with the chain of the task type (else the global chain); when that yields
    /// nothing, the global chain; when that yields nothing, whatever else is usable.
    fn chains(&mut self) {
        let Judge { rules, question, rule, task_type } = self.judge;
        if let Some(persona) = rules.personas.get(question.persona) {
            let why = format!("preferred by the persona {}", persona.id);
            self.try_all(persona.preferred_backends.iter().map(String::as_str), &why);
        }
        if !rule.chain.is_empty() {
            self.try_all(rule.chain.iter().map(String::as_str), &format!("in the chain of {task_type}"));
        }
        if rule.chain.is_empty() || self.taken.is_empty() {
            self.try_all(rules.global_chain(), "in the global chain");
        }
        if self.taken.is_empty() {
            let all: Vec<&str> = self.backends.iter().map(|b| b.name.as_str()).collect();
            self.try_all(all.into_iter(), "no backend of the chains can take the request");
        }
        for backend in self.backends {
            if !self.is_sorted(backend) {
                match self.judge.check(backend) {
                    Err(refusal) => self.leave(backend, refusal),
                    Ok(()) => {
                        let why = format!("not in the chain of {task_type}");
                        self.leave(backend, Refusal::hard(LeftBecause::Rule, why));
                    }
                }
            }
        }
    }

    fn try_all<'n>(&mut self, entries: impl Iterator<Item = &'n str>, why: &str) {
        let backends = self.backends;
        for backend in entries.filter_map(|entry| super::candidates::find(entry, backends)) {
            self.try_taking(backend, why.to_owned());
        }
    }

    fn try_taking(&mut self, backend: &BackendStatus, why: String) {
        if self.is_sorted(backend) {
            return;
        }
        match self.judge.check(backend) {
            Ok(()) => self.taken.push(self.judge.take(backend, why)),
            Err(refusal) => self.leave(backend, refusal),
        }
    }

    fn leave(&mut self, backend: &BackendStatus, Refusal { because, why, soft }: Refusal) {
        self.left.push(Left { backend: backend.name.clone(), model: backend.model.clone(), because, why, soft });
    }

    fn is_sorted(&self, backend: &BackendStatus) -> bool {
        self.taken.iter().any(|t| t.backend.name == backend.name) || self.left.iter().any(|l| l.backend == backend.name)
    }
}

/// Whether its gateway would refuse every call.
fn is_open(backend: &BackendStatus) -> bool {
    backend.breaker.as_ref().is_some_and(|breaker| breaker.state() == BreakerState::Open)
}

/// A breaker may close in the next moment, a window that may be too small is an estimate, and some capabilities have substitutes: better to try than to refuse.
fn last_resort(judge: &Judge<'_>, backends: &[BackendStatus], taken: &mut Vec<Taken>, left: &mut Vec<Left>) {
    let Some(at) = left.iter().position(|l| l.soft) else { return };
    let Some(backend) = backends.iter().find(|b| b.name == left[at].backend) else { return };
    let why = format!("tried although {}, for want of a better one", left[at].why);
    taken.push(judge.take(backend, why));
    left.remove(at);
}

#[cfg(test)]
#[path = "route_tests.rs"]
mod tests;
