//! Ollama's own format. Tests named `trap_NN` stand for faults found in other gateways.
#![cfg(test)]

use std::{fs, path::Path, time::Duration};

use bytes::Bytes;
use serde_json::{Value, json};
use tutti_error::Reason;
use tutti_providers::{Adapter, Credential, Event, Format, HttpRequest, Result, Target, adapter};
use tutti_types::{
    TokenCounts,
    llm::{
        self, Completion, Content, Effort, Finish, Generation, Media, MediaSource, Message, Part, ProviderState,
        Reasoning, Sampling, SchemaFormat, Tool, ToolCall, ToolChoice, ToolMode,
    },
};

fn ollama() -> Box<dyn Adapter> {
    adapter(Format::Ollama)
}

fn target(model: &str, reasoning: bool) -> Target {
    let provider = "ollama".into();
    Target { provider, model: model.into(), api_version: None, max_output_tokens: None, reasoning, tools: true }
}

fn fixture(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/ollama").join(name)).unwrap()
}

fn stream(bytes: &[u8]) -> (Vec<Event>, Result<Completion>) {
    let mut decoder = ollama().stream(&target("owl", true));
    let mut events = Vec::new();
    let fed = decoder.feed(bytes, &mut events);
    let answer = fed.and_then(|()| decoder.finish(&mut events));
    (events, answer)
}

fn answer(name: &str) -> Completion {
    stream(&fixture(name)).1.unwrap()
}

fn lines(values: &[Value]) -> Vec<u8> {
    values.iter().map(|v| format!("{v}\n")).collect::<String>().into_bytes()
}

fn asked(change: impl FnOnce(&mut Generation)) -> Generation {
    let mut out = Generation {
        messages: vec![Message::User { parts: vec![Part::text("Hi")], name: None }],
        tools: Vec::new(),
        tool_choice: ToolChoice::default(),
        format: llm::Format::Text,
        sampling: Sampling { max_output_tokens: Some(100), ..Default::default() },
    };
    change(&mut out);
    out
}

fn sent(target: &Target, generation: &Generation) -> (Value, HttpRequest) {
    let request = ollama().generate(generation, target, true).unwrap();
    (serde_json::from_slice(request.body.as_ref().unwrap()).unwrap(), request)
}

fn tool() -> Tool {
    Tool { name: "add".into(), description: "Adds.".into(), parameters: json!({"type": "object"}), strict: false }
}

fn part(content: Content) -> Part {
    Part { content, cache: None }
}

fn picture(source: MediaSource) -> Part {
    part(Content::Image(Media { source, media_type: "image/png".into(), filename: None, detail: None }))
}

#[test]
fn text_comes_as_it_streams() {
    let (events, answer) = stream(&fixture("text.ndjson"));
    let tokens = TokenCounts { fresh_input: 40, visible_output: 12, ..Default::default() };
    let wanted = [Event::Text("Gr\u{fc}\u{df}".into()), Event::Text(" dich \u{1f600}".into()), Event::Usage(tokens)];
    assert_eq!(events, wanted);
    let answer = answer.unwrap();
    assert_eq!((answer.finish, answer.raw_finish.as_str(), answer.tokens), (Finish::Stop, "stop", Some(tokens)));
    assert_eq!(answer.model, "owl");
}

#[test]
fn every_done_reason_has_its_finish() {
    let done = |reason: &str| {
        let message = json!({"role": "assistant", "content": "Hi"});
        stream(&lines(&[json!({"message": message, "done": true, "done_reason": reason})])).1.unwrap()
    };
    for (reason, finish) in [("stop", Finish::Stop), ("", Finish::Stop), ("length", Finish::Length)] {
        assert_eq!((done(reason).finish, done(reason).warnings.len()), (finish, 0), "{reason}");
    }
    assert_eq!((done("new").finish, done("new").warnings.len()), (Finish::Stop, 1));
}

