//! Neutral content as Anthropic's blocks.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tutti_error::Reason;
use tutti_types::llm::{Content, Media, MediaSource, ToolCall};

use crate::{ProviderError, Result, Target};

/// What a tool call keeps for its replay: where it stood.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CallState {
    /// How many parts of the answer came before it.
    pub(super) parts_before: usize,
}

/// The `type` of a block.
pub(super) fn kind(block: &Value) -> &str {
    block["type"].as_str().unwrap_or_default()
}

/// The block of a piece of content. None for blank text, which the API refuses, and for reasoning of others.
///
/// # Errors
/// UNSUPPORTED for content that has no block.
pub(super) fn of_part(content: &Content, target: &Target, role: &str) -> Result<Option<Value>> {
    match content {
        Content::Text(text) if text.trim().is_empty() => Ok(None),
        Content::Text(text) => Ok(Some(json!({"type": "text", "text": text}))),
        Content::Reasoning(reasoning) => {
            let state = reasoning.state.as_ref().and_then(|s| s.for_target(&target.provider, &target.model));
            Ok(state.and_then(|data| serde_json::from_slice(data).ok()).filter(Value::is_object))
        }
        Content::Audio(_) => Err(unsupported("Anthropic takes no audio")),
        Content::Image(_) | Content::File(_) if role == "assistant" => {
            Err(unsupported("Anthropic takes images and files only from the user and from tools"))
        }
        Content::Image(image) => image_block(image).map(Some),
        Content::File(file) if file.media_type.starts_with("image/") => image_block(file).map(Some),
        Content::File(file) => document(file).map(Some),
    }
}

/// A tool call in the history.
pub(super) fn of_call(call: &ToolCall) -> Value {
    let input = serde_json::from_str::<Value>(&call.arguments).ok().filter(Value::is_object);
    // What is no object can't be sent as one; the model still sees what it wrote.
    let input = input.unwrap_or_else(|| json!({"invalid_arguments": call.arguments}));
    let name = if is_plain(&call.name) { call.name.clone() } else { call.name.replace(|c| !is_plain_char(c), "_") };
    json!({"type": "tool_use", "id": tool_id(&call.id), "name": name, "input": input})
}

/// How many parts came before a call, if this model wrote it.
pub(super) fn position(call: &ToolCall, target: &Target) -> Option<usize> {
    let data = call.state.as_ref()?.for_target(&target.provider, &target.model)?;
    serde_json::from_slice::<CallState>(data).ok().map(|state| state.parts_before)
}

/// An id as the API takes it: as it is if it can be, else the same replacement every time.
pub(super) fn tool_id(id: &str) -> String {
    if is_plain(id) && id.len() <= 64 {
        return id.to_owned();
    }
    let digest = Sha256::digest(id.as_bytes());
    digest.iter().take(12).fold(String::from("toolu_"), |text, byte| format!("{text}{byte:02x}"))
}

fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_plain_char)
}

fn is_plain_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

fn image_block(image: &Media) -> Result<Value> {
    let source = match &image.source {
        MediaSource::Url(url) => json!({"type": "url", "url": url}),
        MediaSource::Inline(data) => {
            let media_type = match image.media_type.as_str() {
                "image/jpg" => "image/jpeg",
                known @ ("image/jpeg" | "image/png" | "image/gif" | "image/webp") => known,
                other => {
                    return Err(unsupported(format!("Anthropic takes jpeg, png, gif and webp images, not {other}")));
                }
            };
            json!({"type": "base64", "media_type": media_type, "data": BASE64_STANDARD.encode(data)})
        }
    };
    Ok(json!({"type": "image", "source": source}))
}

fn document(file: &Media) -> Result<Value> {
    let source = match &file.source {
        MediaSource::Url(url) => json!({"type": "url", "url": url}),
        MediaSource::Inline(data) if file.media_type == "application/pdf" => {
            json!({"type": "base64", "media_type": "application/pdf", "data": BASE64_STANDARD.encode(data)})
        }
        // Whatever reads as text is text to the model: source code has no agreed types.
        MediaSource::Inline(data) => match std::str::from_utf8(data) {
            Ok(text) => json!({"type": "text", "media_type": "text/plain", "data": text}),
            Err(_) => {
                return Err(unsupported(format!("Anthropic takes PDF and text files, not {}", file.media_type)));
            }
        },
    };
    let mut block = json!({"type": "document", "source": source});
    if let Some(name) = &file.filename {
        block["title"] = name.as_str().into();
    }
    Ok(block)
}

fn unsupported(message: impl Into<String>) -> ProviderError {
    ProviderError::new(Reason::Unsupported, message)
}
