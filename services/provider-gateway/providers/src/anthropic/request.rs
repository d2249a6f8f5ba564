//! The body of a generation.

use serde_json::{Map, Value, json};
use tutti_error::Reason;
use tutti_types::llm::{Effort, Format, Generation, ToolMode};

use super::{
    NEWEST, OLDEST, blocks,
    model::{Model, Thinking},
    schema::enforceable,
    turns::Conversation,
};
use crate::{ProviderError, Result, Target};

/// What every Claude model can write, for callers without the gateway's default.
const FALLBACK_MAX_TOKENS: u32 = 4096;
/// The API's lower bound of a thinking budget.
const MIN_BUDGET: u32 = 1024;

/// A request before it is bytes.
pub(super) struct Request {
    /// The JSON.
    pub(super) body: Value,
    /// The `anthropic-version` it is written for.
    pub(super) version: String,
    /// What was dropped or changed, in words.
    pub(super) warnings: Vec<String>,
}

/// # Errors
/// UNSUPPORTED for content without a block and for an assistant turn at the end where the model refuses it.
pub(super) fn build(generation: &Generation, target: &Target, stream: bool) -> Result<Request> {
    let model = Model::of(&target.model);
    let mut conversation = Conversation::of(&generation.messages, target)?;
    prefill(&mut conversation, model)?;
    let mut body = Map::new();
    body.insert("model".into(), target.model.as_str().into());
    body.insert("max_tokens".into(), max_tokens(generation, target, &mut conversation).into());
    if !generation.sampling.stop.is_empty() {
        body.insert("stop_sequences".into(), json!(generation.sampling.stop));
    }
    if stream {
        body.insert("stream".into(), true.into());
    }
    tools(generation, model, &mut body);
    format(generation, model, &mut body, &mut conversation);
    think(generation, model, &mut body, &mut conversation);
    let version = sample(generation, target, model, &mut body, &mut conversation);
    let Conversation { system, turns, warnings } = conversation;
    if !system.is_empty() {
        body.insert("system".into(), joined(system));
    }
    let messages = turns.into_iter().map(|turn| json!({"role": turn.role, "content": turn.blocks}));
    body.insert("messages".into(), messages.collect());
    Ok(Request { body: body.into(), version, warnings })
}

/// One text, unless a block has a mark to keep.
fn joined(system: Vec<Value>) -> Value {
    if system.iter().any(|block| block.get("cache_control").is_some()) {
        return system.into();
    }
    let texts: Vec<&str> = system.iter().filter_map(|block| block["text"].as_str()).collect();
    texts.join("\n\n").into()
}

/// An assistant turn at the end is to be gone on with. Without it the answer would be another one, so models that
/// refuse it are not asked.
fn prefill(conversation: &mut Conversation, model: Model) -> Result<()> {
    let Some(turn) = conversation.turns.last_mut().filter(|turn| turn.role == "assistant") else { return Ok(()) };
    let last = turn.blocks.last().map(blocks::kind).unwrap_or_default();
    if last == "server_tool_use" || last.ends_with("_tool_result") {
        // A paused turn: sending it back is how it goes on.
        return Ok(());
    }
    if !model.prefill {
        let message = "this model does not go on with an answer; the last message must not be the assistant's";
        return Err(ProviderError::new(Reason::Unsupported, message));
    }
    if let Some(Value::String(text)) = turn.blocks.last_mut().and_then(|block| block.get_mut("text")) {
        // Trailing white space is refused.
        text.truncate(text.trim_end().len());
    }
    Ok(())
}

fn max_tokens(generation: &Generation, target: &Target, conversation: &mut Conversation) -> u32 {
    let wanted = generation.sampling.max_output_tokens;
    match (wanted, target.max_output_tokens) {
        (Some(wanted), Some(most)) if wanted > most => {
            conversation.warn("max_output_tokens was cut to what the model can write");
            most
        }
        (Some(wanted), _) => wanted,
        (None, most) => most.unwrap_or(FALLBACK_MAX_TOKENS),
    }
}

fn tools(generation: &Generation, model: Model, body: &mut Map<String, Value>) {
    if generation.tools.is_empty() {
        return;
    }
    let tools = generation.tools.iter().map(|tool| {
        let mut out = json!({"name": tool.name, "input_schema": tool.parameters});
        if !tool.description.is_empty() {
            out["description"] = tool.description.as_str().into();
        }
        if tool.strict && model.schema {
            out["strict"] = true.into();
            out["input_schema"] = enforceable(&tool.parameters);
        }
        out
    });
    body.insert("tools".into(), tools.collect());
    let choice = &generation.tool_choice;
    let mut out = match &choice.mode {
        ToolMode::Auto if choice.parallel != Some(false) => return,
        ToolMode::Auto => json!({"type": "auto"}),
        ToolMode::Required => json!({"type": "any"}),
        ToolMode::Tool(name) => json!({"type": "tool", "name": name}),
        ToolMode::None => json!({"type": "none"}),
    };
    if choice.parallel == Some(false) && choice.mode != ToolMode::None {
        out["disable_parallel_tool_use"] = true.into();
    }
    body.insert("tool_choice".into(), out);
}