#[test]
fn an_answer_that_only_loaded_the_model_is_empty() {
    assert_eq!(stream(&fixture("error_load_only.ndjson")).1.unwrap_err().reason, Reason::EmptyOutput);
}

#[test]
fn trap_07_stop_in_a_later_line_than_the_calls_is_tool_calls() {
    let answer = answer("tools.ndjson");
    let calls: Vec<_> = answer.tool_calls.iter().map(|c| (c.id.as_str(), c.arguments.as_str())).collect();
    assert_eq!((calls, answer.finish), (vec![("call_k3", "{\"x\":4}"), ("call_k4", "{\"x\":5}")], Finish::ToolCalls));
    assert_eq!(answer.raw_finish, "stop");
}

#[test]
fn trap_19_calls_without_ids_get_unique_ones() {
    let calls = answer("tools_without_ids.ndjson").tool_calls;
    let ids: std::collections::HashSet<_> = calls.iter().map(|c| &c.id).collect();
    assert_eq!((calls.len(), ids.len()), (3, 3));
    assert_eq!(calls[2].arguments, "{}");
    let other = String::from_utf8(fixture("tools_without_ids.ndjson")).unwrap().replace("2026-02-02", "2026-02-03");
    let later = stream(other.as_bytes()).1.unwrap().tool_calls;
    assert!(calls.iter().zip(&later).all(|(a, b)| a.id != b.id), "the next answer has other ids");
}

#[test]
fn usage_without_a_prompt_count_is_zero_input() {
    let tokens = answer("tools_without_ids.ndjson").tokens.unwrap();
    assert_eq!((tokens.input(), tokens.output()), (0, 12));
}

#[test]
fn thinking_is_reasoning_that_comes_back_to_its_model() {
    let answer = answer("thinking.ndjson");
    let Content::Reasoning(reasoning) = &answer.parts[0].content else { panic!("no reasoning") };
    assert_eq!((reasoning.text.as_str(), answer.text().as_str()), ("2+2 is 4", "Four"));
    let again = |model| {
        let assistant = Message::Assistant { parts: answer.parts.clone(), tool_calls: vec![] };
        sent(&target(model, true), &asked(|g| g.messages.push(assistant))).0["messages"][1].take()
    };
    assert_eq!(again("owl"), json!({"role": "assistant", "content": "Four", "thinking": "2+2 is 4"}));
    assert_eq!(again("hawk"), json!({"role": "assistant", "content": "Four"}));
}

#[test]
fn trap_12_a_stream_without_done_is_truncated() {
    let body = fixture("text.ndjson");
    assert_eq!(stream(&body[..body.len() - 20]).1.unwrap_err().reason, Reason::Truncated);
    assert_eq!(stream(b"").1.unwrap_err().reason, Reason::Truncated);
    let whole = json!({"message": {"content": "Hi"}, "done": false}).to_string();
    let error = ollama().completion(whole.as_bytes(), &target("owl", true)).unwrap_err();
    assert_eq!(error.reason, Reason::Truncated);
}

#[test]
fn trap_13_an_error_line_after_200_is_an_error() {
    let (events, answer) = stream(&fixture("error_in_stream.ndjson"));
    let error = answer.unwrap_err();
    assert_eq!((error.reason, events), (Reason::ProviderError, vec![Event::Text("Once".into())]));
    assert_eq!(error.message, "llama runner process has terminated");
}

#[test]
fn errors_have_their_class() {
    let table = [
        (404, "model 'owl' not found", Reason::UnknownModel),
        (404, "404 page not found", Reason::ProviderRejected),
        (400, "\"owl\" does not support tools", Reason::ProviderRejected),
        (400, "\"owl\" does not support thinking", Reason::ProviderRejected),
        (400, "the input length exceeds the context length", Reason::ContextTooLong),
        (401, "unauthorized", Reason::ProviderAuth),
        (402, "out of credit", Reason::ProviderBilling),
        (429, "too many requests", Reason::ProviderRateLimited),
        (500, "broken", Reason::ProviderError),
        (502, "broken", Reason::ProviderError),
        (503, "server busy", Reason::ProviderError),
    ];
    for (status, words, reason) in table {
        let error = ollama().error(status, &|_| None, json!({"error": words}).to_string().as_bytes());
        assert_eq!((error.reason, error.message.as_str(), error.http_status), (reason, words, status));
    }
    let after = |name: &str| (name == "retry-after").then(|| "3".to_owned());
    let busy = ollama().error(503, &after, b"busy");
    assert_eq!((busy.message.as_str(), busy.retry_after), ("busy", Some(Duration::from_secs(3))));
}

