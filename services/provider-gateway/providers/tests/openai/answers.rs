//! Text, reasoning, calls and usage, as the dialects tell them.

use serde_json::{Value, json};
use tutti_providers::{Dialect, Event};
use tutti_types::{
    TokenCounts,
    llm::{Completion, Content, Finish},
};

use crate::support::{answer, chunks, fixture, speaking, stream, target};

fn reasoning(answer: &Completion) -> String {
    let text = |c: &Content| if let Content::Reasoning(r) = c { Some(r.text.clone()) } else { None };
    answer.parts.iter().filter_map(|p| text(&p.content)).collect()
}

fn calls(answer: &Completion) -> Vec<(&str, &str, &str)> {
    answer.tool_calls.iter().map(|c| (c.id.as_str(), c.name.as_str(), c.arguments.as_str())).collect()
}

fn tokens(fresh_input: u64, cache_read: u64, visible_output: u64, reasoning: u64) -> Option<TokenCounts> {
    Some(TokenCounts { fresh_input, cache_read, visible_output, reasoning, ..Default::default() })
}

#[test]
fn text_comes_as_it_streams_with_the_ids_of_the_answer() {
    let (events, answer) = stream(Dialect::OpenAi, &fixture("text.sse"));
    let answer = answer.unwrap();
    let pieces: Vec<_> = events.iter().filter(|e| matches!(e, Event::Text(_))).collect();
    assert_eq!(pieces, [&Event::Text("Gr\u{fc}\u{df}".into()), &Event::Text(" dich \u{1f600}".into())]);
    assert_eq!((answer.model.as_str(), answer.provider_request_id.as_str()), ("zed-1", "c-text"));
    assert_eq!(answer.finish, Finish::Stop);
}

#[test]
fn a_first_chunk_without_choices_id_and_model_is_no_answer() {
    let answer = answer("azure.sse");
    assert_eq!((answer.text().as_str(), answer.provider_request_id.as_str()), ("Hi", "c-azure"));
}

#[test]
fn only_the_first_choice_is_read() {
    let answer = answer("two_choices.sse");
    assert_eq!((answer.text().as_str(), answer.finish), ("Aa", Finish::Length));
}

#[test]
fn usage_openai_cached_and_reasoning_are_parts_of_the_totals() {
    assert_eq!(answer("text.sse").tokens, tokens(20, 100, 14, 0));
}

#[test]
fn trap_03_cache_writes_are_taken_out_of_the_input_not_added() {
    let counts = answer("cache_write.sse").tokens.unwrap();
    assert_eq!((counts.fresh_input, counts.cache_read, counts.cache_write_5m), (1000, 1000, 3000));
    assert_eq!((counts.input(), counts.output(), counts.reasoning), (5000, 9, 4));
}

#[test]
fn usage_deepseek_hits_are_cache_reads() {
    assert_eq!(answer("deepseek.sse").tokens, tokens(19, 320, 9, 41));
}

#[test]
fn trap_16_usage_moonshot_is_read_in_the_choice_and_once() {
    assert_eq!(answer("moonshot_usage_in_choice.sse").tokens, tokens(26, 64, 20, 0));
    assert_eq!(answer("moonshot_usage_on_finish.sse").tokens, tokens(26, 64, 20, 0));
}

#[test]
fn usage_groq_sent_twice_is_read_once() {
    assert_eq!(answer("groq.sse").tokens, tokens(77, 0, 21, 12));
    let (events, _) = stream(Dialect::Groq, &fixture("groq.sse"));
    assert_eq!(events.iter().filter(|e| matches!(e, Event::Usage(_))).count(), 1);
}

#[test]
fn trap_16_running_usage_takes_the_last() {
    assert_eq!(answer("vllm.sse").tokens, tokens(10, 0, 9, 0));
}

#[test]
fn trap_16_usage_in_a_chunk_with_content_is_read() {
    let body = chunks(&[json!({
        "choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1},
    })]);
    assert_eq!(stream(Dialect::Compatible, &body).1.unwrap().tokens, tokens(3, 0, 1, 0));
}

#[test]
fn more_reasoning_than_output_never_goes_negative() {
    assert_eq!(answer("openrouter.sse").tokens, tokens(20, 0, 0, 10));
}

#[test]
fn a_silent_provider_has_no_usage() {
    assert_eq!(answer("content_filter.sse").tokens, None);
}

#[test]
fn trap_06_interleaved_fragments_land_in_their_own_call() {
    let wanted = [("call_a1", "add", "{\"x\":4}"), ("call_b2", "now", "{}"), ("call_c3", "add", "{\"x\":5}")];
    assert_eq!(calls(&answer("tools_interleaved.sse")), wanted);
}

#[test]
fn trap_11_a_call_without_arguments_has_an_empty_object() {
    let whole = speaking(Dialect::OpenAi).completion(&fixture("tools_interleaved.json"), &target("m")).unwrap();
    assert_eq!(whole.tool_calls[1].arguments, "{}");
    for arguments in [json!(""), Value::Null, json!({}), json!("  ")] {
        let call = json!({"index": 0, "id": "a", "function": {"name": "now", "arguments": arguments}});
        let delta = json!({"choices": [{"delta": {"tool_calls": [call]}, "finish_reason": "tool_calls"}]});
        let answer = stream(Dialect::Compatible, &chunks(&[delta])).1.unwrap();
        assert_eq!(calls(&answer), [("a", "now", "{}")]);
    }
}

