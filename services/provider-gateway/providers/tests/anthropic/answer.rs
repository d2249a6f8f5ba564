use serde_json::{Value, json};
use tutti_error::Reason;
use tutti_providers::Event;
use tutti_types::{
    TokenCounts,
    llm::{Completion, Content, Finish},
};

use super::{MODEL, adapter, decode, fixture, streamed, target, whole};

fn arguments(completion: &Completion) -> Vec<(&str, Value)> {
    let parse = |text: &str| serde_json::from_str(text).unwrap();
    completion.tool_calls.iter().map(|call| (call.id.as_str(), parse(&call.arguments))).collect()
}

fn states(completion: &Completion) -> Vec<Value> {
    let states = completion.parts.iter().filter_map(|part| match &part.content {
        Content::Reasoning(reasoning) => reasoning.state.as_ref(),
        _ => None,
    });
    states.map(|state| serde_json::from_slice(&state.data).unwrap()).collect()
}

/// A streamed call has its arguments as the model wrote them; a whole answer has them parsed already.
fn without_spacing(mut completion: Completion) -> Completion {
    for call in &mut completion.tool_calls {
        call.arguments = serde_json::from_str::<Value>(&call.arguments).unwrap().to_string();
    }
    completion
}

#[test]
fn whole_and_streamed_answers_are_the_same() {
    let names = [
        "text",
        "tools_interleaved",
        "thinking",
        "pause_turn",
        "refusal",
        "window_exceeded",
        "no_final_usage",
        "unknown_events",
    ];
    for name in names {
        assert_eq!(without_spacing(whole(name)), without_spacing(streamed(name)), "{name}");
    }
}

#[test]
fn text_comes_in_order_with_its_metadata() {
    let (events, outcome) = decode(&fixture("text.sse"));
    let answer = outcome.unwrap();
    let pieces: Vec<&str> =
        events.iter().filter_map(|e| if let Event::Text(text) = e { Some(text.as_str()) } else { None }).collect();
    assert_eq!(pieces, ["Grüße", " aus 🦀"]);
    assert_eq!(answer.text(), "Grüße aus 🦀");
    assert_eq!((answer.finish, answer.raw_finish.as_str()), (Finish::Stop, "end_turn"));
    assert_eq!((answer.model.as_str(), answer.provider_request_id.as_str()), (MODEL, "msg_text"));
    assert!(answer.warnings.is_empty());
}

/// Caches are outside of `input_tokens`, the split counts the same tokens as the sum, and
/// `message_delta` overwrites what it tells (also the raised input) and nothing else.
#[test]
fn trap_01_and_02_usage_is_disjoint_and_overwritten_not_summed() {
    let expected = TokenCounts {
        fresh_input: 12,
        cache_read: 500,
        cache_write_5m: 60,
        cache_write_1h: 40,
        visible_output: 7,
        reasoning: 0,
    };
    assert_eq!(streamed("text").tokens, Some(expected));
    let (events, _) = decode(&fixture("text.sse"));
    let usage: Vec<TokenCounts> =
        events.iter().filter_map(|e| if let Event::Usage(tokens) = e { Some(*tokens) } else { None }).collect();
    assert_eq!(usage.last(), Some(&expected));
    assert_eq!((usage[0].fresh_input, usage[0].visible_output), (9, 2));
}

#[test]
fn a_cache_write_without_a_split_is_of_five_minutes() {
    let body = json!({"type": "message", "content": [{"type": "text", "text": "a"}], "stop_reason": "end_turn",
        "usage": {"input_tokens": 1, "cache_creation_input_tokens": 30, "cache_creation": null, "output_tokens": 1}});
    let tokens = adapter().completion(body.to_string().as_bytes(), &target(MODEL)).unwrap().tokens.unwrap();
    assert_eq!((tokens.cache_write_5m, tokens.cache_write_1h), (30, 0));
}

#[test]
fn thinking_tokens_are_part_of_the_output() {
    let tokens = streamed("thinking").tokens.unwrap();
    assert_eq!((tokens.reasoning, tokens.visible_output, tokens.output()), (20, 30, 50));
}

#[test]
fn an_end_without_usage_keeps_what_was_told_first() {
    let answer = streamed("no_final_usage");
    assert_eq!(answer.tokens.unwrap().input(), 40);
    assert_eq!((answer.finish, answer.raw_finish.as_str()), (Finish::Stop, "stop_sequence"));
}

/// Parallel calls stay apart, also when their fragments interleave.
#[test]
fn trap_05_and_06_interleaved_calls_stay_apart() {
    let answer = streamed("tools_interleaved");
    let expected = vec![("toolu_a", json!({"x": 4})), ("toolu_b", json!({"x": 5})), ("toolu_c", json!({}))];
    assert_eq!(arguments(&answer), expected);
    assert_eq!((answer.finish, answer.raw_finish.as_str()), (Finish::ToolCalls, "tool_use"));
}

#[test]
fn trap_11_a_call_without_arguments_has_an_empty_object() {
    for answer in [streamed("tools_interleaved"), whole("tools_interleaved")] {
        assert_eq!(answer.tool_calls[2].arguments, "{}");
    }
}

#[test]
fn a_call_is_given_out_whole_and_once() {
    let (events, outcome) = decode(&fixture("tools_interleaved.sse"));
    let calls: Vec<_> =
        events.into_iter().filter_map(|e| if let Event::ToolCall(call) = e { Some(call) } else { None }).collect();
    assert_eq!(calls, outcome.unwrap().tool_calls);
}

