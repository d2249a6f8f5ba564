//! How a conversation is written.

use bytes::Bytes;
use serde_json::{Value, json};
use tutti_error::Reason;
use tutti_providers::Dialect;
use tutti_types::llm::{CacheTtl, Content, Media, MediaSource, Message, Part, ProviderState, Reasoning};

use crate::support::{asks, body, generation, result, sent, speaking, target, thinking, user};

fn messages(dialect: Dialect, messages: Vec<Message>) -> Value {
    body(dialect, &thinking("m"), &generation(messages))["messages"].take()
}

fn media(media_type: &str, source: MediaSource) -> Media {
    Media { source, media_type: media_type.into(), filename: None, detail: None }
}

fn inline(media_type: &str) -> Media {
    media(media_type, MediaSource::Inline(Bytes::from_static(b"abc")))
}

fn part(content: Content) -> Part {
    Part { content, cache: None }
}

fn thought(provider: &str, model: &str) -> Part {
    let state = ProviderState { provider: provider.into(), model: model.into(), data: Bytes::from_static(b"kept") };
    part(Content::Reasoning(Reasoning { text: "shown".into(), state: Some(state) }))
}

#[test]
fn roles_and_text_are_written_in_order() {
    let system = Message::System { parts: vec![Part::text("Be "), Part::text("brief.")] };
    let named = Message::User { parts: vec![Part::text("Hi")], name: Some("ann".into()) };
    let said = asks(vec![Part::text("Hello")], &[]);
    let wanted = json!([
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi", "name": "ann"},
        {"role": "assistant", "content": "Hello"},
    ]);
    assert_eq!(messages(Dialect::Compatible, vec![system, named, said]), wanted);
}

#[test]
fn instructions_are_the_developers_for_reasoning_models_of_openai() {
    let role = |dialect, model| {
        let system = Message::System { parts: vec![Part::text("Be brief.")] };
        body(dialect, &target(model), &generation(vec![system]))["messages"][0]["role"].take()
    };
    assert_eq!(role(Dialect::OpenAi, "o3"), "developer");
    assert_eq!(role(Dialect::OpenAi, "gpt-5.6-sol"), "developer");
    assert_eq!(role(Dialect::OpenAi, "gpt-4.1"), "system");
    assert_eq!(role(Dialect::Groq, "o3"), "system");
}

#[test]
fn pictures_sounds_and_documents_are_written() {
    let mut picture = media("", MediaSource::Url("https://example.com/a.png".into()));
    picture.detail = Some("low".into());
    let mut paper = inline("application/pdf");
    paper.filename = Some("a.pdf".into());
    let parts = vec![
        Part::text("Look"),
        part(Content::Image(picture)),
        part(Content::Image(inline("image/png"))),
        part(Content::Audio(inline("audio/mpeg"))),
        part(Content::File(paper)),
    ];
    let wanted = json!([
        {"type": "text", "text": "Look"},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,YWJj"}},
        {"type": "input_audio", "input_audio": {"data": "YWJj", "format": "mp3"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,YWJj", "filename": "a.pdf"}},
    ]);
    assert_eq!(messages(Dialect::OpenAi, vec![Message::User { parts, name: None }])[0]["content"], wanted);
}

#[test]
fn what_has_no_place_is_unsupported() {
    let refused = |dialect, message| {
        let generation = generation(vec![message]);
        speaking(dialect).generate(&generation, &target("m"), false).unwrap_err().reason
    };
    let link = || part(Content::File(media("", MediaSource::Url("https://example.com/a.pdf".into()))));
    let paper = || Message::User { parts: vec![link()], name: None };
    assert_eq!(refused(Dialect::OpenAi, paper()), Reason::Unsupported);
    let system = Message::System { parts: vec![part(Content::Image(inline("image/png")))] };
    assert_eq!(refused(Dialect::OpenAi, system), Reason::Unsupported);
    let written = messages(Dialect::Mistral, vec![paper()]);
    assert_eq!(written[0]["content"][0], json!({"type": "document_url", "document_url": "https://example.com/a.pdf"}));
}

#[test]
fn calls_and_results_are_written() {
    let wanted = json!([
        {"role": "assistant", "content": null, "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "add", "arguments": "{\"x\":4}"}},
        ]},
        {"role": "tool", "tool_call_id": "a", "content": "4"},
    ]);
    let asked = vec![asks(vec![], &["a"]), result("a", vec![Part::text("4")])];
    assert_eq!(messages(Dialect::OpenAi, asked), wanted);
}

