//! Neutral content as Gemini's parts.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tutti_error::Reason;
use tutti_types::llm::{Content, Media, MediaSource, Part, ToolCall};

use super::{
    model::Model,
    state::{FOREIGN_SIGNATURE, On, State},
};
use crate::{ProviderError, Result, Target};

/// Addresses that Google fetches.
const KNOWN_HOSTS: [&str; 4] = [
    "https://generativelanguage.googleapis.com/",
    "https://www.youtube.com/",
    "https://youtube.com/",
    "https://youtu.be/",
];

/// Text and files of a user or a tool. Empty text and reasoning are left out.
///
/// # Errors
/// UNSUPPORTED for an address that Google doesn't fetch.
pub(super) fn of_content(content: &Content) -> Result<Option<Value>> {
    match content {
        Content::Text(text) if text.is_empty() => Ok(None),
        Content::Text(text) => Ok(Some(json!({"text": text}))),
        Content::Reasoning(_) => Ok(None),
        Content::Image(media) | Content::Audio(media) | Content::File(media) => of_media(media).map(Some),
    }
}

/// What a model wrote, with the signatures that this model put on it.
///
/// # Errors
/// UNSUPPORTED for an address that Google doesn't fetch.
pub(super) fn of_answer(parts: &[Part], target: &Target) -> Result<Vec<Value>> {
    let mut out: Vec<Value> = Vec::with_capacity(parts.len());
    for part in parts {
        let Content::Reasoning(reasoning) = &part.content else {
            out.extend(of_content(&part.content)?);
            continue;
        };
        let Some(state) = State::of(reasoning.state.as_ref(), target) else { continue };
        let text_before = out.last_mut().filter(|part| part.get("text").is_some() && part.get("thought").is_none());
        match (state.on, text_before) {
            (On::Text, Some(part)) => state.sign(part),
            (On::Thought, _) => {
                let mut part = json!({"text": reasoning.text, "thought": true});
                state.sign(&mut part);
                out.push(part);
            }
            _ => {
                let mut part = json!({"text": ""});
                state.sign(&mut part);
                out.push(part);
            }
        }
    }
    Ok(out)
}

/// The calls of one answer. Gemini signs the first of parallel calls.
pub(super) fn of_calls(calls: &[ToolCall], model: Model, target: &Target) -> Vec<Value> {
    let mut out = Vec::with_capacity(calls.len());
    for call in calls {
        let args = serde_json::from_str::<Value>(&call.arguments).ok().filter(Value::is_object);
        // What is no object can't be sent as one; the model still sees what it wrote.
        let args = args.unwrap_or_else(|| json!({"invalid_arguments": call.arguments}));
        let mut part = json!({"functionCall": {"name": call.name, "args": args}});
        let mut state = State::of(call.state.as_ref(), target).unwrap_or_default();
        if state.thought_signature.is_empty() && out.is_empty() && model.demands_signatures() {
            FOREIGN_SIGNATURE.clone_into(&mut state.thought_signature);
        }
        state.sign(&mut part);
        if !state.id.is_empty() {
            part["functionCall"]["id"] = state.id.into();
        }
        out.push(part);
    }
    out
}

/// The result of a call: always an object, so text is wrapped. Files come inside of it or, for older models, after it.
///
/// # Errors
/// UNSUPPORTED for an address that Google doesn't fetch.
pub(super) fn of_result(name: &str, id: &str, parts: &[Part], is_error: bool, model: Model) -> Result<Vec<Value>> {
    let mut text = String::new();
    let mut files = Vec::new();
    for part in parts {
        match &part.content {
            Content::Text(piece) => text.push_str(piece),
            content => files.extend(of_content(content)?),
        }
    }
    let object = serde_json::from_str::<Value>(&text).ok().filter(Value::is_object);
    let response = match (object, is_error) {
        (Some(object), false) => object,
        (Some(object), true) => json!({"error": object}),
        (None, false) => json!({"output": text}),
        (None, true) => json!({"error": text}),
    };
    let mut result = json!({"functionResponse": {"name": name, "response": response}});
    if !id.is_empty() {
        result["functionResponse"]["id"] = id.into();
    }
    if model.nests_files() && !files.is_empty() {
        result["functionResponse"]["parts"] = std::mem::take(&mut files).into();
    }
    Ok(std::iter::once(result).chain(files).collect())
}

fn of_media(media: &Media) -> Result<Value> {
    match &media.source {
        MediaSource::Inline(data) => {
            let known = ["image/", "audio/", "video/", "text/"].iter().any(|kind| media.media_type.starts_with(kind));
            // Whatever reads as text is text to the model; the API knows few types of it.
            let is_text = !known && media.media_type != "application/pdf" && std::str::from_utf8(data).is_ok();
            let mime_type = if is_text { "text/plain" } else { media.media_type.as_str() };
            Ok(json!({"inlineData": {"mimeType": mime_type, "data": BASE64_STANDARD.encode(data)}}))
        }
        MediaSource::Url(url) if KNOWN_HOSTS.iter().any(|host| url.starts_with(host)) => {
            let mut file = json!({"fileUri": url});
            if !media.media_type.is_empty() {
                file["mimeType"] = media.media_type.as_str().into();
            }
            Ok(json!({"fileData": file}))
        }
        MediaSource::Url(_) => {
            let message = "Gemini does not fetch addresses of others; send the data inline";
            Err(ProviderError::new(Reason::Unsupported, message))
        }
    }
}