#[test]
fn trap_05_parallel_calls_of_one_function_that_are_all_numbered_0_stay_apart() {
    let call = |id: &str, x: u32| json!({"index": 0, "id": id, "function": {"name": "add", "arguments": format!("{{\"x\":{x}}}")}});
    let delta = |call: Value| json!({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]});
    let body = chunks(&[delta(call("a", 1)), delta(call("b", 2))]);
    let answer = stream(Dialect::Compatible, &body).1.unwrap();
    assert_eq!(calls(&answer), [("a", "add", "{\"x\":1}"), ("b", "add", "{\"x\":2}")]);
}

#[test]
fn trap_05_each_entry_of_a_whole_answer_is_a_call_of_its_own() {
    let call = json!({"index": 0, "id": "", "function": {"name": "add", "arguments": "{}"}});
    let body = json!({"choices": [{"message": {"tool_calls": [call, call]}, "finish_reason": "tool_calls"}]});
    let answer = speaking(Dialect::Compatible).completion(body.to_string().as_bytes(), &target("m")).unwrap();
    assert_eq!(answer.tool_calls.len(), 2);
    assert_ne!(answer.tool_calls[0].id, answer.tool_calls[1].id);
}

#[test]
fn calls_without_index_and_id_stay_apart_and_get_ids() {
    let answer = answer("sloppy.sse");
    let named: Vec<_> = calls(&answer).into_iter().map(|c| (c.1, c.2)).collect();
    assert_eq!(named, [("add", "{\"x\":4}"), ("now", "{}"), ("add", "{\"x\":5}")]);
    let ids: std::collections::HashSet<_> = answer.tool_calls.iter().map(|c| &c.id).collect();
    assert_eq!(ids.len(), 3);
}

#[test]
fn names_and_ids_sent_again_are_not_appended() {
    assert_eq!(calls(&answer("vllm.sse")), [("chatcmpl-tool-1", "add", "{\"x\": 4}")]);
    assert_eq!(calls(&answer("mistral_tools.sse")), [("aB3dE6gH9", "add", "{\"x\": 4}")]);
}

#[test]
fn a_call_in_the_old_form_is_read() {
    let delta = json!({"choices": [{"message": {"function_call": {"name": "now", "arguments": ""}}, "finish_reason": "function_call"}]});
    let answer = speaking(Dialect::Compatible).completion(delta.to_string().as_bytes(), &target("m")).unwrap();
    assert_eq!(answer.tool_calls[0].name, "now");
}

#[test]
fn reasoning_is_read_under_all_its_names() {
    assert_eq!(reasoning(&answer("deepseek.sse")), "2+2 is 4");
    assert_eq!(reasoning(&answer("groq.sse")), "Add them");
    assert_eq!(reasoning(&answer("openrouter.sse")), "So");
    let both = json!({"choices": [{"delta": {"reasoning": "Hm", "reasoning_content": "Hm", "content": "Hi"}, "finish_reason": "stop"}]});
    assert_eq!(reasoning(&stream(Dialect::Vllm, &chunks(&[both])).1.unwrap()), "Hm");
}

#[test]
fn content_as_a_list_is_text_and_reasoning() {
    let answer = answer("mistral_parts.sse");
    assert_eq!((reasoning(&answer).as_str(), answer.text().as_str()), ("Hm, so", "It is"));
    assert_eq!(answer.finish, Finish::Length);
}

#[test]
fn trap_10_reasoning_that_must_come_back_is_stamped_with_provider_and_model() {
    let state = |dialect| {
        let answer = stream(dialect, &fixture("deepseek.sse")).1.unwrap();
        let Content::Reasoning(reasoning) = answer.parts[0].content.clone() else { panic!("no reasoning") };
        reasoning.state.map(|s| (s.provider, s.model, s.data))
    };
    let kept = Some(("some".into(), "m".into(), "2+2 is 4".into()));
    assert_eq!(state(Dialect::DeepSeek), kept);
    assert_eq!(state(Dialect::Moonshot), kept);
    assert_eq!(state(Dialect::Groq), None);
}

#[test]
fn trap_15_comments_crlf_marks_and_missing_spaces_change_nothing() {
    let plain = answer("no_done_crlf.sse");
    assert_eq!((plain.text().as_str(), plain.tokens), ("H\u{e4}", tokens(1, 0, 1, 0)));
    assert_eq!(answer("deepseek.sse").text(), "Four");
    for end in ["\r\n", "\r"] {
        let text = String::from_utf8(fixture("text.sse")).unwrap().replace('\n', end);
        let (_, other) = stream(Dialect::OpenAi, text.as_bytes());
        assert_eq!(other.unwrap(), answer("text.sse"), "{end:?}");
    }
}

#[test]
fn blank_lines_before_a_whole_answer_are_skipped() {
    let body = [b"\n\n\n".as_slice(), &fixture("deepseek.json")].concat();
    assert_eq!(speaking(Dialect::DeepSeek).completion(&body, &target("m")).unwrap().text(), "Four");
}

#[test]
fn embeddings_are_read_in_both_forms_and_put_in_order() {
    // 1.0 and -2.5 as little-endian 32-bit floats.
    let body = json!({
        "object": "list", "model": "e", "usage": {"prompt_tokens": 7, "total_tokens": 7},
        "data": [
            {"index": 1, "embedding": [0.5, 0.25]},
            {"index": 0, "embedding": "AACAPwAAIMA="},
        ],
    });
    let read = |count| speaking(Dialect::OpenAi).embeddings(body.to_string().as_bytes(), count);
    let embeddings = read(2).unwrap();
    assert_eq!(embeddings.vectors, [[1.0, -2.5], [0.5, 0.25]]);
    assert_eq!((embeddings.input_tokens, embeddings.model.as_str()), (Some(7), "e"));
    for wrong in [1, 3] {
        assert_eq!(read(wrong).unwrap_err().reason, tutti_error::Reason::MalformedOutput);
    }
}