#[test]
fn a_request_says_all_that_has_a_silent_default() {
    let (body, request) = sent(&target("owl", false), &asked(|_| ()));
    let wanted = json!({
        "model": "owl", "stream": true, "truncate": false,
        "messages": [{"role": "user", "content": "Hi"}],
        "options": {"num_predict": 100},
    });
    assert_eq!((body, request.path.as_str()), (wanted, "/api/chat"));
    let whole = ollama().generate(&asked(|_| ()), &target("owl", false), false).unwrap();
    let whole: Value = serde_json::from_slice(&whole.body.unwrap()).unwrap();
    assert_eq!(whole["stream"], false);
}

#[test]
fn trap_18_sampling_goes_into_the_options_under_its_own_names() {
    let all = Sampling {
        temperature: Some(0.5),
        top_p: Some(0.9),
        top_k: Some(40),
        max_output_tokens: Some(100),
        stop: vec!["END".into()],
        seed: Some(7),
        presence_penalty: Some(0.1),
        frequency_penalty: Some(0.2),
        effort: None,
    };
    let wanted = json!({
        "temperature": 0.5, "top_p": 0.9, "top_k": 40, "num_predict": 50, "stop": ["END"], "seed": 7,
        "presence_penalty": 0.1, "frequency_penalty": 0.2,
    });
    let capped = Target { max_output_tokens: Some(50), ..target("owl", false) };
    let (body, request) = sent(&capped, &asked(|g| g.sampling = all));
    assert_eq!((&body["options"], request.warnings.len()), (&wanted, 1));
}

#[test]
fn calls_have_objects_and_results_have_names() {
    let call = ToolCall { id: "a".into(), name: "add".into(), arguments: "{\"x\":4}".into(), state: None };
    let result =
        Message::Tool { call_id: "a".into(), name: "add".into(), parts: vec![Part::text("4")], is_error: false };
    let generation = asked(|g| g.messages = vec![Message::Assistant { parts: vec![], tool_calls: vec![call] }, result]);
    let wanted = json!([
        {"role": "assistant", "content": "", "tool_calls": [{"id": "a", "function": {"name": "add", "arguments": {"x": 4}}}]},
        {"role": "tool", "content": "4", "tool_name": "add", "tool_call_id": "a"},
    ]);
    assert_eq!(sent(&target("owl", false), &generation).0["messages"], wanted);
}

#[test]
fn pictures_are_bare_base64_and_addresses_unsupported() {
    let shown = |source| asked(|g| g.messages = vec![Message::User { parts: vec![picture(source)], name: None }]);
    let inline = shown(MediaSource::Inline(Bytes::from_static(b"abc")));
    let wanted = json!({"role": "user", "content": "", "images": ["YWJj"]});
    assert_eq!(sent(&target("owl", false), &inline).0["messages"][0], wanted);
    let address = shown(MediaSource::Url("https://example.com/a.png".into()));
    let error = ollama().generate(&address, &target("owl", false), false).unwrap_err();
    assert_eq!(error.reason, Reason::Unsupported);
}

