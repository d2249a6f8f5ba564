use serde_json::{Value, json};
use tutti_error::Reason;
use tutti_providers::{Credential, Target};
use tutti_types::llm::{Effort, Format, Message, Part, Sampling, SchemaFormat, Tool, ToolChoice, ToolMode};

use super::{MODEL, adapter, ask, body, json_of, request, target, user};

fn add_tool() -> Tool {
    Tool {
        name: "add".into(),
        description: "adds".into(),
        parameters: json!({"type": "object", "properties": {"x": {"type": "integer"}}}),
        strict: false,
    }
}

fn with_tools(mode: ToolMode, parallel: Option<bool>) -> Value {
    let mut generation = ask(vec![user("hi")]);
    generation.tools = vec![add_tool()];
    generation.tool_choice = ToolChoice { mode, parallel };
    json_of(&generation, MODEL)["tool_choice"].take()
}

fn with_effort(model: &str, effort: Effort, max_tokens: u32) -> (Value, Value, Vec<String>) {
    let mut generation = ask(vec![user("hi")]);
    generation.sampling = Sampling { effort: Some(effort), max_output_tokens: Some(max_tokens), ..Sampling::default() };
    let request = request(&generation, model);
    let mut body = body(&request);
    (body["thinking"].take(), body["output_config"]["effort"].take(), request.warnings)
}

fn version(target: &Target, sampling: Sampling) -> (String, Value, Vec<String>) {
    let mut generation = ask(vec![user("hi")]);
    generation.sampling = Sampling { max_output_tokens: Some(1000), ..sampling };
    let request = adapter().generate(&generation, target, false).unwrap();
    assert_eq!(request.headers[0].0, "anthropic-version");
    let mut json = body(&request);
    (request.headers[0].1.clone(), json["temperature"].take(), request.warnings)
}

#[test]
fn a_plain_request() {
    let mut generation = ask(vec![Message::System { parts: vec![Part::text("Be brief.")] }, user("hi")]);
    generation.sampling.stop = vec!["END".into()];
    let request = adapter().generate(&generation, &target(MODEL), true).unwrap();
    assert_eq!(request.path, "/v1/messages");
    assert_eq!(request.headers, [("anthropic-version", "2026-10-21".to_owned())]);
    assert!(request.warnings.is_empty());
    assert_eq!(
        body(&request),
        json!({
            "model": MODEL,
            "max_tokens": 1000,
            "stream": true,
            "stop_sequences": ["END"],
            "system": "Be brief.",
            "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
        })
    );
}

#[test]
fn trap_17_both_credential_headers_are_sent() {
    let credential = Credential { key: Some("sk-x"), ..Credential::default() };
    let expected = vec![("x-api-key", "sk-x".to_owned()), ("authorization", "Bearer sk-x".to_owned())];
    assert_eq!(adapter().auth(&credential), expected);
    assert!(adapter().auth(&Credential::default()).is_empty());
}

#[test]
fn the_probe_lists_one_model_and_embeddings_are_unsupported() {
    let probe = adapter().probe(&target(MODEL));
    assert_eq!((probe.path.as_str(), probe.body), ("/v1/models?limit=1", None));
    assert_eq!(adapter().embed(&["a".into()], None, &target(MODEL)).unwrap_err().reason, Reason::Unsupported);
}

/// The version follows the model and its parameters.
#[test]
fn trap_17_sampling_parameters_pin_the_old_version_for_old_models_only() {
    let warm = || Sampling { temperature: Some(0.5), ..Sampling::default() };
    for model in ["claude-sonnet-4-6", "claude-3-5-haiku-20241022"] {
        assert_eq!(version(&target(model), warm()), ("2023-06-01".into(), json!(0.5), vec![]), "{model}");
        assert_eq!(version(&target(model), Sampling::default()).0, "2026-10-21", "{model}");
    }
    let (new, temperature, warnings) = version(&target("claude-sonnet-5-5"), warm());
    assert_eq!((new.as_str(), temperature, warnings.len()), ("2026-10-21", Value::Null, 1));
}

