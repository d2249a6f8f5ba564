use bytes::Bytes;
use serde_json::{Value, json};
use tutti_error::Reason;
use tutti_types::llm::{
    CacheTtl, Completion, Content, Effort, Generation, Media, MediaSource, Message, Part, ProviderState, Reasoning,
    ToolCall,
};

use super::{MODEL, adapter, ask, body, json_of, request, streamed, target, user};

fn call(id: &str) -> ToolCall {
    ToolCall { id: id.into(), name: "add".into(), arguments: "{\"x\":1}".into(), state: None }
}

fn assistant(text: &str, calls: &[&str]) -> Message {
    let parts = if text.is_empty() { Vec::new() } else { vec![Part::text(text)] };
    Message::Assistant { parts, tool_calls: calls.iter().map(|id| call(id)).collect() }
}

fn result(id: &str, text: &str) -> Message {
    Message::Tool { call_id: id.into(), name: "add".into(), parts: vec![Part::text(text)], is_error: false }
}

fn of_completion(answer: &Completion) -> Message {
    Message::Assistant { parts: answer.parts.clone(), tool_calls: answer.tool_calls.clone() }
}

fn messages(list: Vec<Message>) -> Value {
    json_of(&ask(list), MODEL)["messages"].take()
}

fn show(content: Content) -> Message {
    Message::User { parts: vec![Part { content, cache: None }], name: None }
}

fn inline(media_type: &str, data: &'static [u8]) -> Media {
    let source = MediaSource::Inline(Bytes::from_static(data));
    Media { source, media_type: media_type.into(), filename: None, detail: None }
}

fn refused(list: Vec<Message>, model: &str) -> Reason {
    adapter().generate(&ask(list), &target(model), false).unwrap_err().reason
}

#[test]
fn all_results_of_a_turn_come_in_one_message_before_any_text() {
    let got = messages(vec![
        user("add"),
        assistant("Adding.", &["a", "b"]),
        result("a", "2"),
        user("and hurry"),
        Message::Tool { call_id: "b".into(), name: "add".into(), parts: vec![Part::text("no")], is_error: true },
    ]);
    assert_eq!(
        got,
        json!([
            {"role": "user", "content": [{"type": "text", "text": "add"}]},
            {"role": "assistant", "content": [
                {"type": "text", "text": "Adding."},
                {"type": "tool_use", "id": "a", "name": "add", "input": {"x": 1}},
                {"type": "tool_use", "id": "b", "name": "add", "input": {"x": 1}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "a", "content": "2"},
                {"type": "tool_result", "tool_use_id": "b", "content": "no", "is_error": true},
                {"type": "text", "text": "and hurry"},
            ]},
        ])
    );
}

#[test]
fn messages_of_one_role_are_merged_and_blank_text_is_not_sent() {
    let got = messages(vec![user("a"), user(" \n"), assistant("", &[]), user("b")]);
    let blocks = json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]);
    assert_eq!(got, json!([{"role": "user", "content": blocks}]));
}

#[test]
fn a_call_without_a_result_is_answered_with_an_error() {
    let generation = ask(vec![user("add"), assistant("", &["a", "b"]), result("b", "2"), user("go on")]);
    let request = request(&generation, MODEL);
    let results = &body(&request)["messages"][2]["content"];
    assert_eq!(results[0]["tool_use_id"], "b");
    assert_eq!((&results[1]["tool_use_id"], &results[1]["is_error"]), (&json!("a"), &json!(true)));
    assert_eq!(results[2]["text"], "go on");
    assert_eq!(request.warnings.len(), 1);
}