#[test]
fn tools_are_shown_unless_they_are_forbidden_and_cannot_be_required() {
    let with = |mode| {
        asked(|g| {
            g.tools = vec![tool()];
            g.tool_choice = ToolChoice { mode, parallel: Some(false) };
        })
    };
    let function = json!({"name": "add", "description": "Adds.", "parameters": {"type": "object"}});
    let (auto, request) = sent(&target("owl", false), &with(ToolMode::Auto));
    assert_eq!(auto["tools"], json!([{"type": "function", "function": function}]));
    assert_eq!(request.warnings.len(), 1, "parallel calls can't be forbidden");
    assert_eq!(sent(&target("owl", false), &with(ToolMode::None)).0.get("tools"), None);
    for mode in [ToolMode::Required, ToolMode::Tool("add".into())] {
        let error = ollama().generate(&with(mode), &target("owl", false), false).unwrap_err();
        assert_eq!(error.reason, Reason::Unsupported);
    }
}

#[test]
fn formats_are_json_or_a_schema() {
    let with = |format| sent(&target("owl", false), &asked(|g| g.format = format)).0["format"].take();
    assert_eq!(with(llm::Format::Json), "json");
    let schema = json!({"type": "object"});
    let wanted = SchemaFormat { name: "answer".into(), schema: schema.clone(), strict: true };
    assert_eq!(with(llm::Format::Schema(wanted)), schema);
}

#[test]
fn thinking_is_a_switch_or_a_level() {
    let with = |model, reasoning, effort| {
        let (mut body, request) = sent(&target(model, reasoning), &asked(|g| g.sampling.effort = effort));
        (body["think"].take(), request.warnings.len())
    };
    assert_eq!(with("owl", true, None), (Value::Null, 0));
    assert_eq!(with("owl", true, Some(Effort::None)), (json!(false), 0));
    assert_eq!(with("owl", true, Some(Effort::Low)), (json!(true), 0));
    assert_eq!(with("gpt-oss:20b", true, Some(Effort::Max)), (json!("high"), 0));
    assert_eq!(with("owl", false, Some(Effort::High)), (Value::Null, 1));
}

#[test]
fn embeddings_keep_the_order_of_the_inputs() {
    let request = ollama().embed(&["a".into(), "b".into()], Some(2), &target("e", false)).unwrap();
    let body: Value = serde_json::from_slice(&request.body.unwrap()).unwrap();
    assert_eq!(body, json!({"model": "e", "input": ["a", "b"], "truncate": false, "dimensions": 2}));
    assert_eq!(request.path, "/api/embed");
    let answer = json!({"model": "e", "embeddings": [[1.0, -2.5], [0.5, 0.25]], "prompt_eval_count": 7}).to_string();
    let read = ollama().embeddings(answer.as_bytes(), 2).unwrap();
    assert_eq!((read.vectors, read.input_tokens), (vec![vec![1.0, -2.5], vec![0.5, 0.25]], Some(7)));
    assert_eq!(ollama().embeddings(answer.as_bytes(), 3).unwrap_err().reason, Reason::MalformedOutput);
    let failed = ollama().embeddings(br#"{"error":"model 'e' not found"}"#, 1).unwrap_err();
    assert_eq!(failed.reason, Reason::UnknownModel);
}

#[test]
fn the_probe_lists_models_and_the_key_is_optional() {
    let probe = ollama().probe(&target("owl", false));
    assert_eq!((probe.body, probe.path.as_str()), (None, "/api/tags"));
    assert!(ollama().auth(&Credential::default()).is_empty());
    let keyed = Credential { key: Some("k"), ..Credential::default() };
    assert_eq!(ollama().auth(&keyed), [("authorization", "Bearer k".to_owned())]);
}

#[test]
fn foreign_reasoning_stays_away() {
    let state = ProviderState { provider: "other".into(), model: "owl".into(), data: Bytes::from_static(b"x") };
    let thought = part(Content::Reasoning(Reasoning { text: "shown".into(), state: Some(state) }));
    let assistant = Message::Assistant { parts: vec![thought, Part::text("Hi")], tool_calls: vec![] };
    let body = sent(&target("owl", true), &asked(|g| g.messages.push(assistant))).0;
    assert_eq!(body["messages"][1], json!({"role": "assistant", "content": "Hi"}));
}
