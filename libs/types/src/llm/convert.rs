//! Wire messages to validated ones and back.

use std::collections::{HashMap, HashSet};

use tutti_error::{Error, Result};
use tutti_proto::llm::v1 as wire;

use super::{
    CacheTtl, Completion, Content, Finish, Media, MediaSource, Message, Part, ProviderState, Reasoning, ToolCall,
    message::text_of,
};

/// Checks messages in their wire form, for services that only pass them on.
///
/// # Errors
/// INVALID_REQUEST naming the first field that is wrong, under `path`.
pub fn check_messages(messages: &[wire::Message], path: &str) -> Result<()> {
    messages_from_wire(messages, path).map(drop)
}

/// Validates a conversation: roles set, content present, tool results answer a call that came before, tool arguments
/// are JSON objects.
///
/// # Errors
/// INVALID_REQUEST naming the first field that is wrong, under `path`.
pub fn messages_from_wire(messages: &[wire::Message], path: &str) -> Result<Vec<Message>> {
    let mut calls = HashMap::new();
    messages
        .iter()
        .enumerate()
        .map(|(index, message)| message_from_wire(message, &format!("{path}[{index}]"), &mut calls))
        .collect()
}

fn message_from_wire(message: &wire::Message, path: &str, calls: &mut HashMap<String, String>) -> Result<Message> {
    let parts = parts_from_wire(message, path)?;
    let is_assistant = message.role() == wire::Role::Assistant;
    if !is_assistant && !message.tool_calls.is_empty() {
        return Err(Error::invalid(format!("{path}.tool_calls"), "only an assistant message has tool calls"));
    }
    match message.role() {
        wire::Role::Unspecified => Err(Error::invalid(format!("{path}.role"), "is required")),
        wire::Role::Tool => {
            let Some(known) = calls.get(&message.tool_call_id) else {
                return Err(Error::invalid(
                    format!("{path}.tool_call_id"),
                    "must be the id of a tool call in an assistant message before",
                ));
            };
            let name = if message.name.is_empty() { known.clone() } else { message.name.clone() };
            Ok(Message::Tool { call_id: message.tool_call_id.clone(), name, parts, is_error: message.tool_error })
        }
        role if parts.is_empty() && message.tool_calls.is_empty() => {
            let _ = role;
            Err(Error::invalid(format!("{path}.text"), "the message is empty"))
        }
        wire::Role::System => Ok(Message::System { parts }),
        wire::Role::User => {
            let name = (!message.name.is_empty()).then(|| message.name.clone());
            Ok(Message::User { parts, name })
        }
        wire::Role::Assistant => {
            let tool_calls = calls_from_wire(&message.tool_calls, path, calls)?;
            Ok(Message::Assistant { parts, tool_calls })
        }
    }
}

fn calls_from_wire(wire: &[wire::ToolCall], path: &str, known: &mut HashMap<String, String>) -> Result<Vec<ToolCall>> {
    let mut here = HashSet::new();
    let mut calls = Vec::with_capacity(wire.len());
    for (index, call) in wire.iter().enumerate() {
        let path = format!("{path}.tool_calls[{index}]");
        if call.id.is_empty() || !here.insert(call.id.as_str()) {
            return Err(Error::invalid(format!("{path}.id"), "must be set and unique"));
        }
        if call.name.is_empty() {
            return Err(Error::invalid(format!("{path}.name"), "is required"));
        }
        known.insert(call.id.clone(), call.name.clone());
        calls.push(call_from_wire(call, &path)?);
    }
    Ok(calls)
}

fn call_from_wire(call: &wire::ToolCall, path: &str) -> Result<ToolCall> {
    let arguments = if call.arguments_json.trim().is_empty() { "{}".to_owned() } else { call.arguments_json.clone() };
    if serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&arguments).is_err() {
        return Err(Error::invalid(format!("{path}.arguments_json"), "must be a JSON object"));
    }
    let state = state(&call.provider, &call.model, &call.opaque);
    Ok(ToolCall { id: call.id.clone(), name: call.name.clone(), arguments, state })
}

fn state(provider: &str, model: &str, data: &bytes::Bytes) -> Option<ProviderState> {
    (!data.is_empty()).then(|| ProviderState { provider: provider.into(), model: model.into(), data: data.clone() })
}

fn parts_from_wire(message: &wire::Message, path: &str) -> Result<Vec<Part>> {
    let mut parts = Vec::with_capacity(message.parts.len() + 1);
    for (index, part) in message.parts.iter().enumerate() {
        parts.push(part_from_wire(part, &format!("{path}.parts[{index}]"))?);
    }
    // Servers fill `text` with the text parts; only text that says more comes first.
    if !message.text.is_empty() && message.text != text_of(&parts) {
        parts.insert(0, Part::text(message.text.clone()));
    }
    Ok(parts)
}

