use std::collections::HashSet;

use serde_json::{Value, json};
use tutti_error::Reason;
use tutti_providers::{Event, ProviderError};
use tutti_types::{
    TokenCounts,
    llm::{Completion, Content, Finish},
};

use super::{MODEL, adapter, decode, fixture, streamed, target, whole};

fn read(body: &Value) -> Result<Completion, ProviderError> {
    adapter().completion(body.to_string().as_bytes(), &target(MODEL))
}

fn ended(reason: &str, parts: &Value) -> Result<Completion, ProviderError> {
    let content = json!({"role": "model", "parts": parts});
    read(&json!({"candidates": [{"content": content, "finishReason": reason, "finishMessage": "because"}]}))
}

fn states(completion: &Completion) -> Vec<Value> {
    let states = completion.parts.iter().filter_map(|part| match &part.content {
        Content::Reasoning(reasoning) => reasoning.state.as_ref(),
        _ => None,
    });
    states.map(|state| serde_json::from_slice(&state.data).unwrap()).collect()
}

#[test]
fn whole_and_streamed_answers_are_the_same() {
    for name in [
        "text",
        "calls_then_stop",
        "stop_on_every_chunk",
        "length_of_thoughts",
        "length_after_call",
        "safety",
        "signature_at_the_end",
    ] {
        assert_eq!(whole(name), streamed(name), "{name}");
    }
}

#[test]
fn text_comes_in_order_with_its_metadata() {
    let (events, outcome) = decode(&fixture("text.sse"));
    let answer = outcome.unwrap();
    let pieces: Vec<&str> =
        events.iter().filter_map(|e| if let Event::Text(text) = e { Some(text.as_str()) } else { None }).collect();
    assert_eq!(pieces, ["Grüße", " aus", " 🦀", "!"]);
    assert_eq!(answer.text(), "Grüße aus 🦀!");
    assert_eq!((answer.finish, answer.raw_finish.as_str()), (Finish::Stop, "STOP"));
    assert_eq!((answer.model.as_str(), answer.provider_request_id.as_str()), (MODEL, "r-text"));
    assert!(answer.warnings.is_empty());
}

/// Thoughts are added to the output, the tools' prompt to the input; chunks are cumulative, not summed.
#[test]
fn trap_04_usage_adds_thoughts_and_tool_prompts_and_sums_no_chunks() {
    let text =
        TokenCounts { fresh_input: 8, cache_read: 10, visible_output: 80, reasoning: 35, ..TokenCounts::default() };
    assert_eq!(streamed("text").tokens, Some(text));
    let calls = streamed("calls_then_stop").tokens.unwrap();
    assert_eq!((calls.input(), calls.visible_output, calls.reasoning), (58, 12, 30));
    assert_eq!(calls.input() + calls.output(), 100);
}

/// STOP comes in a later chunk than the call.
#[test]
fn trap_07_a_stop_after_a_call_is_tool_calls() {
    let answer = streamed("calls_then_stop");
    assert_eq!((answer.finish, answer.raw_finish.as_str()), (Finish::ToolCalls, "STOP"));
    let names: Vec<&str> = answer.tool_calls.iter().map(|call| call.name.as_str()).collect();
    assert_eq!(names, ["add", "add", "now"]);
}

#[test]
fn trap_07_a_length_or_filter_after_a_call_stays_what_it_is() {
    let answer = streamed("length_after_call");
    assert_eq!((answer.finish, answer.tool_calls.len()), (Finish::Length, 1));
    let call = json!([{"functionCall": {"name": "add", "args": {}}}]);
    assert_eq!(ended("SAFETY", &call).unwrap().finish, Finish::ContentFilter);
}

/// The same function called twice, no ids, no arguments.
#[test]
fn trap_05_and_19_calls_get_ids_of_ours_that_are_unique_and_stable() {
    let answer = streamed("calls_then_stop");
    let ids: HashSet<&str> = answer.tool_calls.iter().map(|call| call.id.as_str()).collect();
    assert_eq!(ids.len(), 3);
    assert!(ids.iter().all(|id| !id.is_empty() && *id != "g-1"));
    let arguments: Vec<&str> = answer.tool_calls.iter().map(|call| call.arguments.as_str()).collect();
    assert_eq!(arguments, ["{\"x\":4}", "{\"x\":4}", "{}"]);
    let text = String::from_utf8(fixture("calls_then_stop.sse")).unwrap();
    let other = decode(text.replace("r-calls", "r-later").as_bytes()).1.unwrap();
    assert!(other.tool_calls.iter().all(|call| !ids.contains(call.id.as_str())));
}

