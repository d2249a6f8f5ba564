//! What to answer: segments of text, reasoning and tool calls, cut to the limits asked for,
//! with the usage to report. A token is 4 characters, always.

use serde_json::{Value, json};

use crate::ask::{Ask, Output, Role, ToolChoice, tokens_of};
use crate::digest;
use crate::fault::{Fault, UsageFault};
use crate::instance::instance;
use crate::script::{Directive, Script, words};

/// Characters a token.
pub(crate) const TOKEN_CHARS: usize = 4;

/// A tool call to make.
#[derive(Clone, Debug)]
pub(crate) struct ToolCall {
    /// Unique over all answers of this simulator, alphanumeric, 9 characters.
    pub(crate) key: String,
    /// The tool.
    pub(crate) name: String,
    /// The arguments as JSON text; broken when the script or a limit breaks it.
    pub(crate) args: String,
}

impl ToolCall {
    /// The arguments as an object, empty when they are broken.
    pub(crate) fn args_object(&self) -> Value {
        serde_json::from_str(&self.args).ok().filter(Value::is_object).unwrap_or_else(|| json!({}))
    }
}

/// One part of the answer.
#[derive(Clone, Debug)]
pub(crate) enum Segment {
    /// Reasoning.
    Think(String),
    /// Visible text.
    Text(String),
    /// A tool call.
    Tool(ToolCall),
}

impl Segment {
    fn tokens(&self) -> u64 {
        match self {
            Self::Think(text) | Self::Text(text) => tokens_of(text.chars().count()),
            Self::Tool(call) => tokens_of(call.name.chars().count()) + tokens_of(call.args.chars().count()),
        }
    }

    /// Shortens to `budget` tokens; `false` when nothing is left.
    fn clip(&mut self, budget: u64) -> bool {
        let clip = |text: &mut String, budget: u64| {
            let chars = usize::try_from(budget).unwrap_or(usize::MAX).saturating_mul(TOKEN_CHARS);
            if let Some((at, _)) = text.char_indices().nth(chars) {
                text.truncate(at);
            }
        };
        match self {
            Self::Think(text) | Self::Text(text) => clip(text, budget),
            Self::Tool(call) => {
                let name = tokens_of(call.name.chars().count());
                if name > budget {
                    return false;
                }
                clip(&mut call.args, budget - name);
            }
        }
        budget > 0
    }
}

/// Why the answer ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    /// It was complete.
    Stop,
    /// This stop sequence came up.
    StopSequence(String),
    /// The token limit.
    Length,
    /// To let tools run.
    ToolCalls,
    /// A content filter.
    ContentFilter,
    /// The provider's own failure.
    Error,
    /// A reason to be sent as it is.
    Raw(String),
}

/// Token figures to report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// The whole prompt.
    pub(crate) input: u64,
    /// Of it, read from the cache.
    pub(crate) cached: u64,
    /// Of it, written to the cache.
    pub(crate) cache_write: u64,
    /// Everything generated.
    pub(crate) output: u64,
    /// Of it, reasoning.
    pub(crate) reasoning: u64,
}

/// A planned answer.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// A number that is unique to the answer, from which identifiers are made.
    pub(crate) seed: u64,
    /// The model as the client named it.
    pub(crate) model: String,
    /// What to say.
    pub(crate) segments: Vec<Segment>,
    /// Why it ends.
    pub(crate) finish: Finish,
    /// What to report; `None` leaves usage out.
    pub(crate) usage: Option<Usage>,
    /// The true figures, whatever is reported.
    pub(crate) truth: Usage,
    /// How many answers to send.
    pub(crate) choices: u64,
}

