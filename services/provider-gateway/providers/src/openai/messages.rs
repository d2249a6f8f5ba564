//! Messages in OpenAI's form.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tutti_error::Reason;
use tutti_types::llm::{CacheTtl, Content, Generation, Media, MediaSource, Message, Part, ToolCall};

use super::dialect::{self, CacheStyle, Files, Replay, Rules, ToolIds};
use crate::{ProviderError, Result, Target};

/// Writes messages for one target.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    pub(super) rules: &'a Rules,
    pub(super) target: &'a Target,
    /// The role of instructions.
    pub(super) system: &'static str,
    /// Earlier reasoning must come back.
    replay: Option<&'static str>,
    cache: CacheStyle,
    pub(super) warnings: Vec<String>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(generation: &Generation, target: &'a Target, rules: &'a Rules) -> Self {
        let called = |m: &Message| matches!(m, Message::Assistant { tool_calls, .. } if !tool_calls.is_empty());
        let replay = match rules.replay {
            Replay::WithTools(missing) if generation.messages.iter().any(called) => Some(missing),
            _ => None,
        };
        let name = dialect::generation(&target.model);
        let is_openai = matches!(rules.effort, dialect::EffortStyle::OpenAi);
        let cache = match rules.cache {
            CacheStyle::Breakpoint if name.version < (5, 6) => CacheStyle::Implicit,
            cache => cache,
        };
        let system = if is_openai && name.reasons { "developer" } else { "system" };
        Self { rules, target, system, replay, cache, warnings: Vec::new() }
    }

    /// All messages, in order. Pictures in tool results, which are text only here, follow in a user message after the
    /// last result of their turn.
    pub(super) fn messages(&mut self, messages: &[Message]) -> Result<Vec<Value>> {
        let mut out = Vec::with_capacity(messages.len());
        let mut shown = Vec::new();
        for message in messages {
            if !matches!(message, Message::Tool { .. }) {
                flush(&mut shown, &mut out);
            }
            match message {
                Message::System { parts } => {
                    out.push(json!({"role": self.system, "content": self.text_content(parts, "instructions")?}));
                }
                Message::User { parts, name } => out.push(self.user(parts, name.as_deref())?),
                Message::Assistant { parts, tool_calls } => out.extend(self.assistant(parts, tool_calls)),
                Message::Tool { call_id, name, parts, .. } => {
                    out.push(self.tool(call_id, name, parts, &mut shown)?);
                }
            }
        }
        flush(&mut shown, &mut out);
        Ok(out)
    }

    fn user(&mut self, parts: &[Part], name: Option<&str>) -> Result<Value> {
        let is_text = |p: &Part| matches!(p.content, Content::Text(_) | Content::Reasoning(_));
        let content = if parts.iter().all(is_text) {
            self.text_content(parts, "a user message")?
        } else {
            Value::Array(self.parts(parts)?)
        };
        let mut message = json!({"role": "user", "content": content});
        match name {
            Some(name) if self.rules.names => message["name"] = json!(name),
            Some(_) => self.warnings.push("the provider takes no speaker names; they were left out".into()),
            None => {}
        }
        Ok(message)
    }

    /// Text as one string, the form that every server takes; as parts only where one carries a cache wish.
    fn text_content(&mut self, parts: &[Part], place: &str) -> Result<Value> {
        if parts.iter().any(|p| matches!(p.content, Content::Image(_) | Content::Audio(_) | Content::File(_))) {
            return Err(unsupported(format!("{place} can hold text only")));
        }
        let wishes = self.cache != CacheStyle::Implicit && parts.iter().any(|p| p.cache.is_some());
        if wishes { Ok(Value::Array(self.parts(parts)?)) } else { Ok(json!(text_of(parts))) }
    }

    fn parts(&mut self, parts: &[Part]) -> Result<Vec<Value>> {
        let mut out = Vec::with_capacity(parts.len());
        for part in parts {
            let mut value = match &part.content {
                Content::Text(text) => json!({"type": "text", "text": text}),
                Content::Image(media) => image(media),
                Content::Audio(media) => audio(media)?,
                Content::File(media) => self.file(media)?,
                Content::Reasoning(_) => continue,
            };
            if let Some(ttl) = part.cache {
                self.mark_cache(&mut value, ttl);
            }
            out.push(value);
        }
        Ok(out)
    }

    fn mark_cache(&self, part: &mut Value, ttl: CacheTtl) {
        match (self.cache, ttl) {
            (CacheStyle::Implicit, _) => {}
            (CacheStyle::Breakpoint, CacheTtl::FiveMinutes) => {
                part["prompt_cache_breakpoint"] = json!({"mode": "explicit", "ttl": "30m"});
            }
            (CacheStyle::Breakpoint, CacheTtl::OneHour) => {
                part["prompt_cache_breakpoint"] = json!({"mode": "explicit", "ttl": "12h"});
            }
            (CacheStyle::Control, CacheTtl::FiveMinutes) => part["cache_control"] = json!({"type": "ephemeral"}),
            (CacheStyle::Control, CacheTtl::OneHour) => {
                part["cache_control"] = json!({"type": "ephemeral", "ttl": "1h"});
            }
        }
    }

    fn file(&self, media: &Media) -> Result<Value> {
        let name = media.filename.as_deref().unwrap_or("document");
        match (self.rules.files, &media.source) {
            (Files::Inline, MediaSource::Url(_)) => Err(unsupported("documents must be sent inline")),
            (Files::DocumentUrl, _) => Ok(json!({"type": "document_url", "document_url": address(media)})),
            _ => Ok(json!({"type": "file", "file": {"file_data": address(media), "filename": name}})),
        }
    }

    /// `None` for a message of which nothing can be shown to this model.
    fn assistant(&self, parts: &[Part], tool_calls: &[ToolCall]) -> Option<Value> {
        let text = text_of(parts);
        if text.is_empty() && tool_calls.is_empty() {
            return None;
        }
        let content = if text.is_empty() { Value::Null } else { json!(text) };
        let mut message = json!({"role": "assistant", "content": content});
        if !tool_calls.is_empty() {
            message["tool_calls"] = tool_calls.iter().map(|call| self.call(call)).collect();
        }
        if let Some(missing) = self.replay {
            match self.reasoning(parts) {
                Some(reasoning) => message["reasoning_content"] = json!(reasoning),
                None if self.target.reasoning => message["reasoning_content"] = json!(missing),
                None => {}
            }
        }
        Some(message)
    }

    /// What this provider and model said earlier, verbatim.
    fn reasoning(&self, parts: &[Part]) -> Option<String> {
        let state = |part: &Part| match &part.content {
            Content::Reasoning(r) => r.state.as_ref()?.for_target(&self.target.provider, &self.target.model).cloned(),
            _ => None,
        };
        let states: Vec<_> = parts.iter().filter_map(state).collect();
        (!states.is_empty()).then(|| states.iter().map(|s| String::from_utf8_lossy(s)).collect())
    }

    fn call(&self, call: &ToolCall) -> Value {
        json!({
            "id": self.id(&call.id),
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        })
    }

    fn tool(&mut self, call_id: &str, name: &str, parts: &[Part], shown: &mut Vec<Value>) -> Result<Value> {
        let is_media = |p: &&Part| matches!(p.content, Content::Image(_) | Content::Audio(_) | Content::File(_));
        let media: Vec<Part> = parts.iter().filter(is_media).cloned().collect();
        if !media.is_empty() {
            shown.push(json!({"type": "text", "text": format!("From the result of {name} ({call_id}):")}));
            shown.extend(self.parts(&media)?);
            let warning = "a tool result can hold text only here; its media follow in a user message";
            self.warnings.push(warning.into());
        }
        Ok(json!({"role": "tool", "tool_call_id": self.id(call_id), "content": text_of(parts)}))
    }

    /// The id as this server takes it: the same for a call and its result.
    fn id(&self, id: &str) -> String {
        match self.rules.tool_ids {
            ToolIds::Nine if id.len() != 9 || !id.bytes().all(|b| b.is_ascii_alphanumeric()) => short_id(id, 9),
            ToolIds::Forty if id.len() > 40 => format!("call_{}", short_id(id, 24)),
            _ => id.to_owned(),
        }
    }
}