#[test]
fn pictures_in_results_follow_after_the_last_result_of_the_turn() {
    let picture = part(Content::Image(inline("image/png")));
    let conversation = vec![
        asks(vec![], &["a", "b"]),
        result("a", vec![Part::text("seen"), picture]),
        result("b", vec![Part::text("5")]),
        user("And?"),
    ];
    let (body, request) = sent(Dialect::OpenAi, &target("m"), &generation(conversation), false);
    let roles: Vec<_> = body["messages"].as_array().unwrap().iter().map(|m| m["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["assistant", "tool", "tool", "user", "user"]);
    assert_eq!(body["messages"][3]["content"][1]["type"], "image_url");
    assert_eq!(request.warnings.len(), 1);
}

#[test]
fn trap_19_ids_are_mapped_to_9_characters_the_same_for_call_and_result() {
    let ids = ["toolu_01AbCdEfGh", "aB3dE6gH9", "call_0_0123456789ab"];
    let mut conversation = vec![asks(vec![], &ids)];
    conversation.extend(ids.iter().map(|id| result(id, vec![Part::text("4")])));
    let written = messages(Dialect::Mistral, conversation.clone());
    let called: Vec<_> = (0..3).map(|i| written[0]["tool_calls"][i]["id"].as_str().unwrap()).collect();
    let answered: Vec<_> = (1..4).map(|i| written[i]["tool_call_id"].as_str().unwrap()).collect();
    assert_eq!(called, answered);
    assert!(called.iter().all(|id| id.len() == 9 && id.bytes().all(|b| b.is_ascii_alphanumeric())), "{called:?}");
    assert_eq!(called[1], "aB3dE6gH9", "its own ids stay as they are");
    assert_ne!(called[0], called[2]);
    assert_eq!(messages(Dialect::Mistral, conversation.clone()), written, "the next turn says the same");
    assert_eq!(messages(Dialect::Vllm, conversation)[0]["tool_calls"][0]["id"], ids[0]);
}

#[test]
fn long_ids_are_shortened_for_openai() {
    let long = "x".repeat(60);
    let written = messages(Dialect::OpenAi, vec![asks(vec![], &[&long]), result(&long, vec![])]);
    let id = written[0]["tool_calls"][0]["id"].as_str().unwrap();
    assert!(id.len() <= 40 && written[1]["tool_call_id"] == id, "{written}");
}

#[test]
fn trap_10_reasoning_comes_back_verbatim_to_its_provider_and_model_once_there_are_calls() {
    let talk = |thought: Part| {
        vec![
            user("4?"),
            asks(vec![thought], &["a"]),
            result("a", vec![Part::text("4")]),
            asks(vec![Part::text("Four")], &[]),
        ]
    };
    let own = messages(Dialect::DeepSeek, talk(thought("some", "m")));
    assert_eq!(own[1]["reasoning_content"], "kept");
    assert_eq!(own[3]["reasoning_content"], "", "every later message needs one");
    for (provider, model) in [("other", "m"), ("some", "other")] {
        let foreign = messages(Dialect::DeepSeek, talk(thought(provider, model)));
        assert_eq!(foreign[1]["reasoning_content"], "", "{provider} {model}");
    }
    assert_eq!(messages(Dialect::Moonshot, talk(thought("some", "m")))[1]["reasoning_content"], "kept");
    assert_eq!(messages(Dialect::OpenAi, talk(thought("some", "m")))[1].get("reasoning_content"), None);
}

#[test]
fn trap_10_without_calls_reasoning_stays_away() {
    let talk = vec![user("4?"), asks(vec![thought("some", "m"), Part::text("Four")], &[]), user("Sure?")];
    assert_eq!(messages(Dialect::DeepSeek, talk)[1].get("reasoning_content"), None);
}

#[test]
fn a_message_of_foreign_reasoning_only_is_left_out() {
    let talk = vec![user("4?"), asks(vec![thought("other", "m")], &[]), user("Well?")];
    assert_eq!(messages(Dialect::OpenAi, talk).as_array().unwrap().len(), 2);
}

#[test]
fn cache_wishes_are_told_where_they_are_known() {
    let cached = |dialect, model: &str| {
        let part = Part { content: Content::Text("Long".into()), cache: Some(CacheTtl::OneHour) };
        body(dialect, &target(model), &generation(vec![Message::System { parts: vec![part] }]))["messages"][0]["content"]
            .take()
    };
    let marked = |key: &str, value: Value| {
        let mut part = json!({"type": "text", "text": "Long"});
        part[key] = value;
        json!([part])
    };
    let breakpoint = json!({"mode": "explicit", "ttl": "12h"});
    assert_eq!(cached(Dialect::OpenAi, "gpt-5.6-sol"), marked("prompt_cache_breakpoint", breakpoint));
    assert_eq!(cached(Dialect::OpenAi, "gpt-4.1"), "Long");
    let control = json!({"type": "ephemeral", "ttl": "1h"});
    assert_eq!(cached(Dialect::OpenRouter, "maker/model"), marked("cache_control", control));
    assert_eq!(cached(Dialect::DeepSeek, "m"), "Long");
}

#[test]
fn a_name_that_is_not_taken_is_left_out_with_a_warning() {
    let named = Message::User { parts: vec![Part::text("Hi")], name: Some("ann".into()) };
    let (body, request) = sent(Dialect::Mistral, &target("m"), &generation(vec![named]), false);
    assert_eq!((body["messages"][0].get("name"), request.warnings.len()), (None, 1));
}