fn part_from_wire(part: &wire::Part, path: &str) -> Result<Part> {
    use wire::part::Kind;
    let content = match &part.kind {
        None => return Err(Error::invalid(path, "says nothing; set one kind of content")),
        Some(Kind::Text(text)) => Content::Text(text.clone()),
        Some(Kind::Image(image)) => {
            let source = match &image.source {
                Some(wire::image::Source::Data(data)) => Some(MediaSource::Inline(data.clone())),
                Some(wire::image::Source::Url(url)) => Some(MediaSource::Url(url.clone())),
                None => None,
            };
            let detail = (!image.detail.is_empty()).then(|| image.detail.clone());
            Content::Image(Media { detail, ..media(source, &image.media_type, "", &format!("{path}.image"))? })
        }
        Some(Kind::Audio(audio)) => {
            let source = Some(MediaSource::Inline(audio.data.clone()));
            Content::Audio(media(source, &audio.media_type, "", &format!("{path}.audio"))?)
        }
        Some(Kind::File(file)) => {
            let source = match &file.source {
                Some(wire::file::Source::Data(data)) => Some(MediaSource::Inline(data.clone())),
                Some(wire::file::Source::Url(url)) => Some(MediaSource::Url(url.clone())),
                None => None,
            };
            Content::File(media(source, &file.media_type, &file.filename, &format!("{path}.file"))?)
        }
        Some(Kind::Reasoning(r)) => {
            Content::Reasoning(Reasoning { text: r.text.clone(), state: state(&r.provider, &r.model, &r.opaque) })
        }
    };
    let cache = part.cache_hint.as_ref().map(|hint| {
        if hint.ttl.is_some_and(|ttl| ttl.seconds > 300) { CacheTtl::OneHour } else { CacheTtl::FiveMinutes }
    });
    Ok(Part { content, cache })
}

fn media(source: Option<MediaSource>, media_type: &str, filename: &str, path: &str) -> Result<Media> {
    let source = source.ok_or_else(|| Error::invalid(path, "has neither data nor url"))?;
    match &source {
        MediaSource::Inline(data) if data.is_empty() => return Err(Error::invalid(format!("{path}.data"), "is empty")),
        MediaSource::Inline(_) if !media_type.contains('/') => {
            return Err(Error::invalid(format!("{path}.media_type"), "must be a type such as image/png"));
        }
        MediaSource::Url(url) if !url.starts_with("https://") && !url.starts_with("http://") => {
            return Err(Error::invalid(format!("{path}.url"), "must be an https address"));
        }
        _ => {}
    }
    let filename = (!filename.is_empty()).then(|| filename.to_owned());
    Ok(Media { source, media_type: media_type.to_owned(), filename, detail: None })
}

impl From<ToolCall> for wire::ToolCall {
    fn from(call: ToolCall) -> Self {
        let (provider, model, opaque) = unpack(call.state);
        Self { id: call.id, name: call.name, arguments_json: call.arguments, opaque, provider, model }
    }
}

fn unpack(state: Option<ProviderState>) -> (String, String, bytes::Bytes) {
    state.map(|s| (s.provider, s.model, s.data)).unwrap_or_default()
}

impl Completion {
    /// The answer as a message: `text` always, `parts` only where there is more than text.
    pub fn to_wire_message(&self) -> wire::Message {
        let plain = self.parts.iter().all(|p| matches!(p.content, Content::Text(_)));
        let parts = if plain { Vec::new() } else { self.parts.iter().filter_map(part_to_wire).collect() };
        wire::Message {
            role: wire::Role::Assistant.into(),
            text: self.text(),
            parts,
            tool_calls: self.tool_calls.iter().cloned().map(Into::into).collect(),
            ..Default::default()
        }
    }
}

/// Models answer with text and reasoning; other content has no way back to the wire yet.
fn part_to_wire(part: &Part) -> Option<wire::Part> {
    let kind = match &part.content {
        Content::Text(text) => wire::part::Kind::Text(text.clone()),
        Content::Reasoning(r) => {
            let (provider, model, opaque) = unpack(r.state.clone());
            wire::part::Kind::Reasoning(wire::Reasoning { text: r.text.clone(), opaque, provider, model })
        }
        Content::Image(_) | Content::Audio(_) | Content::File(_) => return None,
    };
    Some(wire::Part { kind: Some(kind), cache_hint: None })
}

impl From<Finish> for wire::FinishReason {
    fn from(finish: Finish) -> Self {
        match finish {
            Finish::Stop => Self::Stop,
            Finish::Length => Self::Length,
            Finish::ToolCalls => Self::ToolCalls,
            Finish::ContentFilter => Self::ContentFilter,
        }
    }
}