#[test]
fn trap_08_signatures_are_kept_on_calls_and_text() {
    let calls = streamed("calls_then_stop").tool_calls;
    let state = calls[0].state.as_ref().unwrap();
    assert_eq!((state.provider.as_str(), state.model.as_str()), ("gemini", MODEL));
    let data: Value = serde_json::from_slice(&state.data).unwrap();
    assert_eq!(data, json!({"thoughtSignature": "c2lnMQ==", "id": "g-1", "on": "call"}));
    assert!(calls[1].state.is_none());
    let expected =
        [json!({"thoughtSignature": "dGV4dA==", "on": "text"}), json!({"thoughtSignature": "ZW5k", "on": "nothing"})];
    assert_eq!(states(&streamed("signature_at_the_end")), expected);
}

#[test]
fn thoughts_are_reasoning_not_text() {
    let answer = streamed("calls_then_stop");
    assert!(matches!(&answer.parts[0].content, Content::Reasoning(r) if r.text == "I need two sums. Go."));
    assert_eq!(answer.text(), "");
}

/// Old models say STOP on every chunk: it ends nothing.
#[test]
fn a_stop_is_no_end_mark() {
    let answer = streamed("stop_on_every_chunk");
    assert_eq!((answer.text().as_str(), answer.finish), ("one two three", Finish::Stop));
    assert_eq!(answer.tokens.unwrap().output(), 6);
}

#[test]
fn a_cap_spent_on_thoughts_is_a_length() {
    let answer = streamed("length_of_thoughts");
    assert_eq!((answer.finish, answer.text().as_str()), (Finish::Length, ""));
    assert_eq!(answer.tokens.unwrap().reasoning, 64);
}

/// §0.1.
#[test]
fn every_finish_reason_has_its_meaning() {
    let text = json!([{"text": "a"}]);
    for (raw, finish) in [
        ("STOP", Finish::Stop),
        ("MAX_TOKENS", Finish::Length),
        ("CONTINUATION", Finish::Length),
        ("SAFETY", Finish::ContentFilter),
        ("RECITATION", Finish::ContentFilter),
        ("BLOCKLIST", Finish::ContentFilter),
        ("PROHIBITED_CONTENT", Finish::ContentFilter),
        ("SPII", Finish::ContentFilter),
        ("LANGUAGE", Finish::ContentFilter),
        ("IMAGE_SAFETY", Finish::ContentFilter),
        ("MODEL_ARMOR", Finish::ContentFilter),
        ("ESCALATION", Finish::ContentFilter),
        ("PUP_LIMITED_DISABLED", Finish::ContentFilter),
        ("SUNSET", Finish::Stop),
    ] {
        let answer = ended(raw, &text).unwrap();
        assert_eq!((answer.finish, answer.raw_finish.as_str()), (finish, raw));
    }
    for (raw, reason) in [
        ("MALFORMED_FUNCTION_CALL", Reason::MalformedOutput),
        ("UNEXPECTED_TOOL_CALL", Reason::MalformedOutput),
        ("TOO_MANY_TOOL_CALLS", Reason::MalformedOutput),
        ("MALFORMED_RESPONSE", Reason::MalformedOutput),
        ("MISSING_THOUGHT_SIGNATURE", Reason::ProviderRejected),
        ("OTHER", Reason::ProviderError),
        ("IMAGE_OTHER", Reason::ProviderError),
        ("NO_IMAGE", Reason::ProviderError),
    ] {
        let error = ended(raw, &text).unwrap_err();
        assert_eq!((error.reason, error.code.as_str()), (reason, raw));
        assert!(error.message.contains("because"));
    }
    assert_eq!(ended("SUNSET", &json!([])).unwrap_err().reason, Reason::EmptyOutput);
    assert_eq!(ended("STOP", &json!([{"text": ""}])).unwrap_err().reason, Reason::EmptyOutput);
}