#[test]
fn a_configured_version_is_kept() {
    let configured = |model: &str, version: &str| Target { api_version: Some(version.into()), ..target(model) };
    let warm = || Sampling { temperature: Some(0.5), ..Sampling::default() };
    let (kept, temperature, warnings) = version(&configured("claude-sonnet-4-6", "2026-10-21"), warm());
    assert_eq!((kept.as_str(), temperature, warnings.len()), ("2026-10-21", Value::Null, 1));
    let (kept, temperature, warnings) = version(&configured("claude-opus-5-5", "2023-06-01"), warm());
    assert_eq!((kept.as_str(), temperature, warnings.len()), ("2023-06-01", Value::Null, 1));
    assert_eq!(version(&configured("claude-opus-5-5", "2023-06-01"), Sampling::default()).0, "2023-06-01");
}

#[test]
fn what_has_no_place_is_dropped_with_a_warning() {
    let sampling = Sampling {
        temperature: Some(1.5),
        top_p: Some(0.9),
        top_k: Some(40),
        seed: Some(1),
        presence_penalty: Some(1.0),
        frequency_penalty: Some(1.0),
        max_output_tokens: Some(10),
        ..Sampling::default()
    };
    let mut generation = ask(vec![user("hi")]);
    generation.sampling = sampling;
    let request = request(&generation, "claude-sonnet-4-5");
    let body = body(&request);
    assert_eq!((&body["temperature"], &body["top_k"], &body["top_p"]), (&json!(1.0), &json!(40), &Value::Null));
    assert!(body.get("seed").is_none() && body.get("presence_penalty").is_none());
    assert_eq!(request.warnings.len(), 5, "{:?}", request.warnings);
}

/// One output cap, always there.
#[test]
fn trap_18_max_tokens_is_always_sent() {
    let mut generation = ask(vec![user("hi")]);
    generation.sampling.max_output_tokens = None;
    assert_eq!(json_of(&generation, MODEL)["max_tokens"], 4096);
    let known = Target { max_output_tokens: Some(64_000), ..target(MODEL) };
    let request = adapter().generate(&generation, &known, false).unwrap();
    assert_eq!(body(&request)["max_tokens"], 64_000);
    generation.sampling.max_output_tokens = Some(100_000);
    let request = adapter().generate(&generation, &known, false).unwrap();
    assert_eq!((body(&request)["max_tokens"].as_u64(), request.warnings.len()), (Some(64_000), 1));
}

#[test]
fn tools_have_an_input_schema() {
    let mut generation = ask(vec![user("hi")]);
    generation.tools = vec![add_tool(), Tool { strict: true, description: String::new(), ..add_tool() }];
    let schema = json!({"type": "object", "properties": {"x": {"type": "integer"}}});
    let mut closed = schema.clone();
    closed["additionalProperties"] = false.into();
    let body = json_of(&generation, MODEL);
    assert_eq!(
        body["tools"],
        json!([
            {"name": "add", "description": "adds", "input_schema": schema},
            {"name": "add", "input_schema": closed, "strict": true},
        ])
    );
    assert!(body.get("tool_choice").is_none());
    assert!(json_of(&generation, "claude-sonnet-4-0")["tools"][1].get("strict").is_none());
}

#[test]
fn the_switch_for_parallel_calls_is_inside_of_the_tool_choice() {
    assert_eq!(with_tools(ToolMode::Auto, Some(true)), Value::Null);
    assert_eq!(with_tools(ToolMode::Auto, Some(false)), json!({"type": "auto", "disable_parallel_tool_use": true}));
    assert_eq!(with_tools(ToolMode::Required, None), json!({"type": "any"}));
    assert_eq!(with_tools(ToolMode::Required, Some(false)), json!({"type": "any", "disable_parallel_tool_use": true}));
    let named = json!({"type": "tool", "name": "add", "disable_parallel_tool_use": true});
    assert_eq!(with_tools(ToolMode::Tool("add".into()), Some(false)), named);
    assert_eq!(with_tools(ToolMode::None, Some(false)), json!({"type": "none"}));
}