/// Letters and digits that stand for an id.
fn short_id(id: &str, length: usize) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let hash = Sha256::digest(id);
    hash.iter().take(length).map(|byte| char::from(DIGITS[usize::from(*byte) % DIGITS.len()])).collect()
}

fn flush(shown: &mut Vec<Value>, out: &mut Vec<Value>) {
    if !shown.is_empty() {
        out.push(json!({"role": "user", "content": std::mem::take(shown)}));
    }
}

fn text_of(parts: &[Part]) -> String {
    let text = |p: &Part| if let Content::Text(text) = &p.content { Some(text.clone()) } else { None };
    parts.iter().filter_map(text).collect()
}

fn image(media: &Media) -> Value {
    let mut image = json!({"url": address(media)});
    if let Some(detail) = &media.detail {
        image["detail"] = json!(detail);
    }
    json!({"type": "image_url", "image_url": image})
}

fn audio(media: &Media) -> Result<Value> {
    let MediaSource::Inline(bytes) = &media.source else {
        return Err(unsupported("sounds must be sent inline"));
    };
    let format = match media.media_type.trim_start_matches("audio/") {
        "mpeg" | "mp3" | "mpeg3" => "mp3",
        "wav" | "x-wav" | "wave" | "vnd.wave" => "wav",
        other => other,
    };
    Ok(json!({"type": "input_audio", "input_audio": {"data": STANDARD.encode(bytes), "format": format}}))
}

fn address(media: &Media) -> String {
    match &media.source {
        MediaSource::Url(url) => url.clone(),
        MediaSource::Inline(bytes) => format!("data:{};base64,{}", media.media_type, STANDARD.encode(bytes)),
    }
}

fn unsupported(message: impl Into<String>) -> ProviderError {
    ProviderError::new(Reason::Unsupported, message)
}