/// What the API must get back is kept verbatim and in order.
#[test]
fn trap_09_thinking_blocks_are_kept_verbatim() {
    let answer = streamed("thinking");
    let expected = [
        json!({"type": "thinking", "thinking": "First, add.", "signature": "c2lnbmVk"}),
        json!({"type": "redacted_thinking", "data": "ZW5jcnlwdGVk"}),
        json!({"type": "thinking", "thinking": "", "signature": "c2Vjb25k"}),
    ];
    assert_eq!(states(&answer), expected);
    assert!(matches!(&answer.parts[0].content, Content::Reasoning(r) if r.text == "First, add."));
    assert_eq!(answer.text(), "I add.");
}

#[test]
fn trap_20_a_paused_turn_is_no_plain_stop_and_keeps_the_providers_own_tools() {
    let answer = streamed("pause_turn");
    assert_eq!((answer.finish, answer.raw_finish.as_str()), (Finish::Stop, "pause_turn"));
    assert!(answer.warnings[0].contains("paused"), "{:?}", answer.warnings);
    let kept = states(&answer);
    assert_eq!(kept[0]["input"], json!({"query": "tutti"}));
    assert_eq!(kept[1]["type"], "web_search_tool_result");
    assert_eq!(answer.tokens.unwrap().input(), 900);
}

#[test]
fn a_refusal_without_content_is_filtered_content() {
    let answer = streamed("refusal");
    assert_eq!((answer.finish, answer.raw_finish.as_str()), (Finish::ContentFilter, "refusal"));
    assert_eq!(answer.warnings, ["the provider refused: cyber: not this"]);
    assert_eq!(answer.tokens.unwrap().output(), 3);
}

#[test]
fn a_full_window_is_a_length() {
    assert_eq!(streamed("window_exceeded").finish, Finish::Length);
}

#[test]
fn a_call_that_the_cap_cuts_stays_a_length() {
    let answer = streamed("length_in_call");
    assert_eq!((answer.finish, answer.raw_finish.as_str()), (Finish::Length, "max_tokens"));
    assert_eq!(arguments(&answer), [("toolu_a", json!({"x": 1}))]);
    assert_eq!(answer.warnings.len(), 1);
}

#[test]
fn unknown_events_blocks_and_reasons_are_survived() {
    let answer = streamed("unknown_events");
    assert_eq!(
        (answer.text().as_str(), answer.finish, answer.raw_finish.as_str()),
        ("still here", Finish::Stop, "tired")
    );
    assert_eq!(answer.warnings, ["a block of type \"hologram\" was left out"]);
}

#[test]
fn trap_12_an_end_without_its_mark_is_truncated() {
    let text = String::from_utf8(fixture("text.sse")).unwrap();
    let cut = text.split("event: message_stop").next().unwrap();
    assert_eq!(decode(cut.as_bytes()).1.unwrap_err().reason, Reason::Truncated);
    assert_eq!(decode(&cut.as_bytes()[..cut.len() - 30]).1.unwrap_err().reason, Reason::Truncated);
    assert_eq!(decode(b"").1.unwrap_err().reason, Reason::Truncated);
    let unterminated = text.trim_end();
    assert!(decode(unterminated.as_bytes()).1.is_ok());
}

#[test]
fn what_was_there_before_a_break_is_kept() {
    let text = String::from_utf8(fixture("text.sse")).unwrap();
    let cut = text.split("event: message_delta").next().unwrap();
    let mut decoder = adapter().stream(&target(MODEL));
    decoder.feed(cut.as_bytes(), &mut Vec::new()).unwrap();
    let partial = decoder.partial();
    assert_eq!(partial.text(), "Grüße aus 🦀");
    assert_eq!(partial.tokens.unwrap().input(), 609);
}

#[test]
fn trap_13_an_error_inside_a_stream_is_an_error() {
    let error = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n";
    let text = String::from_utf8(fixture("text.sse")).unwrap();
    let begun = text.split("event: message_delta").next().unwrap();
    for body in [error.to_owned(), format!("{begun}{error}")] {
        let failed = decode(body.as_bytes()).1.unwrap_err();
        assert_eq!((failed.reason, failed.code.as_str()), (Reason::ProviderError, "overloaded_error"));
        assert!(failed.is_retryable());
    }
}

#[test]
fn an_error_inside_a_whole_answer_is_an_error() {
    let body = json!({"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}}).to_string();
    let failed = adapter().completion(body.as_bytes(), &target(MODEL)).unwrap_err();
    assert_eq!(failed.reason, Reason::ProviderRateLimited);
}

#[test]
fn broken_bytes_are_malformed_and_nothing_is_empty() {
    assert_eq!(decode(b"data: {oops\n\n").1.unwrap_err().reason, Reason::MalformedOutput);
    assert_eq!(adapter().completion(b"<html>", &target(MODEL)).unwrap_err().reason, Reason::MalformedOutput);
    let empty = json!({"type": "message", "content": [], "stop_reason": "end_turn", "usage": {"input_tokens": 1}});
    let failed = adapter().completion(empty.to_string().as_bytes(), &target(MODEL)).unwrap_err();
    assert_eq!(failed.reason, Reason::EmptyOutput);
}

#[test]
fn a_proxy_may_send_the_whole_input_at_the_start() {
    let block = json!({"type": "content_block_start", "index": 0,
        "content_block": {"type": "tool_use", "id": "toolu_w", "name": "add", "input": {"x": 1}}});
    let body = format!(
        "data: {block}\n\ndata: {{\"type\":\"content_block_stop\",\"index\":0}}\n\ndata: {{\"type\":\"message_stop\"}}\n\n"
    );
    let answer = decode(body.as_bytes()).1.unwrap();
    assert_eq!(arguments(&answer), [("toolu_w", json!({"x": 1}))]);
    assert_eq!(answer.finish, Finish::ToolCalls);
}