#[test]
fn a_result_may_be_empty_or_have_files() {
    let parts = vec![Part::text("see"), Part { content: Content::Image(inline("image/png", b"png")), cache: None }];
    let image = Message::Tool { call_id: "a".into(), name: "add".into(), parts, is_error: false };
    let failed = Message::Tool { call_id: "b".into(), name: "add".into(), parts: vec![], is_error: true };
    let got = messages(vec![user("add"), assistant("", &["a", "b", "c"]), image, failed, result("c", "")]);
    let content = json!([{"type": "text", "text": "see"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "cG5n"}}]);
    assert_eq!(
        got[2]["content"],
        json!([
            {"type": "tool_result", "tool_use_id": "a", "content": content},
            {"type": "tool_result", "tool_use_id": "b", "content": "The tool failed.", "is_error": true},
            {"type": "tool_result", "tool_use_id": "c"},
        ])
    );
}

#[test]
fn trap_19_foreign_ids_are_mapped_the_same_way_everywhere() {
    let got = messages(vec![user("add"), assistant("", &["call:1/é"]), result("call:1/é", "2")]);
    let id = got[1]["content"][0]["id"].as_str().unwrap().to_owned();
    assert!(id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'), "{id}");
    assert_eq!(got[2]["content"][0]["tool_use_id"], id.as_str());
    let other = messages(vec![user("add"), assistant("", &["call:1/è"]), result("call:1/è", "2")]);
    assert_ne!(other[1]["content"][0]["id"], id.as_str());
}

/// Verbatim, in order, calls where the model put them.
#[test]
fn trap_09_reasoning_is_replayed_to_its_own_model_as_it_came() {
    let answer = of_completion(&streamed("thinking"));
    let got = messages(vec![user("add"), answer, result("toolu_t", "2"), result("toolu_u", "3")]);
    assert_eq!(
        got[1]["content"],
        json!([
            {"type": "thinking", "thinking": "First, add.", "signature": "c2lnbmVk"},
            {"type": "redacted_thinking", "data": "ZW5jcnlwdGVk"},
            {"type": "text", "text": "I add."},
            {"type": "tool_use", "id": "toolu_t", "name": "add", "input": {"x": 1}},
            {"type": "thinking", "thinking": "", "signature": "c2Vjb25k"},
            {"type": "tool_use", "id": "toolu_u", "name": "add", "input": {"x": 2}},
        ])
    );
}

#[test]
fn reasoning_is_replayed_to_nobody_else() {
    let answer = of_completion(&streamed("thinking"));
    let list = vec![user("add"), answer, result("toolu_t", "2"), result("toolu_u", "3")];
    let body = json_of(&ask(list), "claude-sonnet-5-5");
    let kinds: Vec<&str> =
        body["messages"][1]["content"].as_array().unwrap().iter().map(|b| b["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["text", "tool_use", "tool_use"]);
    let state = ProviderState { provider: "gemini".into(), model: MODEL.into(), data: Bytes::from_static(b"{}") };
    let foreign = Content::Reasoning(Reasoning { text: "hm".into(), state: Some(state) });
    let answer = Message::Assistant { parts: vec![Part { content: foreign, cache: None }], tool_calls: vec![] };
    let got = messages(vec![user("a"), answer, user("b")]);
    assert_eq!(got.as_array().unwrap().len(), 1);
}

#[test]
fn a_paused_turn_goes_back_unchanged() {
    let answer = of_completion(&streamed("pause_turn"));
    let got = messages(vec![user("search"), answer, user("go on")]);
    assert_eq!(got[1]["content"][1]["input"], json!({"query": "tutti"}));
    assert_eq!(got[1]["content"][2]["type"], "web_search_tool_result");
    let at_the_end = messages(vec![user("search"), of_completion(&streamed("pause_turn"))]);
    assert_eq!(at_the_end[1], got[1]);
}

#[test]
fn a_budget_is_left_out_when_the_history_has_calls_of_others() {
    let mut generation = ask(vec![user("add"), assistant("", &["a"]), result("a", "2")]);
    generation.sampling.effort = Some(Effort::High);
    generation.sampling.max_output_tokens = Some(20_000);
    let old = request(&generation, "claude-sonnet-4-5");
    assert_eq!((body(&old).get("thinking"), old.warnings.len()), (None, 1));
    assert_eq!(json_of(&generation, MODEL)["thinking"]["type"], "adaptive");
}

#[test]
fn an_answer_at_the_end_is_gone_on_with_by_old_models_only() {
    let list = || vec![user("Count."), assistant("1, 2,  ", &[])];
    let old = json_of(&ask(list()), "claude-sonnet-4-5");
    assert_eq!(old["messages"][1]["content"][0]["text"], "1, 2,");
    for model in ["claude-sonnet-4-6", "claude-opus-5-5", "claude-fable-5-1"] {
        assert_eq!(refused(list(), model), Reason::Unsupported, "{model}");
    }
}

#[test]
fn system_messages_are_joined_at_the_top_and_marks_are_kept_as_blocks() {
    let system =
        |text: &str, cache| Message::System { parts: vec![Part { content: Content::Text(text.into()), cache }] };
    let plain = json_of(&ask(vec![system("a", None), user("hi"), system("b", None)]), MODEL);
    assert_eq!(plain["system"], "a\n\nb");
    assert_eq!(plain["messages"].as_array().unwrap().len(), 1);
    let marked = json_of(&ask(vec![system("a", Some(CacheTtl::OneHour)), system("b", None), user("hi")]), MODEL);
    assert_eq!(
        marked["system"],
        json!([
            {"type": "text", "text": "a", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
            {"type": "text", "text": "b"},
        ])
    );
}

#[test]
fn the_last_four_cache_marks_are_kept() {
    let part = |text: &str| Part { content: Content::Text(text.into()), cache: Some(CacheTtl::FiveMinutes) };
    let parts = vec![part("a"), part("b"), part("c"), part("d")];
    let generation = ask(vec![Message::System { parts: vec![part("s")] }, Message::User { parts, name: None }]);
    let request = request(&generation, MODEL);
    let body = body(&request);
    assert_eq!(body["system"], "s");
    let content = body["messages"][0]["content"].as_array().unwrap();
    assert!(content.iter().all(|block| block["cache_control"] == json!({"type": "ephemeral"})));
    assert_eq!(request.warnings.len(), 1);
}

#[test]
fn images_and_documents() {
    let url = Media { source: MediaSource::Url("https://example.org/a.png".into()), ..inline("", b"") };
    let named = Media { filename: Some("a.pdf".into()), ..inline("application/pdf", b"pdf") };
    let list = vec![
        show(Content::Image(url)),
        show(Content::Image(inline("image/jpg", b"jpg"))),
        show(Content::File(named)),
        show(Content::File(inline("application/toml", b"a = 1"))),
    ];
    assert_eq!(
        messages(list)[0]["content"],
        json!([
            {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
            {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": "anBn"}},
            {"type": "document", "title": "a.pdf",
                "source": {"type": "base64", "media_type": "application/pdf", "data": "cGRm"}},
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "a = 1"}},
        ])
    );
}

#[test]
fn content_without_a_block_is_unsupported() {
    assert_eq!(refused(vec![show(Content::Audio(inline("audio/wav", b"wav")))], MODEL), Reason::Unsupported);
    assert_eq!(refused(vec![show(Content::Image(inline("image/tiff", b"x")))], MODEL), Reason::Unsupported);
    assert_eq!(refused(vec![show(Content::File(inline("application/zip", b"\xff\xfe")))], MODEL), Reason::Unsupported);
}

#[test]
fn every_conversation_begins_with_the_user() {
    let begin = |list: Vec<Message>| -> (Value, usize) {
        let generation: Generation = ask(list);
        let request = request(&generation, MODEL);
        (body(&request)["messages"][0].take(), request.warnings.len())
    };
    let (first, warnings) = begin(vec![assistant("Hello.", &[]), user("hi")]);
    assert_eq!((&first["role"], warnings), (&json!("user"), 1));
    let (first, warnings) = begin(vec![Message::System { parts: vec![Part::text("Say hi.")] }]);
    assert_eq!((&first["content"][0]["text"], warnings), (&json!("Say hi."), 1));
    assert_eq!(refused(vec![user("  ")], MODEL), Reason::InvalidRequest);
}