impl Plan {
    /// Plans the answer to `ask`.
    pub(crate) fn new(ask: &Ask, script: &Script, fault: &Fault, seed: u64) -> Self {
        let mut segments = if fault.empty { Vec::new() } else { compose(ask, script, seed) };
        let mut finish = cut_at_stop(&mut segments, &ask.stops);
        if clip(&mut segments, ask.max_tokens) {
            finish = Finish::Length;
        }
        if finish == Finish::Stop && segments.iter().any(|part| matches!(part, Segment::Tool(_))) {
            finish = Finish::ToolCalls;
        }
        if let Some(scripted) = &fault.finish {
            finish = scripted_finish(scripted);
        }
        let truth = usage(ask, &segments, fault);
        let usage = reported(truth, fault.usage);
        let choices = ask.choices.clamp(1, 128);
        Self { seed, model: ask.model.clone(), segments, finish, usage, truth, choices }
    }

    /// All visible text.
    pub(crate) fn text(&self) -> Option<String> {
        join(self.segments.iter().map(|part| match part {
            Segment::Text(text) => Some(text),
            _ => None,
        }))
    }

    /// All reasoning.
    pub(crate) fn thought(&self) -> Option<String> {
        join(self.segments.iter().map(|part| match part {
            Segment::Think(text) => Some(text),
            _ => None,
        }))
    }

    /// The tool calls.
    pub(crate) fn calls(&self) -> impl Iterator<Item = &ToolCall> {
        self.segments.iter().filter_map(|part| match part {
            Segment::Tool(call) => Some(call),
            _ => None,
        })
    }

    /// Whether reasoning precedes the answer.
    pub(crate) fn thinks(&self) -> bool {
        self.segments.iter().any(|part| matches!(part, Segment::Think(_)))
    }
}

fn join<'a>(parts: impl Iterator<Item = Option<&'a String>>) -> Option<String> {
    parts.flatten().fold(None, |all: Option<String>, part| Some(all.unwrap_or_default() + part))
}

/// The parts of the answer, before any limit.
fn compose(ask: &Ask, script: &Script, seed: u64) -> Vec<Segment> {
    let round = ask.round();
    let mut parts = Composer { ask, seed, segments: Vec::new() };
    for directive in script.round(round) {
        parts.directive(directive);
    }
    let scripted = parts.segments.iter().any(|part| !matches!(part, Segment::Think(_)));
    if !scripted {
        parts.natural(script);
    }
    let thought = parts.segments.iter().any(|part| matches!(part, Segment::Think(_)));
    if ask.think == Some(true) && !thought {
        parts.segments.insert(0, Segment::Think("Let me think about this.".into()));
    }
    if ask.think == Some(false) {
        parts.segments.retain(|part| !matches!(part, Segment::Think(_)));
    }
    parts.segments
}

struct Composer<'a> {
    ask: &'a Ask,
    seed: u64,
    segments: Vec<Segment>,
}

impl Composer<'_> {
    fn directive(&mut self, directive: &Directive) {
        match directive {
            Directive::Say(text) => self.text(text.clone()),
            Directive::Think(text) => self.segments.push(Segment::Think(text.clone())),
            Directive::Tool { name, args } => self.call(name, args.clone()),
            Directive::Words(count) => self.text(words(*count)),
            Directive::System => self.text(self.ask.system()),
            Directive::History => self.text(history(self.ask)),
        }
    }

    fn text(&mut self, text: String) {
        match self.segments.last_mut() {
            Some(Segment::Text(before)) => before.push_str(&text),
            _ => self.segments.push(Segment::Text(text)),
        }
    }

    fn call(&mut self, name: &str, args: String) {
        let calls = self.segments.iter().filter(|part| matches!(part, Segment::Tool(_))).count();
        let forbidden = self.ask.choice == ToolChoice::None || (calls > 0 && !self.ask.parallel);
        if forbidden {
            return;
        }
        let seed = digest::mix(self.seed) ^ u64::try_from(calls).unwrap_or_default();
        let key = digest::token(seed, 9);
        self.segments.push(Segment::Tool(ToolCall { key, name: name.to_owned(), args }));
    }

    /// What a model would do without a script: the forced call, the report of the results,
    /// the JSON asked for, or an echo.
    fn natural(&mut self, script: &Script) {
        let forced = match &self.ask.choice {
            ToolChoice::Any => self.ask.tools.first(),
            ToolChoice::Named(name) => self.ask.tools.iter().find(|tool| tool.name == *name),
            ToolChoice::Auto | ToolChoice::None => None,
        };
        if let Some(tool) = forced {
            self.call(&tool.name, instance(&tool.schema).to_string());
            return;
        }
        let text = match &self.ask.output {
            Output::Schema(schema) => instance(schema).to_string(),
            Output::Json => json!({"echo": script.plain}).to_string(),
            Output::Text => free_text(self.ask, script),
        };
        self.text(text);
    }
}

