use serde_json::{Value, json};
use tutti_error::Reason;
use tutti_providers::{Credential, Target};
use tutti_types::llm::{Effort, Format, Message, Part, Sampling, SchemaFormat, Tool, ToolChoice, ToolMode};

use super::{MODEL, adapter, ask, body, json_of, request, target, user};

fn add_tool() -> Tool {
    Tool {
        name: "add".into(),
        description: "adds".into(),
        parameters: json!({"type": "object", "properties": {"x": {"$ref": "#/$defs/n"}}, "additionalProperties": false}),
        strict: true,
    }
}

fn with_tools(mode: ToolMode) -> Value {
    let mut generation = ask(vec![user("hi")]);
    generation.tools = vec![add_tool()];
    generation.tool_choice = ToolChoice { mode, parallel: None };
    json_of(&generation, MODEL)["toolConfig"].take()
}

#[test]
fn a_plain_request() {
    let mut generation = ask(vec![Message::System { parts: vec![Part::text("Be brief.")] }, user("hi")]);
    generation.sampling = Sampling {
        temperature: Some(0.5),
        top_p: Some(0.9),
        top_k: Some(40),
        max_output_tokens: Some(1000),
        stop: vec!["END".into()],
        seed: Some(7),
        ..Sampling::default()
    };
    let request = request(&generation, MODEL);
    assert_eq!(request.path, "/models/gemini-3.8-flash:generateContent");
    assert!(request.warnings.is_empty() && request.headers.is_empty());
    assert_eq!(
        body(&request),
        json!({
            "systemInstruction": {"parts": [{"text": "Be brief."}]},
            "contents": [{"role": "user", "parts": [{"text": "hi"}]}],
            "generationConfig": {"maxOutputTokens": 1000, "temperature": 0.5, "topP": 0.9, "topK": 40, "seed": 7,
                "stopSequences": ["END"]},
        })
    );
}

#[test]
fn a_stream_is_asked_for_as_events() {
    let path = |model: &str| adapter().generate(&ask(vec![user("hi")]), &target(model), true).unwrap().path;
    assert_eq!(path(MODEL), "/models/gemini-3.8-flash:streamGenerateContent?alt=sse");
    assert_eq!(path("tunedModels/mine"), "/tunedModels/mine:streamGenerateContent?alt=sse");
}

#[test]
fn the_key_is_a_header_and_the_probe_lists_one_model() {
    let credential = Credential { key: Some("AIza"), ..Credential::default() };
    assert_eq!(adapter().auth(&credential), [("x-goog-api-key", "AIza".to_owned())]);
    let probe = adapter().probe(&target(MODEL));
    assert_eq!((probe.path.as_str(), probe.body), ("/models?pageSize=1", None));
}

#[test]
fn tools_have_json_schemas() {
    let mut generation = ask(vec![user("hi")]);
    generation.tools = vec![add_tool()];
    generation.tool_choice.parallel = Some(false);
    let request = request(&generation, MODEL);
    let body = body(&request);
    let declaration = json!({"name": "add", "description": "adds", "parametersJsonSchema": add_tool().parameters});
    assert_eq!(body["tools"], json!([{"functionDeclarations": [declaration]}]));
    assert!(body.get("toolConfig").is_none());
    assert_eq!(request.warnings.len(), 1);
}

#[test]
fn a_tool_choice_is_a_mode() {
    assert_eq!(with_tools(ToolMode::Required), json!({"functionCallingConfig": {"mode": "ANY"}}));
    let named = json!({"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["add"]}});
    assert_eq!(with_tools(ToolMode::Tool("add".into())), named);
    assert_eq!(with_tools(ToolMode::None), json!({"functionCallingConfig": {"mode": "NONE"}}));
}

#[test]
fn json_is_enforced_unless_tools_of_an_old_model_are_in_the_way() {
    let mut generation = ask(vec![user("hi")]);
    generation.format = Format::Json;
    assert_eq!(json_of(&generation, MODEL)["generationConfig"]["responseMimeType"], "application/json");
    let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}});
    generation.format = Format::Schema(SchemaFormat { name: "answer".into(), schema: schema.clone(), strict: true });
    generation.tools = vec![add_tool()];
    let config = json_of(&generation, MODEL)["generationConfig"].take();
    assert_eq!((&config["responseMimeType"], &config["responseJsonSchema"]), (&json!("application/json"), &schema));
    let old = request(&generation, "gemini-2.5-flash");
    let body = body(&old);
    assert!(body["generationConfig"].get("responseMimeType").is_none());
    assert!(body["systemInstruction"]["parts"][0]["text"].as_str().unwrap().contains(&schema.to_string()));
    assert_eq!(old.warnings.len(), 1);
}

