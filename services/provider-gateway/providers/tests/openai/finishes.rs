//! Why an answer ended, and answers that did not.

use serde_json::json;
use tutti_error::Reason;
use tutti_providers::{Dialect, Event};
use tutti_types::llm::Finish;

use crate::support::{answer, chunks, fixture, stream};

fn finished(word: &str, delta: &serde_json::Value) -> tutti_providers::Result<tutti_types::llm::Completion> {
    let body = chunks(&[
        json!({"choices": [{"index": 0, "delta": delta, "finish_reason": null}]}),
        json!({"choices": [{"index": 0, "delta": {}, "finish_reason": word}]}),
    ]);
    stream(Dialect::Compatible, &body).1
}

fn text() -> serde_json::Value {
    json!({"content": "Hi"})
}

fn called() -> serde_json::Value {
    json!({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "add", "arguments": "{}"}}]})
}

#[test]
fn every_word_for_the_end_has_its_finish() {
    let table = [
        ("stop", text(), Finish::Stop),
        ("eos", text(), Finish::Stop),
        ("length", text(), Finish::Length),
        ("model_length", text(), Finish::Length),
        ("tool_calls", called(), Finish::ToolCalls),
        ("function_call", called(), Finish::ToolCalls),
        ("content_filter", text(), Finish::ContentFilter),
    ];
    for (word, delta, finish) in table {
        let answer = finished(word, &delta).unwrap();
        assert_eq!((answer.finish, answer.raw_finish.as_str()), (finish, word));
        assert!(answer.warnings.is_empty(), "{word}: {:?}", answer.warnings);
    }
}

#[test]
fn trap_07_stop_with_a_call_is_tool_calls_but_length_and_filter_stay() {
    assert_eq!(finished("stop", &called()).unwrap().finish, Finish::ToolCalls);
    assert_eq!(finished("length", &called()).unwrap().finish, Finish::Length);
    assert_eq!(finished("content_filter", &called()).unwrap().finish, Finish::ContentFilter);
}

#[test]
fn trap_20_words_for_a_broken_answer_are_errors() {
    for word in ["insufficient_system_resource", "error", "abort"] {
        let error = finished(word, &text()).unwrap_err();
        assert_eq!((error.reason, error.code.as_str()), (Reason::ProviderError, word));
        assert!(error.is_retryable());
    }
}

#[test]
fn trap_20_an_unknown_word_is_stop_with_a_warning_or_an_empty_answer() {
    let answer = finished("brand_new", &text()).unwrap();
    assert_eq!((answer.finish, answer.raw_finish.as_str()), (Finish::Stop, "brand_new"));
    assert_eq!(answer.warnings.len(), 1);
    assert_eq!(finished("brand_new", &json!({})).unwrap_err().reason, Reason::EmptyOutput);
}

#[test]
fn a_refusal_is_content_filter_with_its_words() {
    let answer = answer("refusal.sse");
    assert_eq!((answer.finish, answer.text().as_str()), (Finish::ContentFilter, "I can't do that."));
}

#[test]
fn a_call_cut_by_length_is_dropped_and_length_stays() {
    let answer = answer("length_in_call.sse");
    assert_eq!((answer.finish, answer.tool_calls.len(), answer.warnings.len()), (Finish::Length, 1, 1));
}

#[test]
fn trap_12_a_stream_without_finish_reason_and_done_is_truncated() {
    let body = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Once\"},\"finish_reason\":null}]}\n\n";
    let (events, answer) = stream(Dialect::Compatible, body.as_bytes());
    assert_eq!(answer.unwrap_err().reason, Reason::Truncated);
    assert_eq!(events, [Event::Text("Once".into())]);
    assert_eq!(stream(Dialect::Compatible, b"").1.unwrap_err().reason, Reason::Truncated);
    assert_eq!(stream(Dialect::Compatible, b": keep-alive\n\n").1.unwrap_err().reason, Reason::Truncated);
}

#[test]
fn trap_12_a_stream_cut_inside_an_event_is_truncated_not_malformed() {
    let body = fixture("text.sse");
    let (_, answer) = stream(Dialect::Compatible, &body[..body.len() / 2]);
    assert_eq!(answer.unwrap_err().reason, Reason::Truncated);
}

#[test]
fn a_finish_reason_ends_an_answer_without_done_and_done_one_without_finish_reason() {
    assert_eq!(answer("no_done_crlf.sse").text(), "H\u{e4}");
    let body = chunks(&[json!({"choices": [{"index": 0, "delta": {"content": "Hi"}}]})]);
    let answer = stream(Dialect::Compatible, &body).1.unwrap();
    assert_eq!((answer.finish, answer.raw_finish.as_str(), answer.warnings.len()), (Finish::Stop, "", 1));
}

#[test]
fn trap_13_an_error_inside_a_200_stream_is_an_error() {
    let table = [
        ("error_in_stream.sse", Reason::ProviderError, "server_error"),
        ("error_without_content.sse", Reason::ProviderRateLimited, "slow_down"),
        ("error_openrouter.sse", Reason::ProviderError, "502"),
        ("error_insufficient_system_resource.sse", Reason::ProviderError, "insufficient_system_resource"),
        ("error_groq_tool_use_failed.sse", Reason::MalformedOutput, "tool_use_failed"),
    ];
    for (name, reason, code) in table {
        let error = stream(Dialect::Compatible, &fixture(name)).1.unwrap_err();
        assert_eq!((error.reason, error.code.as_str(), error.http_status), (reason, code, 0), "{name}");
    }
}

#[test]
fn what_came_before_an_error_is_kept() {
    let adapter = crate::support::speaking(Dialect::Compatible);
    let mut decoder = adapter.stream(&crate::support::target("m"));
    decoder.feed(&fixture("error_in_stream.sse"), &mut Vec::new()).unwrap_err();
    assert_eq!(decoder.partial().text(), "Once upon");
}

#[test]
fn nothing_at_all_is_an_empty_answer() {
    assert_eq!(finished("stop", &json!({})).unwrap_err().reason, Reason::EmptyOutput);
    assert_eq!(finished("stop", &json!({"content": ""})).unwrap_err().reason, Reason::EmptyOutput);
}

#[test]
fn what_follows_done_is_not_read() {
    let body =
        [fixture("text.sse"), b"data: {\"choices\":[{\"delta\":{\"content\":\"more\"}}]}\n\ndata: junk\n\n".to_vec()]
            .concat();
    assert_eq!(stream(Dialect::OpenAi, &body).1.unwrap(), answer("text.sse"));
}

#[test]
fn a_wait_that_an_error_inside_a_stream_asks_for_is_kept() {
    let error = json!({"error": {"code": "rate_limit_exceeded", "message": "Please try again in 2s."}});
    let error = stream(Dialect::Compatible, &chunks(&[error])).1.unwrap_err();
    assert_eq!(error.retry_after, Some(std::time::Duration::from_secs(2)));
}

#[test]
fn data_that_is_no_json_is_malformed() {
    let (_, answer) = stream(Dialect::Compatible, b"data: <html>\n\n");
    assert_eq!(answer.unwrap_err().reason, Reason::MalformedOutput);
}