#[test]
fn unknown_parts_and_other_candidates_are_left_out() {
    for answer in [streamed("unknown"), whole("unknown")] {
        assert_eq!((answer.text().as_str(), answer.raw_finish.as_str()), ("ab", "SUNSET"));
        assert_eq!(answer.warnings, ["a part of kind \"hologram\" was left out"]);
    }
}

#[test]
fn a_blocked_prompt_is_filtered_content() {
    let body = json!({"promptFeedback": {"blockReason": "JAILBREAK"}, "usageMetadata": {"promptTokenCount": 4}});
    let event = format!("data: {body}\r\n\r\n");
    for error in [read(&body).unwrap_err(), decode(event.as_bytes()).1.unwrap_err()] {
        assert_eq!((error.reason, error.code.as_str()), (Reason::ContentFiltered, "JAILBREAK"));
    }
}

#[test]
fn a_filter_keeps_what_was_said_before() {
    let answer = streamed("safety");
    assert_eq!((answer.text().as_str(), answer.finish), ("Well, ", Finish::ContentFilter));
}

/// Only the missing finish reason shows it.
#[test]
fn trap_12_an_end_without_a_finish_reason_is_truncated() {
    let text = String::from_utf8(fixture("safety.sse")).unwrap();
    let first = text.split_inclusive("\r\n\r\n").next().unwrap();
    assert_eq!(decode(first.as_bytes()).1.unwrap_err().reason, Reason::Truncated);
    assert_eq!(decode(&text.as_bytes()[..first.len() + 20]).1.unwrap_err().reason, Reason::Truncated);
    assert_eq!(decode(b"").1.unwrap_err().reason, Reason::Truncated);
    assert!(decode(text.trim_end().as_bytes()).1.is_ok());
    let mut decoder = adapter().stream(&target(MODEL));
    decoder.feed(first.as_bytes(), &mut Vec::new()).unwrap();
    assert_eq!(decoder.partial().text(), "Well, ");
}

/// As an event, as bare JSON at the start or in the middle, in an array.
#[test]
fn trap_13_an_error_inside_a_stream_is_an_error() {
    let bare = String::from_utf8(fixture("503_unavailable.error.json")).unwrap();
    let array = String::from_utf8(fixture("503_in_array.error.json")).unwrap();
    let compact = serde_json::from_str::<Value>(&bare).unwrap().to_string();
    let text = String::from_utf8(fixture("safety.sse")).unwrap();
    let first = text.split_inclusive("\r\n\r\n").next().unwrap();
    for tail in [format!("data: {compact}\r\n\r\n"), bare.clone(), compact, array, bare.replace('\n', "\r\n")] {
        for body in [tail.clone(), format!("{first}{tail}")] {
            let error = decode(body.as_bytes()).1.unwrap_err();
            assert_eq!((error.reason, error.code.as_str()), (Reason::ProviderError, "UNAVAILABLE"), "{body}");
        }
    }
}

#[test]
fn an_error_inside_a_whole_answer_is_an_error() {
    let body = json!({"error": {"code": 429, "message": "slow down", "status": "RESOURCE_EXHAUSTED"}});
    assert_eq!(read(&body).unwrap_err().reason, Reason::ProviderRateLimited);
    assert_eq!(read(&json!([body])).unwrap_err().reason, Reason::ProviderRateLimited);
}

#[test]
fn an_array_of_chunks_is_an_answer() {
    let chunk = |text: &str| json!({"candidates": [{"content": {"parts": [{"text": text}]}}]});
    let mut last = chunk("b");
    last["candidates"][0]["finishReason"] = "STOP".into();
    let body = json!([chunk("a"), last]);
    assert_eq!(read(&body).unwrap().text(), "ab");
    let pretty = serde_json::to_string_pretty(&body).unwrap();
    assert_eq!(decode(pretty.as_bytes()).1.unwrap().text(), "ab");
}

#[test]
fn broken_bytes_are_malformed_and_nothing_is_empty() {
    assert_eq!(decode(b"data: {oops\r\n\r\n").1.unwrap_err().reason, Reason::MalformedOutput);
    let html = adapter().completion(b"<html>", &target(MODEL)).unwrap_err();
    assert_eq!(html.reason, Reason::MalformedOutput);
    assert_eq!(read(&json!({"candidates": []})).unwrap_err().reason, Reason::EmptyOutput);
}
