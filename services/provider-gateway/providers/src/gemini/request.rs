//! The body of a generation.

use serde_json::{Map, Value, json};
use tutti_types::llm::{Format, Generation, ToolMode};

use super::{contents::Conversation, model::Model};
use crate::{Result, Target};

/// What every Gemini model can write, for callers without the gateway's default.
const FALLBACK_MAX_TOKENS: u32 = 8192;

/// The body, and what was dropped or changed in words.
///
/// # Errors
/// UNSUPPORTED for content that has no part.
pub(super) fn build(generation: &Generation, target: &Target) -> Result<(Value, Vec<String>)> {
    let model = Model::of(&target.model);
    let mut conversation = Conversation::of(&generation.messages, model, target)?;
    let mut body = Map::new();
    tools(generation, &mut body, &mut conversation);
    let mut config = sampling(generation, target, model, &mut conversation);
    format(generation, model, &mut config, &mut conversation);
    body.insert("generationConfig".into(), config.into());
    if !conversation.system.is_empty() {
        body.insert("systemInstruction".into(), json!({"parts": conversation.system}));
    }
    let warnings = std::mem::take(&mut conversation.warnings);
    body.insert("contents".into(), conversation.contents());
    Ok((body.into(), warnings))
}

fn tools(generation: &Generation, body: &mut Map<String, Value>, conversation: &mut Conversation<'_>) {
    if generation.tools.is_empty() {
        return;
    }
    let declarations = generation.tools.iter().map(|tool| {
        let mut out = json!({"name": tool.name, "parametersJsonSchema": tool.parameters});
        if !tool.description.is_empty() {
            out["description"] = tool.description.as_str().into();
        }
        out
    });
    let declarations: Value = declarations.collect();
    body.insert("tools".into(), json!([{"functionDeclarations": declarations}]));
    if generation.tool_choice.parallel == Some(false) {
        conversation.warn("the format can't forbid several tool calls in one answer");
    }
    let choice = match &generation.tool_choice.mode {
        ToolMode::Auto => return,
        ToolMode::Required => json!({"mode": "ANY"}),
        ToolMode::Tool(name) => json!({"mode": "ANY", "allowedFunctionNames": [name]}),
        ToolMode::None => json!({"mode": "NONE"}),
    };
    body.insert("toolConfig".into(), json!({"functionCallingConfig": choice}));
}

fn sampling(
    generation: &Generation,
    target: &Target,
    model: Model,
    conversation: &mut Conversation<'_>,
) -> Map<String, Value> {
    let s = &generation.sampling;
    let max_tokens = match (s.max_output_tokens, target.max_output_tokens) {
        (Some(wanted), Some(most)) if wanted > most => {
            conversation.warn("max_output_tokens was cut to what the model can write");
            most
        }
        (wanted, most) => wanted.or(most).unwrap_or(FALLBACK_MAX_TOKENS),
    };
    // The format's seeds have 32 bits; larger ones become others, the same every time.
    let seed = s.seed.map(|seed| i32::try_from(seed).map_or_else(|_| seed.rem_euclid(i64::from(i32::MAX)), i64::from));
    let mut config = Map::new();
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            config.insert(key.to_owned(), value);
        }
    };
    put("maxOutputTokens", Some(max_tokens.into()));
    put("temperature", s.temperature.map(Into::into));
    put("topP", s.top_p.map(Into::into));
    put("topK", s.top_k.map(Into::into));
    put("seed", seed.map(Into::into));
    put("stopSequences", (!s.stop.is_empty()).then(|| json!(s.stop)));
    if model.penalties() {
        put("presencePenalty", s.presence_penalty.map(Into::into));
        put("frequencyPenalty", s.frequency_penalty.map(Into::into));
    } else if s.presence_penalty.is_some() || s.frequency_penalty.is_some() {
        conversation.warn("the penalties were dropped: this model does not take them");
    }
    if let Some(effort) = s.effort {
        let (thinking, changed) = model.thinking_config(effort, max_tokens);
        put("thinkingConfig", thinking);
        changed.into_iter().for_each(|why| conversation.warn(why));
    }
    config
}

fn format(generation: &Generation, model: Model, config: &mut Map<String, Value>, conversation: &mut Conversation<'_>) {
    let schema = match &generation.format {
        Format::Text => return,
        Format::Json => None,
        Format::Schema(format) => Some(&format.schema),
    };
    if generation.tools.is_empty() || model.json_with_tools() {
        config.insert("responseMimeType".into(), "application/json".into());
        if let Some(schema) = schema {
            config.insert("responseJsonSchema".into(), schema.clone());
        }
        return;
    }
    conversation.warn("this model can't be held to JSON while it has tools; it was asked for it");
    let instruction = match schema {
        None => "Answer with one JSON value and nothing else: no other text, no code fence.".to_owned(),
        Some(schema) => {
            format!("Answer with one JSON value that satisfies this JSON Schema and nothing else: {schema}")
        }
    };
    conversation.system.push(json!({"text": instruction}));
}