fn format(generation: &Generation, model: Model, body: &mut Map<String, Value>, conversation: &mut Conversation) {
    let instruction = match &generation.format {
        Format::Text => return,
        Format::Json => "Answer with one JSON value and nothing else: no other text, no code fence.".to_owned(),
        Format::Schema(format) if model.schema => {
            let format = json!({"type": "json_schema", "schema": enforceable(&format.schema)});
            body.insert("output_config".into(), json!({"format": format}));
            return;
        }
        Format::Schema(format) => {
            conversation.warn("this model can't be held to a schema; it was asked to follow it");
            let schema = &format.schema;
            format!("Answer with one JSON value that satisfies this JSON Schema and nothing else: {schema}")
        }
    };
    conversation.system.push(json!({"type": "text", "text": instruction}));
}

fn think(generation: &Generation, model: Model, body: &mut Map<String, Value>, conversation: &mut Conversation) {
    let Some(effort) = generation.sampling.effort else { return };
    let forced = matches!(generation.tool_choice.mode, ToolMode::Required | ToolMode::Tool(_));
    match (model.thinking, effort) {
        (Thinking::Never | Thinking::Budget | Thinking::Adaptive, Effort::None) => {}
        (Thinking::Never, _) => conversation.warn("this model does not think; the effort was dropped"),
        (Thinking::AdaptiveByDefault, Effort::None) => {
            body.insert("thinking".into(), json!({"type": "disabled"}));
        }
        (Thinking::Always, Effort::None) => {
            conversation.warn("this model always thinks; it was asked to do little of it");
            set_effort(body, "low");
        }
        (Thinking::Budget, _) => match budget(effort, body, forced, conversation) {
            Ok(budget) => {
                body.insert("thinking".into(), json!({"type": "enabled", "budget_tokens": budget}));
            }
            Err(why) => conversation.warn(why),
        },
        (thinking, _) => {
            set_effort(body, level(effort));
            if forced {
                conversation.warn("a tool call was demanded, which leaves no room for asked thinking");
            } else if thinking == Thinking::Adaptive {
                body.insert("thinking".into(), json!({"type": "adaptive"}));
            } else {
                // Newer models keep their reasoning to themselves unless asked.
                body.insert("thinking".into(), json!({"type": "adaptive", "display": "summarized"}));
            }
        }
    }
}

fn set_effort(body: &mut Map<String, Value>, level: &str) {
    let config = body.entry("output_config").or_insert_with(|| json!({}));
    config["effort"] = level.into();
}

fn level(effort: Effort) -> &'static str {
    match effort {
        Effort::None | Effort::Minimal | Effort::Low => "low",
        Effort::Medium => "medium",
        Effort::High => "high",
        Effort::Max => "max",
    }
}

/// At most half of the output, so that an answer still fits.
fn budget(
    effort: Effort,
    body: &Map<String, Value>,
    forced: bool,
    conversation: &Conversation,
) -> Result<u64, &'static str> {
    let most = body["max_tokens"].as_u64().unwrap_or_default();
    if forced {
        return Err("a tool call was demanded, which excludes thinking");
    }
    if conversation.lacks_reasoning() {
        return Err("thinking was left out: the history has a tool call without its reasoning");
    }
    if most <= u64::from(MIN_BUDGET) {
        return Err("thinking was left out: max_output_tokens leaves no room for it");
    }
    let wanted: u32 = match effort {
        Effort::None | Effort::Minimal => MIN_BUDGET,
        Effort::Low => 4096,
        Effort::Medium => 8192,
        Effort::High => 16_384,
        Effort::Max => 32_000,
    };
    Ok(u64::from(wanted).min(most / 2).max(u64::from(MIN_BUDGET)))
}

/// Puts in the sampling parameters where they are taken, and chooses the version for them.
fn sample(
    generation: &Generation,
    target: &Target,
    model: Model,
    body: &mut Map<String, Value>,
    conversation: &mut Conversation,
) -> String {
    let s = &generation.sampling;
    for (set, name) in [
        (s.seed.is_some(), "seed"),
        (s.presence_penalty.is_some(), "presence_penalty"),
        (s.frequency_penalty.is_some(), "frequency_penalty"),
    ] {
        if set {
            conversation.warn(&format!("{name} was dropped: the format has no place for it"));
        }
    }
    let configured = target.api_version.as_deref();
    let thinks = body.get("thinking").is_some_and(|thinking| thinking["type"] != "disabled");
    let wanted = s.temperature.is_some() || s.top_p.is_some() || s.top_k.is_some();
    if !wanted {
        return configured.unwrap_or(NEWEST).to_owned();
    }
    if !model.sampling || thinks || configured.is_some_and(|version| version != OLDEST) {
        let why = if thinks { "while it thinks" } else { "on this API version" };
        conversation.warn(&format!("temperature, top_p and top_k were dropped: the model does not take them {why}"));
        return configured.unwrap_or(NEWEST).to_owned();
    }
    if let Some(temperature) = s.temperature {
        if temperature > 1.0 {
            conversation.warn("temperature was cut to 1: the format takes no more");
        }
        body.insert("temperature".into(), temperature.min(1.0).into());
    }
    match s.top_p {
        Some(_) if s.temperature.is_some() && !model.temperature_with_top_p => {
            conversation.warn("top_p was dropped: the model does not take it together with temperature");
        }
        Some(top_p) => {
            body.insert("top_p".into(), top_p.into());
        }
        None => {}
    }
    if let Some(top_k) = s.top_k {
        body.insert("top_k".into(), top_k.into());
    }
    OLDEST.to_owned()
}
