//! What a provider must get back verbatim (signatures, encrypted reasoning), on its way through clients that know
//! nothing of it: in fields that they keep when they send an answer back as part of a conversation.

use base64::Engine as _;
use serde::{Deserialize, Serialize};
use tutti_error::{Error, Result};
use tutti_proto::llm::v1::{Message, Part, Reasoning, ToolCall, part::Kind};

use super::content::BASE64;

/// Marks what is ours among the details of other gateways.
const FORMAT: &str = "tutti-v1";

/// One entry of `message.reasoning_details`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Detail {
    #[serde(rename = "type", default)]
    kind: String,
    /// Its place in the list: SDKs that put streams together want one.
    #[serde(default)]
    index: usize,
    format: Option<String>,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    data: Option<String>,
    #[serde(default)]
    provider: Option<String>,
    #[serde(default)]
    model: Option<String>,
    /// How many bytes of the message's text come before.
    #[serde(default)]
    at: Option<usize>,
}

/// `tool_calls[].extra_content`, which belongs to nobody.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Extra {
    tutti: Option<CallState>,
}

#[derive(Debug, Serialize, Deserialize)]
struct CallState {
    state: String,
    provider: String,
    model: String,
}

/// The reasoning of an answer that must come back.
pub(super) fn details(message: &Message) -> Vec<Detail> {
    let mut at = 0;
    let mut details = Vec::new();
    for part in &message.parts {
        match &part.kind {
            Some(Kind::Text(text)) => at += text.len(),
            Some(Kind::Reasoning(reasoning)) if !reasoning.opaque.is_empty() => details.push(Detail {
                kind: "reasoning.encrypted".to_owned(),
                index: details.len(),
                format: Some(FORMAT.to_owned()),
                text: Some(reasoning.text.clone()),
                data: Some(BASE64.encode(&reasoning.opaque)),
                provider: Some(reasoning.provider.clone()),
                model: Some(reasoning.model.clone()),
                at: Some(at),
            }),
            _ => {}
        }
    }
    details
}

/// The state of a call that must come back.
pub(super) fn extra(call: &ToolCall) -> Option<Extra> {
    let state =
        || CallState { state: BASE64.encode(&call.opaque), provider: call.provider.clone(), model: call.model.clone() };
    (!call.opaque.is_empty()).then(|| Extra { tutti: Some(state()) })
}

/// Puts reasoning that came back where it was in the text.
///
/// # Errors
/// INVALID_REQUEST when it isn't as we sent it.
pub(super) fn restore(message: &mut Message, details: Vec<Detail>, path: &str) -> Result<()> {
    let ours: Vec<Detail> = details.into_iter().filter(|d| d.format.as_deref() == Some(FORMAT)).collect();
    if ours.is_empty() {
        return Ok(());
    }
    // With content in parts, places in the text mean nothing: what was thought came first.
    let whole = if message.parts.is_empty() { std::mem::take(&mut message.text) } else { String::new() };
    let mut parts = Vec::with_capacity(ours.len() * 2 + message.parts.len());
    let mut from = 0;
    for (index, detail) in ours.into_iter().enumerate() {
        let upto = detail.at.unwrap_or_default();
        if upto > from && whole.is_char_boundary(upto) {
            parts.push(part(Kind::Text(whole[from..upto].to_owned())));
            from = upto;
        }
        let field = || format!("{path}.reasoning_details[{index}].data");
        let opaque = decode(detail.data.as_deref().unwrap_or_default(), field)?;
        parts.push(part(Kind::Reasoning(Reasoning {
            text: detail.text.unwrap_or_default(),
            opaque,
            provider: detail.provider.unwrap_or_default(),
            model: detail.model.unwrap_or_default(),
        })));
    }
    if from < whole.len() {
        parts.push(part(Kind::Text(whole[from..].to_owned())));
    }
    parts.append(&mut message.parts);
    message.parts = parts;
    Ok(())
}

/// Gives a call its state back.
///
/// # Errors
/// INVALID_REQUEST when it isn't as we sent it.
pub(super) fn restore_call(call: &mut ToolCall, extra: Option<Extra>, path: &str) -> Result<()> {
    let Some(state) = extra.and_then(|extra| extra.tutti) else { return Ok(()) };
    call.opaque = decode(&state.state, || format!("{path}.extra_content.tutti.state"))?;
    call.provider = state.provider;
    call.model = state.model;
    Ok(())
}

fn decode(text: &str, field: impl Fn() -> String) -> Result<bytes::Bytes> {
    let data = BASE64.decode(text);
    data.map(Into::into).map_err(|wrong| Error::invalid(field(), format!("is not what was sent: {wrong}")))
}

fn part(kind: Kind) -> Part {
    Part { kind: Some(kind), cache_hint: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thought(text: &str) -> Part {
        part(Kind::Reasoning(Reasoning {
            text: text.into(),
            opaque: text.to_uppercase().into(),
            provider: "p".into(),
            model: "m".into(),
        }))
    }

    #[test]
    fn reasoning_comes_back_where_it_was() {
        let text = |text: &str| part(Kind::Text(text.into()));
        let parts = vec![thought("first"), text("grün"), thought("second"), text(" und blau")];
        let sent = Message { text: "grün und blau".into(), parts, ..Default::default() };
        let mut back = Message { text: "grün und blau".into(), ..Default::default() };
        let echoed = serde_json::to_string(&details(&sent)).unwrap();
        restore(&mut back, serde_json::from_str(&echoed).unwrap(), "messages[1]").unwrap();
        assert_eq!(back.parts, sent.parts);
    }

    #[test]
    fn what_others_put_there_is_left_alone() {
        let details =
            r#"[{"type": "reasoning.text", "text": "hm", "format": "other-v1", "signature": "x", "index": 0}]"#;
        let mut message = Message { text: "hi".into(), ..Default::default() };
        restore(&mut message, serde_json::from_str(details).unwrap(), "messages[1]").unwrap();
        assert_eq!((message.text.as_str(), message.parts.len()), ("hi", 0));
    }

    #[test]
    fn a_place_that_is_none_loses_no_text() {
        let sent = Message { parts: vec![part(Kind::Text("abcdef".into())), thought("x")], ..Default::default() };
        let mut back = Message { text: "ä".into(), ..Default::default() };
        restore(&mut back, details(&sent), "messages[1]").unwrap();
        let texts = back.parts.iter().filter(|p| matches!(&p.kind, Some(Kind::Text(t)) if t == "ä"));
        assert_eq!((back.parts.len(), texts.count()), (2, 1));
    }

    #[test]
    fn a_call_keeps_its_state_and_spoilt_state_is_refused() {
        let call = ToolCall { opaque: "state".into(), provider: "p".into(), model: "m".into(), ..Default::default() };
        let echoed = serde_json::to_string(&extra(&call).unwrap()).unwrap();
        let mut back = ToolCall::default();
        restore_call(&mut back, serde_json::from_str(&echoed).unwrap(), "messages[1].tool_calls[0]").unwrap();
        assert_eq!(back, call);
        let spoilt = serde_json::from_str(r#"{"tutti": {"state": "***", "provider": "p", "model": "m"}}"#).unwrap();
        let error = restore_call(&mut back, spoilt, "messages[1].tool_calls[0]").unwrap_err();
        assert_eq!(error.fields()[0].0, "messages[1].tool_calls[0].extra_content.tutti.state");
    }
}