fn free_text(ask: &Ask, script: &Script) -> String {
    let results = ask.results();
    if results.is_empty() {
        return format!("Echo: {}", script.plain);
    }
    let lines: Vec<String> = results.iter().map(|(name, text)| format!("{name} returned: {text}")).collect();
    lines.join("\n")
}

/// One line a turn, as the simulator received it.
fn history(ask: &Ask) -> String {
    let mut lines = Vec::with_capacity(ask.turns.len());
    for turn in &ask.turns {
        let role = match turn.role {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        };
        let mut line = format!("{role}: {}", turn.text.replace("[[", "<<").replace("]]", ">>"));
        for name in &turn.calls {
            line.push_str(&format!(" (calls {name})"));
        }
        for (name, text) in &turn.results {
            line.push_str(&format!(" ({name} returned {text})"));
        }
        lines.push(line);
    }
    lines.join("\n")
}

/// Ends the answer before the first stop sequence in its visible text.
fn cut_at_stop(segments: &mut Vec<Segment>, stops: &[String]) -> Finish {
    for (at, part) in segments.iter_mut().enumerate() {
        let Segment::Text(text) = part else { continue };
        let found = stops
            .iter()
            .filter(|stop| !stop.is_empty())
            .filter_map(|stop| text.find(stop.as_str()).map(|place| (place, stop)))
            .min();
        if let Some((place, stop)) = found {
            text.truncate(place);
            segments.truncate(at + 1);
            return Finish::StopSequence(stop.clone());
        }
    }
    Finish::Stop
}

/// Cuts the answer to `limit` tokens; whether anything was cut.
fn clip(segments: &mut Vec<Segment>, limit: Option<u64>) -> bool {
    let Some(mut budget) = limit else { return false };
    for at in 0..segments.len() {
        let tokens = segments[at].tokens();
        if tokens <= budget {
            budget -= tokens;
            continue;
        }
        let kept = segments[at].clip(budget);
        segments.truncate(at + usize::from(kept));
        return true;
    }
    limit == Some(0)
}

fn scripted_finish(name: &str) -> Finish {
    match name {
        "stop" => Finish::Stop,
        "length" => Finish::Length,
        "tool_calls" => Finish::ToolCalls,
        "content_filter" => Finish::ContentFilter,
        "error" => Finish::Error,
        other => Finish::Raw(other.to_owned()),
    }
}

fn usage(ask: &Ask, segments: &[Segment], fault: &Fault) -> Usage {
    let input = ask.input_tokens();
    let cached = fault.cached.unwrap_or(0).min(input);
    let cache_write = fault.cache_write.unwrap_or(0).min(input - cached);
    let thoughts = segments.iter().filter(|part| matches!(part, Segment::Think(_)));
    let choices = ask.choices.clamp(1, 128);
    Usage {
        input,
        cached,
        cache_write,
        output: segments.iter().map(Segment::tokens).sum::<u64>() * choices,
        reasoning: thoughts.map(Segment::tokens).sum::<u64>() * choices,
    }
}

fn reported(truth: Usage, fault: Option<UsageFault>) -> Option<Usage> {
    let scaled = |factor: u64| Usage {
        input: truth.input * factor,
        cached: truth.cached * factor,
        cache_write: truth.cache_write * factor,
        output: truth.output * factor,
        reasoning: truth.reasoning * factor,
    };
    match fault {
        None => Some(truth),
        Some(UsageFault::Missing) => None,
        Some(UsageFault::Zero) => Some(scaled(0)),
        Some(UsageFault::Double) => Some(scaled(2)),
        Some(UsageFault::Huge) => Some(Usage { output: 1_000_000_000, ..truth }),
    }
}