#[test]
fn effort_is_said_the_way_the_model_takes_it() {
    for (model, effort, config, warnings) in [
        ("gemini-3.8-flash", Effort::Low, json!({"thinkingLevel": "LOW", "includeThoughts": true}), 0),
        ("gemini-3.8-flash", Effort::Max, json!({"thinkingLevel": "HIGH", "includeThoughts": true}), 0),
        ("gemini-3.8-flash", Effort::None, json!({"thinkingLevel": "MINIMAL"}), 0),
        ("gemini-3.1-pro-preview", Effort::None, json!({"thinkingLevel": "LOW"}), 1),
        ("gemini-3.1-pro-preview", Effort::Medium, json!({"thinkingLevel": "MEDIUM", "includeThoughts": true}), 0),
        ("gemini-2.5-flash", Effort::Medium, json!({"thinkingBudget": 8192, "includeThoughts": true}), 0),
        ("gemini-2.5-flash", Effort::None, json!({"thinkingBudget": 0}), 0),
        ("gemini-2.0-flash", Effort::High, Value::Null, 1),
        ("gemini-2.0-flash", Effort::None, Value::Null, 0),
    ] {
        let mut generation = ask(vec![user("hi")]);
        generation.sampling = Sampling { effort: Some(effort), max_output_tokens: Some(60_000), ..Sampling::default() };
        let request = request(&generation, model);
        let got = body(&request)["generationConfig"]["thinkingConfig"].take();
        assert_eq!((got, request.warnings.len()), (config, warnings), "{model} {effort:?}");
    }
    assert!(json_of(&ask(vec![user("hi")]), MODEL)["generationConfig"].get("thinkingConfig").is_none());
}

#[test]
fn bounds_of_the_format_are_kept() {
    let mut generation = ask(vec![user("hi")]);
    generation.sampling = Sampling {
        max_output_tokens: Some(100_000),
        seed: Some(i64::from(i32::MAX) + 5),
        presence_penalty: Some(1.0),
        ..Sampling::default()
    };
    let known = Target { max_output_tokens: Some(65_536), ..target(MODEL) };
    let request = adapter().generate(&generation, &known, false).unwrap();
    assert_eq!(body(&request)["generationConfig"], json!({"maxOutputTokens": 65_536, "seed": 5}));
    assert_eq!(request.warnings.len(), 2);
    let old = json_of(&generation, "gemini-2.0-flash");
    assert_eq!(old["generationConfig"]["presencePenalty"], 1.0);
    generation.sampling.max_output_tokens = None;
    assert_eq!(json_of(&generation, MODEL)["generationConfig"]["maxOutputTokens"], 8192);
}

#[test]
fn embeddings_go_in_batches() {
    let request = adapter().embed(&["a".into(), "b".into()], Some(256), &target("gemini-embedding-001")).unwrap();
    assert_eq!(request.path, "/models/gemini-embedding-001:batchEmbedContents");
    let one = |text: &str| {
        json!({"model": "models/gemini-embedding-001", "content": {"parts": [{"text": text}]},
            "outputDimensionality": 256})
    };
    assert_eq!(body(&request), json!({"requests": [one("a"), one("b")]}));
}

#[test]
fn embeddings_are_as_many_as_inputs() {
    let read = |body: Value, count| adapter().embeddings(body.to_string().as_bytes(), count);
    let body = json!({"embeddings": [{"values": [0.5, -1]}, {"values": [0.25, 2]}]});
    let embeddings = read(body.clone(), 2).unwrap();
    assert_eq!(embeddings.vectors, [[0.5, -1.0], [0.25, 2.0]]);
    assert_eq!(embeddings.input_tokens, None);
    assert_eq!(read(body, 3).unwrap_err().reason, Reason::MalformedOutput);
    assert_eq!(read(json!({"embeddings": [{"values": ["x"]}]}), 1).unwrap_err().reason, Reason::MalformedOutput);
    assert_eq!(read(json!({"embeddings": [{}]}), 1).unwrap_err().reason, Reason::MalformedOutput);
    let failed = json!({"error": {"code": 503, "status": "UNAVAILABLE", "message": "x"}});
    assert_eq!(read(failed, 1).unwrap_err().reason, Reason::ProviderError);
}