#[test]
fn a_schema_is_enforced_where_the_model_can_and_asked_for_where_not() {
    let mut generation = ask(vec![user("hi")]);
    let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}});
    generation.format = Format::Schema(SchemaFormat { name: "answer".into(), schema: schema.clone(), strict: true });
    generation.sampling.effort = Some(Effort::High);
    let new = json_of(&generation, MODEL);
    let closed = json!({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": false});
    assert_eq!(new["output_config"], json!({"effort": "high", "format": {"type": "json_schema", "schema": closed}}));
    generation.sampling.effort = None;
    let old = request(&generation, "claude-3-5-sonnet-20241022");
    assert!(body(&old)["system"].as_str().unwrap().contains(&schema.to_string()));
    assert_eq!(old.warnings.len(), 1);
}

#[test]
fn json_is_asked_for_without_a_warning() {
    let mut generation = ask(vec![Message::System { parts: vec![Part::text("Be brief.")] }, user("hi")]);
    generation.format = Format::Json;
    let request = request(&generation, MODEL);
    let system = body(&request)["system"].as_str().unwrap().to_owned();
    assert!(system.starts_with("Be brief.\n\nAnswer with one JSON value"), "{system}");
    assert!(request.warnings.is_empty());
}

#[test]
fn effort_is_said_the_way_the_model_takes_it() {
    let adaptive = json!({"type": "adaptive"});
    let shown = json!({"type": "adaptive", "display": "summarized"});
    for (model, effort, thinking, level) in [
        ("claude-sonnet-4-6", Effort::Minimal, &adaptive, json!("low")),
        ("claude-opus-4-8", Effort::Max, &adaptive, json!("max")),
        ("claude-opus-5-5", Effort::Medium, &shown, json!("medium")),
        ("claude-fable-5-1", Effort::High, &shown, json!("high")),
        ("claude-sonnet-4-6", Effort::None, &Value::Null, Value::Null),
        ("claude-sonnet-4-5", Effort::None, &Value::Null, Value::Null),
        ("claude-opus-5-5", Effort::None, &json!({"type": "disabled"}), Value::Null),
    ] {
        let got = with_effort(model, effort, 20_000);
        assert_eq!((&got.0, &got.1, got.2.len()), (thinking, &level, 0), "{model} {effort:?}");
    }
    let (thinking, level, warnings) = with_effort("claude-fable-5-1", Effort::None, 20_000);
    assert_eq!((thinking, level, warnings.len()), (Value::Null, json!("low"), 1));
    let (thinking, _, warnings) = with_effort("claude-3-5-sonnet-20241022", Effort::High, 20_000);
    assert_eq!((thinking, warnings.len()), (Value::Null, 1));
}

/// The budget stays below the output cap.
#[test]
fn trap_18_a_budget_leaves_room_for_the_answer() {
    for (max_tokens, budget) in [(64_000, 16_384), (20_000, 10_000), (1100, 1024)] {
        let (thinking, _, warnings) = with_effort("claude-sonnet-4-5", Effort::High, max_tokens);
        assert_eq!(thinking, json!({"type": "enabled", "budget_tokens": budget}));
        assert!(warnings.is_empty());
    }
    let (thinking, _, warnings) = with_effort("claude-sonnet-4-5", Effort::High, 1024);
    assert_eq!((thinking, warnings.len()), (Value::Null, 1));
}

#[test]
fn a_demanded_call_leaves_no_room_for_thinking() {
    let mut generation = ask(vec![user("hi")]);
    generation.tools = vec![add_tool()];
    generation.tool_choice.mode = ToolMode::Required;
    generation.sampling =
        Sampling { effort: Some(Effort::High), max_output_tokens: Some(20_000), ..Sampling::default() };
    for (model, effort) in [("claude-sonnet-4-5", Value::Null), ("claude-opus-5-5", json!("high"))] {
        let request = request(&generation, model);
        let body = body(&request);
        assert_eq!((body.get("thinking"), &body["output_config"]["effort"]), (None, &effort), "{model}");
        assert_eq!(request.warnings.len(), 1);
    }
}

#[test]
fn thinking_excludes_sampling() {
    let mut generation = ask(vec![user("hi")]);
    generation.sampling = Sampling {
        effort: Some(Effort::Low),
        temperature: Some(0.2),
        max_output_tokens: Some(9000),
        ..Sampling::default()
    };
    let request = request(&generation, "claude-sonnet-4-5");
    assert!(body(&request).get("temperature").is_none());
    assert_eq!((request.headers[0].1.as_str(), request.warnings.len()), ("2026-10-21", 1));
}
