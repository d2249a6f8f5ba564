use bytes::Bytes;
use serde_json::{Value, json};
use tutti_error::Reason;
use tutti_types::llm::{Completion, Content, Media, MediaSource, Message, Part, ToolCall};

use super::{MODEL, adapter, ask, body, json_of, request, streamed, target, user};

fn call(id: &str, name: &str) -> ToolCall {
    ToolCall { id: id.into(), name: name.into(), arguments: "{\"x\":1}".into(), state: None }
}

fn assistant(text: &str, calls: Vec<ToolCall>) -> Message {
    let parts = if text.is_empty() { Vec::new() } else { vec![Part::text(text)] };
    Message::Assistant { parts, tool_calls: calls }
}

fn result(id: &str, name: &str, text: &str) -> Message {
    Message::Tool { call_id: id.into(), name: name.into(), parts: vec![Part::text(text)], is_error: false }
}

fn failed(id: &str, name: &str, text: &str) -> Message {
    Message::Tool { call_id: id.into(), name: name.into(), parts: vec![Part::text(text)], is_error: true }
}

fn of_completion(answer: &Completion) -> Message {
    Message::Assistant { parts: answer.parts.clone(), tool_calls: answer.tool_calls.clone() }
}

fn contents(list: Vec<Message>, model: &str) -> Value {
    json_of(&ask(list), model)["contents"].take()
}

fn show(content: Content) -> Message {
    Message::User { parts: vec![Part { content, cache: None }], name: None }
}

fn inline(media_type: &str, data: &'static [u8]) -> Media {
    let source = MediaSource::Inline(Bytes::from_static(data));
    Media { source, media_type: media_type.into(), filename: None, detail: None }
}

fn address(url: &str) -> Media {
    Media { source: MediaSource::Url(url.into()), media_type: String::new(), filename: None, detail: None }
}

#[test]
fn all_results_of_a_turn_come_in_one_content_by_name() {
    let got = contents(
        vec![
            user("do"),
            assistant("Doing.", vec![call("a", "add"), call("b", "now"), call("c", "say")]),
            result("a", "add", "2"),
            user("hurry"),
            result("b", "now", "{\"time\": 7}"),
            failed("c", "say", "no"),
        ],
        "gemini-2.5-flash",
    );
    assert_eq!(
        got,
        json!([
            {"role": "user", "parts": [{"text": "do"}]},
            {"role": "model", "parts": [
                {"text": "Doing."},
                {"functionCall": {"name": "add", "args": {"x": 1}}},
                {"functionCall": {"name": "now", "args": {"x": 1}}},
                {"functionCall": {"name": "say", "args": {"x": 1}}},
            ]},
            {"role": "user", "parts": [
                {"functionResponse": {"name": "add", "response": {"output": "2"}}},
                {"functionResponse": {"name": "now", "response": {"time": 7}}},
                {"functionResponse": {"name": "say", "response": {"error": "no"}}},
            ]},
            {"role": "user", "parts": [{"text": "hurry"}]},
        ])
    );
}

#[test]
fn an_error_that_is_an_object_stays_an_error() {
    let list = vec![user("do"), assistant("", vec![call("a", "add")]), failed("a", "add", "{\"code\": 5}")];
    let got = contents(list, MODEL);
    assert_eq!(got[2]["parts"][0]["functionResponse"]["response"], json!({"error": {"code": 5}}));
}

#[test]
fn a_call_without_a_result_is_answered_with_an_error() {
    let list = vec![user("do"), assistant("", vec![call("a", "add"), call("b", "now")]), result("b", "now", "7")];
    let request = request(&ask(list), MODEL);
    let results = &body(&request)["contents"][2]["parts"];
    assert_eq!(results[1]["functionResponse"]["name"], "add");
    assert!(results[1]["functionResponse"]["response"]["error"].is_string());
    assert_eq!((results.as_array().unwrap().len(), request.warnings.len()), (2, 1));
}

/// Signatures and ids go back to the model that gave them.
#[test]
fn trap_08_signatures_are_replayed_to_their_own_model() {
    let answer = streamed("calls_then_stop");
    let ids: Vec<String> = answer.tool_calls.iter().map(|call| call.id.clone()).collect();
    let list = || {
        let results = [(0, "add"), (1, "add"), (2, "now")].map(|(at, name)| result(&ids[at], name, "1"));
        [user("do"), of_completion(&answer)].into_iter().chain(results).collect::<Vec<_>>()
    };
    let got = contents(list(), MODEL);
    assert_eq!(
        got[1]["parts"],
        json!([
            {"functionCall": {"id": "g-1", "name": "add", "args": {"x": 4}}, "thoughtSignature": "c2lnMQ=="},
            {"functionCall": {"name": "add", "args": {"x": 4}}},
            {"functionCall": {"name": "now", "args": {}}},
        ])
    );
    assert_eq!(got[2]["parts"][0]["functionResponse"]["id"], "g-1");
    assert!(got[2]["parts"][1]["functionResponse"].get("id").is_none());
    let other = contents(list(), "gemini-3.5-flash");
    assert_eq!(other[1]["parts"][0]["thoughtSignature"], "skip_thought_signature_validator");
    assert!(other[1]["parts"][0]["functionCall"].get("id").is_none());
}

