use serde_json::{Value, json};

use super::*;

fn read_with(mut more: Value, headers: &[(&'static str, &'static str)]) -> Result<(ChatRequest, Style)> {
    let mut body = json!({"model": "auto", "messages": [{"role": "user", "content": "hi"}]});
    body.as_object_mut().unwrap().append(more.as_object_mut().unwrap());
    let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
    let backends = [BackendStatus { name: "claude".into(), ..Default::default() }];
    // From text, as in life: raw values can't be read from a `Value`.
    chat(serde_json::from_str(&body.to_string()).unwrap(), &headers, &backends)
}

fn read(more: Value) -> Result<ChatRequest> {
    read_with(more, &[]).map(|(chat, _)| chat)
}

fn refused(more: Value) -> (Reason, String) {
    let error = read(more).unwrap_err();
    (error.reason(), error.fields()[0].0.clone())
}

#[test]
fn a_model_is_a_backend_a_persona_a_model_or_left_to_the_rules() {
    let chosen = |model: &str| {
        let chat = read(json!({"model": model})).unwrap();
        (chat.backend, chat.persona, chat.model)
    };
    let names = |backend: &str, persona: &str, model: &str| (backend.into(), persona.into(), model.into());
    assert_eq!(chosen("auto"), names("", "", ""));
    assert_eq!(chosen("claude"), names("claude", "", ""));
    assert_eq!(chosen("persona/architect"), names("", "architect", ""));
    assert_eq!(chosen("openai/gpt-5.4"), names("", "", "openai/gpt-5.4"));
    assert_eq!(refused(json!({"model": null})).1, "model");
    let contradiction = read_with(json!({"model": "claude"}), &[("x-tutti-backend", "openai")]);
    assert_eq!(contradiction.unwrap_err().fields()[0].0, "model");
    let both = read_with(json!({"model": "opus"}), &[("x-tutti-backend", "claude")]).unwrap().0;
    assert_eq!((both.backend.as_str(), both.model.as_str()), ("claude", "opus"));
}

#[test]
fn messages_of_every_role_are_read() {
    let chat = read(json!({"messages": [
        {"role": "developer", "content": [{"type": "text", "text": "be "}, {"type": "text", "text": "brief"}]},
        {"role": "user", "name": "ann", "content": [{"type": "text", "text": "what is 1+1?"}]},
        {"role": "assistant", "content": null, "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{\"a\":1}"}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "2"},
        {"role": "assistant", "content": "two"},
    ]}))
    .unwrap();
    let roles: Vec<Role> = chat.messages.iter().map(Message::role).collect();
    assert_eq!(roles, [Role::System, Role::User, Role::Assistant, Role::Tool, Role::Assistant]);
    assert_eq!((chat.messages[0].text.as_str(), chat.messages[1].name.as_str()), ("be brief", "ann"));
    assert_eq!(chat.messages[1].parts.len(), 1);
    assert_eq!(chat.messages[2].tool_calls[0].arguments_json, "{\"a\":1}");
    assert_eq!(chat.messages[3].tool_call_id, "c1");
    assert_eq!(refused(json!({"messages": [{"role": "function", "content": "x"}]})).1, "messages[0].role");
    let picture = json!({"type": "image_url", "image_url": {"url": "https://example.org/a.png"}});
    let system = json!({"messages": [{"role": "system", "content": [picture]}]});
    assert_eq!(refused(system).1, "messages[0].content[0].type");
}

#[test]
fn tools_and_their_choice_are_read_as_they_came() {
    let tool =
        json!({"type": "function", "function": {"name": "add", "parameters": {"type": "object"}, "strict": true}});
    let chat = read(json!({
        "tools": [tool], "parallel_tool_calls": false,
        "tool_choice": {"type": "function", "function": {"name": "add"}},
    }))
    .unwrap();
    assert_eq!((chat.tools[0].parameters_json.as_str(), chat.tools[0].strict), ("{\"type\":\"object\"}", true));
    let choice = chat.tool_choice.unwrap();
    assert_eq!((choice.mode(), choice.tool_name.as_str(), choice.parallel), (Mode::Tool, "add", Some(false)));
    for (word, mode) in [("none", Mode::None), ("auto", Mode::Auto), ("required", Mode::Required)] {
        let choice = read(json!({"tool_choice": word})).unwrap().tool_choice.unwrap();
        assert_eq!((choice.mode(), choice.parallel), (mode, None));
    }
    assert_eq!(refused(json!({"tool_choice": "maybe"})).1, "tool_choice");
    assert_eq!(refused(json!({"tools": [{"type": "custom"}]})), (Reason::Unsupported, "tools[0].type".into()));
}

#[test]
fn sampling_and_format_are_read() {
    let chat = read(json!({
        "max_tokens": 5, "max_completion_tokens": 7, "temperature": 1, "stop": "end", "seed": -3,
        "reasoning_effort": "xhigh", "user": "u1",
        "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {"a": 1.50}, "strict": true}},
    }))
    .unwrap();
    let sampling = chat.sampling.unwrap();
    assert_eq!((sampling.max_output_tokens, sampling.temperature, sampling.seed), (Some(7), Some(1.0), Some(-3)));
    assert_eq!(
        (sampling.stop.as_slice(), sampling.reasoning_effort()),
        (&["end".to_owned()][..], ReasoningEffort::Max)
    );
    assert_eq!(chat.response_format.unwrap().name, "s");
    assert_eq!(chat.attribution.unwrap().tags["user"], "u1");
    assert_eq!(read(json!({"stop": ["a", "b"]})).unwrap().sampling.unwrap().stop, ["a", "b"]);
    assert_eq!(refused(json!({"response_format": {"type": "xml"}})).1, "response_format.type");
    assert_eq!(refused(json!({"reasoning_effort": "huge"})).1, "reasoning_effort");
}

#[test]
fn what_is_not_built_is_refused_and_the_unknown_is_ignored() {
    for (field, value) in [
        ("n", json!(2)),
        ("logprobs", json!(true)),
        ("logit_bias", json!({"5": 1})),
        ("modalities", json!(["text", "audio"])),
        ("functions", json!([{"name": "f"}])),
        ("web_search_options", json!({})),
    ] {
        assert_eq!(refused(json!({field: value})), (Reason::Unsupported, field.into()));
    }
    assert!(read(json!({"n": 1, "logprobs": false, "logit_bias": null, "store": true, "brand_new": {}})).is_ok());
}

#[test]
fn a_stream_is_asked_for_with_or_without_its_usage() {
    let style = |more| read_with(more, &[]).unwrap().1;
    assert!(!style(json!({})).streamed);
    assert!(!style(json!({"stream": true})).include_usage);
    assert!(style(json!({"stream": true, "stream_options": {"include_usage": true}})).include_usage);
    assert_eq!(refused(json!({"stream_options": {"include_usage": true}})).1, "stream_options");
}

#[test]
fn with_tools_of_the_mesh_only_the_clients_own_calls_are_shown() {
    let tools = || json!({"tools": [{"type": "function", "function": {"name": "mine"}}]});
    let mesh = ("x-tutti-mesh-tools", "read");
    assert_eq!(read_with(tools(), &[mesh]).unwrap_err().fields()[0].0, "tools");
    let (_, style) = read_with(tools(), &[mesh, ("x-tutti-session", "s1")]).unwrap();
    assert!(style.is_clients("mine") && !style.is_clients("read"));
    assert!(Style::default().is_clients("anything"));
}
