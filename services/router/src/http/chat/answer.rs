//! Our answer as OpenAI's `chat.completion`.

use serde::Serialize;
use tutti_proto::{
    llm::v1::{FinishReason, ToolCall, Usage, part::Kind},
    router::v1::ChatResponse,
};

use super::{
    Style,
    state::{self, Detail, Extra},
};
use crate::http::{seconds, sent};

#[derive(Serialize)]
struct Completion<'a> {
    id: String,
    object: &'static str,
    created: i64,
    model: &'a str,
    choices: [Choice<'a>; 1],
    usage: Used,
    tutti: About<'a>,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: u8,
    message: Answer<'a>,
    finish_reason: &'static str,
    logprobs: Option<()>,
}

#[derive(Serialize)]
struct Answer<'a> {
    role: &'static str,
    content: Option<&'a str>,
    refusal: Option<()>,
    #[serde(skip_serializing_if = "String::is_empty")]
    reasoning_content: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasoning_details: Vec<Detail>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Call<'a>>,
}

/// A tool call; in a stream, with its place.
#[derive(Serialize)]
pub(super) struct Call<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) index: Option<usize>,
    id: &'a str,
    r#type: &'static str,
    function: Function<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extra_content: Option<Extra>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    arguments: &'a str,
}

impl<'a> Call<'a> {
    pub(super) fn of(call: &'a ToolCall, index: Option<usize>) -> Self {
        // A call without arguments is an object too: "" would spoil the conversation when it comes back.
        let arguments = if call.arguments_json.is_empty() { "{}" } else { &call.arguments_json };
        let function = Function { name: &call.name, arguments };
        Self { index, id: &call.id, r#type: "function", function, extra_content: state::extra(call) }
    }
}

/// OpenAI's `usage`.
#[derive(Serialize)]
pub(super) struct Used {
    prompt_tokens: i64,
    completion_tokens: i64,
    total_tokens: i64,
    prompt_tokens_details: PromptDetails,
    completion_tokens_details: CompletionDetails,
}

#[derive(Serialize)]
struct PromptDetails {
    cached_tokens: i64,
    cache_write_tokens: i64,
}

#[derive(Serialize)]
struct CompletionDetails {
    reasoning_tokens: i64,
}

impl Used {
    pub(super) fn of(usage: &Usage) -> Self {
        Self {
            prompt_tokens: usage.input_tokens,
            completion_tokens: usage.output_tokens,
            total_tokens: usage.input_tokens.saturating_add(usage.output_tokens),
            prompt_tokens_details: PromptDetails {
                cached_tokens: usage.cache_read_tokens,
                cache_write_tokens: usage.cache_write_tokens,
            },
            completion_tokens_details: CompletionDetails { reasoning_tokens: usage.reasoning_tokens },
        }
    }
}

/// What OpenAI's format has no place for.
#[derive(Serialize)]
pub(super) struct About<'a> {
    request_id: &'a str,
    backend: &'a str,
    attempts: usize,
    cost_nano_usd: i64,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: &'a [String],
}

impl<'a> About<'a> {
    pub(super) fn of(answer: &'a ChatResponse) -> Self {
        Self {
            request_id: &answer.request_id,
            backend: &answer.backend,
            attempts: sent(&answer.attempts),
            cost_nano_usd: answer.usage.map(|usage| usage.cost_nano_usd).unwrap_or_default(),
            warnings: &answer.warnings,
        }
    }
}

/// OpenAI's word for why an answer ended.
pub(super) fn finish_reason(answer: &ChatResponse) -> &'static str {
    match answer.finish_reason() {
        FinishReason::Length => "length",
        FinishReason::ToolCalls => "tool_calls",
        FinishReason::ContentFilter => "content_filter",
        // The others are failures, and don't come here.
        _ => "stop",
    }
}

/// A whole answer.
pub(super) fn json(answer: &ChatResponse, created_at: i64, style: &Style) -> Vec<u8> {
    let usage = answer.usage.unwrap_or_default();
    let completion = Completion {
        id: format!("chatcmpl-{}", answer.request_id),
        object: "chat.completion",
        created: seconds(created_at),
        model: &answer.model,
        choices: [Choice {
            index: 0,
            message: message(answer, style),
            finish_reason: finish_reason(answer),
            logprobs: None,
        }],
        usage: Used::of(&usage),
        tutti: About::of(answer),
    };
    // Texts and numbers alone can't fail to be written.
    serde_json::to_vec(&completion).unwrap_or_default()
}

fn message<'a>(answer: &'a ChatResponse, style: &Style) -> Answer<'a> {
    let (mut text, mut reasoning, mut details, mut calls) = ("", String::new(), Vec::new(), Vec::new());
    if let Some(message) = &answer.message {
        text = &message.text;
        for part in &message.parts {
            if let Some(Kind::Reasoning(thought)) = &part.kind {
                reasoning.push_str(&thought.text);
            }
        }
        details = state::details(message);
        calls =
            message.tool_calls.iter().filter(|call| style.is_clients(&call.name)).map(|c| Call::of(c, None)).collect();
    }
    Answer {
        role: "assistant",
        content: (!text.is_empty() || calls.is_empty()).then_some(text),
        refusal: None,
        reasoning_content: reasoning,
        reasoning_details: details,
        tool_calls: calls,
    }
}

#[cfg(test)]
mod tests {
    use tutti_proto::llm::v1::Message;

    use super::*;

    fn answer(text: &str, calls: &[&str], finish: FinishReason) -> serde_json::Value {
        let call = |name: &&str| ToolCall { id: "c1".into(), name: (*name).into(), ..Default::default() };
        let message = Message { text: text.into(), tool_calls: calls.iter().map(call).collect(), ..Default::default() };
        let usage = Usage { input_tokens: 7, cache_read_tokens: 3, output_tokens: 2, ..Default::default() };
        let response = ChatResponse {
            message: Some(message),
            finish_reason: finish.into(),
            usage: Some(usage),
            ..Default::default()
        };
        serde_json::from_slice(&json(&response, 0, &Style::default())).unwrap()
    }

    #[test]
    fn an_answer_has_openais_form() {
        let said = answer("hi", &[], FinishReason::Length);
        assert_eq!(said["choices"][0]["finish_reason"], "length");
        assert_eq!(said["choices"][0]["message"]["content"], "hi");
        assert_eq!(said["choices"][0]["message"].get("tool_calls"), None);
        assert_eq!((&said["usage"]["total_tokens"], &said["usage"]["prompt_tokens"]), (&9.into(), &7.into()));
        assert_eq!(said["usage"]["prompt_tokens_details"]["cached_tokens"], 3);
    }

    #[test]
    fn calls_have_no_content_and_always_arguments() {
        let said = answer("", &["now"], FinishReason::ToolCalls);
        let message = &said["choices"][0]["message"];
        assert!(message["content"].is_null());
        assert_eq!(message["tool_calls"][0]["function"]["arguments"], "{}");
        assert_eq!(message["tool_calls"][0].get("index"), None);
        assert_eq!(answer("", &[], FinishReason::Stop)["choices"][0]["message"]["content"], "");
    }
}