#[test]
fn signatures_on_text_are_replayed_where_they_were() {
    let list = || vec![user("do"), of_completion(&streamed("signature_at_the_end")), user("and?")];
    let expected =
        json!([{"text": "It is 4.", "thoughtSignature": "dGV4dA=="}, {"text": "", "thoughtSignature": "ZW5k"}]);
    assert_eq!(contents(list(), MODEL)[1]["parts"], expected);
    assert_eq!(contents(list(), "gemini-3.5-flash")[1]["parts"], json!([{"text": "It is 4."}]));
}

#[test]
fn a_signed_thought_is_replayed_as_a_thought() {
    let parts = json!([{"text": "hm", "thought": true, "thoughtSignature": "dGg="}, {"text": "yes"}]);
    let body = json!({"candidates": [{"content": {"parts": parts}, "finishReason": "STOP"}]});
    let answer = adapter().completion(body.to_string().as_bytes(), &target(MODEL)).unwrap();
    assert_eq!(contents(vec![user("a"), of_completion(&answer), user("b")], MODEL)[1]["parts"], parts);
}

#[test]
fn the_first_foreign_call_of_each_step_gets_a_placeholder() {
    let list = vec![
        user("do"),
        assistant("", vec![call("a", "add"), call("b", "add")]),
        result("a", "add", "1"),
        result("b", "add", "2"),
        assistant("", vec![call("c", "add")]),
        result("c", "add", "3"),
    ];
    let got = contents(list.clone(), MODEL);
    let placeholder = json!("skip_thought_signature_validator");
    assert_eq!(got[1]["parts"][0]["thoughtSignature"], placeholder);
    assert!(got[1]["parts"][1].get("thoughtSignature").is_none());
    assert_eq!(got[3]["parts"][0]["thoughtSignature"], placeholder);
    let old = contents(list, "gemini-2.5-pro");
    assert!(old[1]["parts"][0].get("thoughtSignature").is_none());
}

#[test]
fn files_are_inline_and_text_is_text() {
    let list = vec![
        show(Content::Image(inline("image/png", b"png"))),
        show(Content::Audio(inline("audio/wav", b"wav"))),
        show(Content::File(inline("application/pdf", b"pdf"))),
        show(Content::File(inline("application/toml", b"a = 1"))),
        show(Content::File(address("https://youtu.be/abc"))),
    ];
    let data = |kind: &str, data: &str| json!({"inlineData": {"mimeType": kind, "data": data}});
    assert_eq!(
        contents(list, MODEL)[0]["parts"],
        json!([
            data("image/png", "cG5n"),
            data("audio/wav", "d2F2"),
            data("application/pdf", "cGRm"),
            data("text/plain", "YSA9IDE="),
            {"fileData": {"fileUri": "https://youtu.be/abc"}},
        ])
    );
}

#[test]
fn addresses_of_others_are_unsupported() {
    for url in ["https://example.org/a.png", "http://youtu.be/abc", "https://youtu.be.example.org/"] {
        let generation = ask(vec![show(Content::Image(address(url)))]);
        let error = adapter().generate(&generation, &target(MODEL), false).unwrap_err();
        assert_eq!(error.reason, Reason::Unsupported, "{url}");
        assert!(error.message.contains("inline"));
    }
}

#[test]
fn files_of_results_are_nested_or_beside() {
    let parts = vec![Part::text("see"), Part { content: Content::Image(inline("image/png", b"png")), cache: None }];
    let list = || {
        let result = Message::Tool { call_id: "a".into(), name: "add".into(), parts: parts.clone(), is_error: false };
        vec![user("do"), assistant("", vec![call("a", "add")]), result]
    };
    let image = json!({"inlineData": {"mimeType": "image/png", "data": "cG5n"}});
    let response = json!({"output": "see"});
    assert_eq!(
        contents(list(), MODEL)[2]["parts"],
        json!([{"functionResponse": {"name": "add", "response": response, "parts": [image]}}])
    );
    assert_eq!(
        contents(list(), "gemini-2.5-flash")[2]["parts"],
        json!([{"functionResponse": {"name": "add", "response": response}}, image])
    );
}

#[test]
fn every_conversation_begins_with_the_user() {
    let first = contents(vec![assistant("Hello.", vec![]), user("hi")], MODEL);
    assert_eq!(first[0]["role"], "user");
    let alone = json_of(&ask(vec![Message::System { parts: vec![Part::text("Say hi.")] }]), MODEL);
    assert_eq!(alone["contents"], json!([{"role": "user", "parts": [{"text": "Say hi."}]}]));
    assert!(alone.get("systemInstruction").is_none());
    let error = adapter().generate(&ask(vec![user("")]), &target(MODEL), false).unwrap_err();
    assert_eq!(error.reason, Reason::InvalidRequest);
}
