//! The fields around a conversation, and the other requests.

use serde_json::{Value, json};
use tutti_error::Reason;
use tutti_providers::{Credential, Dialect};
use tutti_types::llm::{Effort, Format, Generation, Sampling, SchemaFormat, ToolMode};

use crate::support::{body, generation, sent, speaking, target, thinking, tool, user};

const ALL: [Dialect; 11] = [
    Dialect::OpenAi,
    Dialect::Compatible,
    Dialect::Moonshot,
    Dialect::DeepSeek,
    Dialect::Mistral,
    Dialect::Groq,
    Dialect::Together,
    Dialect::OpenRouter,
    Dialect::LiteLlm,
    Dialect::Vllm,
    Dialect::LlamaCpp,
];

fn asked(change: impl FnOnce(&mut Generation)) -> Generation {
    let mut out = generation(vec![user("Hi")]);
    change(&mut out);
    out
}

fn sampling() -> Sampling {
    Sampling {
        temperature: Some(0.5),
        top_p: Some(0.9),
        top_k: Some(40),
        max_output_tokens: Some(100),
        stop: vec!["END".into()],
        seed: Some(7),
        presence_penalty: Some(0.1),
        frequency_penalty: Some(0.2),
        effort: None,
    }
}

#[test]
fn trap_18_the_output_cap_is_sent_under_the_one_name_that_is_known() {
    for dialect in ALL {
        let body = body(dialect, &target("m"), &asked(|_| ()));
        let new = matches!(dialect, Dialect::OpenAi | Dialect::Groq);
        let (known, other) =
            if new { ("max_completion_tokens", "max_tokens") } else { ("max_tokens", "max_completion_tokens") };
        assert_eq!((&body[known], body.get(other)), (&json!(100), None), "{dialect:?}");
    }
}

#[test]
fn the_output_cap_is_lowered_to_what_the_model_writes() {
    let target = tutti_providers::Target { max_output_tokens: Some(50), ..target("m") };
    let (body, request) = sent(Dialect::Vllm, &target, &asked(|_| ()), false);
    assert_eq!((&body["max_tokens"], request.warnings.len()), (&json!(50), 1));
}

#[test]
fn trap_16_usage_is_always_asked_for_in_a_stream_and_never_without_one() {
    for dialect in ALL {
        let (body, request) = sent(dialect, &target("m"), &asked(|_| ()), true);
        assert_eq!((&body["stream"], request.path.as_str()), (&json!(true), "/chat/completions"));
        let wanted = json!({"include_usage": true});
        let has = body.get("stream_options");
        assert_eq!(has, if dialect == Dialect::Mistral { None } else { Some(&wanted) }, "{dialect:?}");
        let (whole, _) = sent(dialect, &target("m"), &asked(|_| ()), false);
        assert_eq!((whole.get("stream_options"), whole.get("stream")), (None, None));
    }
}

#[test]
fn sampling_is_sent_where_it_is_taken() {
    let generation = asked(|g| g.sampling = sampling());
    let (body, request) = sent(Dialect::Vllm, &target("m"), &generation, false);
    for (field, value) in [
        ("temperature", json!(0.5)),
        ("top_p", json!(0.9)),
        ("top_k", json!(40)),
        ("stop", json!(["END"])),
        ("seed", json!(7)),
        ("presence_penalty", json!(0.1)),
        ("frequency_penalty", json!(0.2)),
    ] {
        assert_eq!(body[field], value, "{field}");
    }
    assert!(request.warnings.is_empty());
    let mistral = sent(Dialect::Mistral, &target("m"), &generation, false).0;
    assert_eq!((&mistral["random_seed"], mistral.get("seed")), (&json!(7), None));
}

#[test]
fn what_a_reasoning_model_refuses_is_left_out_with_a_warning() {
    let generation = asked(|g| g.sampling = sampling());
    let (body, request) = sent(Dialect::OpenAi, &target("gpt-5.6-sol"), &generation, false);
    let refused = ["temperature", "top_p", "top_k", "stop", "presence_penalty", "frequency_penalty"];
    for field in refused {
        assert_eq!(body.get(field), None, "{field}");
        assert!(request.warnings.iter().any(|w| w.contains(field)), "{field}: {:?}", request.warnings);
    }
    assert_eq!(body["seed"], 7);
    let kimi = sent(Dialect::Moonshot, &thinking("kimi-k9"), &generation, false).0;
    assert_eq!((kimi.get("temperature"), &kimi["presence_penalty"]), (None, &json!(0.1)));
}

#[test]
fn efforts_are_told_in_each_dialects_way() {
    let with = |dialect, model: &str, effort| {
        let (mut body, request) = sent(dialect, &thinking(model), &asked(|g| g.sampling.effort = Some(effort)), false);
        assert!(request.warnings.is_empty(), "{:?}", request.warnings);
        ["reasoning_effort", "reasoning", "thinking", "chat_template_kwargs"].map(|field| body[field].take())
    };
    let none = Value::Null;
    let effort = |word: &str| [json!(word), none.clone(), none.clone(), none.clone()];
    assert_eq!(with(Dialect::OpenAi, "o3", Effort::Low), effort("low"));
    assert_eq!(with(Dialect::Groq, "gpt-oss-9", Effort::Max), effort("high"));
    assert_eq!(with(Dialect::Mistral, "m", Effort::Low), effort("high"));
    let routed = [none.clone(), json!({"effort": "xhigh"}), none.clone(), none.clone()];
    assert_eq!(with(Dialect::OpenRouter, "m", Effort::Max), routed);
    let off = [none.clone(), none.clone(), json!({"type": "disabled"}), none.clone()];
    assert_eq!(with(Dialect::Moonshot, "m", Effort::None), off);
    let most = [json!("max"), none.clone(), json!({"type": "enabled"}), none.clone()];
    assert_eq!(with(Dialect::DeepSeek, "m", Effort::Max), most);
    let template = [none.clone(), none.clone(), none.clone(), json!({"enable_thinking": false})];
    assert_eq!(with(Dialect::Vllm, "m", Effort::None), template);
}

#[test]
fn an_effort_for_a_model_that_does_not_reason_is_left_out() {
    let high = asked(|g| g.sampling.effort = Some(Effort::High));
    let (body, request) = sent(Dialect::OpenAi, &target("gpt-4.1"), &high, false);
    assert_eq!((body.get("reasoning_effort"), request.warnings.len()), (None, 1));
    let none = asked(|g| g.sampling.effort = Some(Effort::None));
    let (least, request) = sent(Dialect::OpenAi, &target("o3"), &none, false);
    assert_eq!((&least["reasoning_effort"], request.warnings.len()), (&json!("low"), 1));
    assert!(sent(Dialect::OpenAi, &target("gpt-4.1"), &none, false).1.warnings.is_empty());
}

#[test]
fn tools_and_their_choice_are_written() {
    let with = |dialect, mode, parallel| {
        let generation = asked(|g| {
            g.tools = vec![tool()];
            g.tool_choice.mode = mode;
            g.tool_choice.parallel = parallel;
        });
        sent(dialect, &target("m"), &generation, false)
    };
    let (auto, _) = with(Dialect::OpenAi, ToolMode::Auto, None);
    let function = json!({
        "name": "add", "description": "Adds.",
        "parameters": {"type": "object", "properties": {"x": {"type": "integer"}}},
    });
    assert_eq!(auto["tools"], json!([{"type": "function", "function": function}]));
    assert_eq!((auto.get("tool_choice"), auto.get("parallel_tool_calls")), (None, None));
    assert_eq!(with(Dialect::OpenAi, ToolMode::None, None).0["tool_choice"], "none");
    assert_eq!(with(Dialect::OpenAi, ToolMode::Required, None).0["tool_choice"], "required");
    assert_eq!(with(Dialect::Mistral, ToolMode::Required, None).0["tool_choice"], "any");
    let named = with(Dialect::OpenAi, ToolMode::Tool("add".into()), None).0;
    assert_eq!(named["tool_choice"], json!({"type": "function", "function": {"name": "add"}}));
    assert_eq!(with(Dialect::OpenAi, ToolMode::Auto, Some(false)).0["parallel_tool_calls"], false);
    let o_series = asked(|g| {
        g.tools = vec![tool()];
        g.tool_choice.parallel = Some(false);
    });
    let (o_series, request) = sent(Dialect::OpenAi, &target("o3"), &o_series, false);
    assert_eq!((o_series.get("parallel_tool_calls"), request.warnings.len()), (None, 1));
    let (deepseek, request) = with(Dialect::DeepSeek, ToolMode::Auto, Some(false));
    assert_eq!((deepseek.get("parallel_tool_calls"), request.warnings.len()), (None, 1));
}

#[test]
fn without_tools_nothing_is_said_of_them() {
    let generation = asked(|g| g.tool_choice.parallel = Some(false));
    let (body, request) = sent(Dialect::OpenAi, &target("m"), &generation, false);
    assert!(body.get("tools").is_none() && body.get("parallel_tool_calls").is_none() && request.warnings.is_empty());
}

#[test]
fn strict_schemas_are_made_strict_only_when_asked() {
    let with = |strict| {
        let generation = asked(|g| g.tools = vec![tutti_types::llm::Tool { strict, ..tool() }]);
        body(Dialect::OpenAi, &target("m"), &generation)["tools"][0]["function"].take()
    };
    assert_eq!((with(false).get("strict"), with(false)["parameters"].get("additionalProperties")), (None, None));
    let strict = with(true);
    assert_eq!(strict["strict"], true);
    assert_eq!(strict["parameters"]["additionalProperties"], false);
    assert_eq!(strict["parameters"]["properties"]["x"]["type"], json!(["integer", "null"]));
}

fn schema(strict: bool, schema: Value) -> Generation {
    asked(|g| g.format = Format::Schema(SchemaFormat { name: "answer".into(), schema, strict }))
}

#[test]
fn answer_schemas_are_sent_or_told_in_words() {
    let plain = json!({"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]});
    let sent_as = body(Dialect::OpenAi, &target("m"), &schema(false, plain.clone()))["response_format"].take();
    let wanted = json!({"type": "json_schema", "json_schema": {"name": "answer", "schema": plain, "strict": false}});
    assert_eq!(sent_as, wanted);
    let (told, request) = sent(Dialect::DeepSeek, &target("m"), &schema(true, plain), false);
    assert_eq!(told["response_format"], json!({"type": "json_object"}));
    assert!(told["messages"][0]["content"].as_str().unwrap().contains("\"properties\""), "{told}");
    assert_eq!(request.warnings.len(), 1);
}

#[test]
fn a_schema_that_cannot_be_enforced_says_so() {
    let open = json!({"type": "object", "additionalProperties": {"type": "string"}});
    let (body, request) = sent(Dialect::OpenAi, &target("m"), &schema(true, open.clone()), false);
    assert_eq!(body["response_format"]["json_schema"]["strict"], false);
    assert_eq!((&body["response_format"]["json_schema"]["schema"], request.warnings.len()), (&open, 1));
}

#[test]
fn a_json_answer_needs_the_word_in_the_prompt() {
    let json_asked = |text: &str| {
        let mut generation = generation(vec![user(text)]);
        generation.format = Format::Json;
        body(Dialect::OpenAi, &target("m"), &generation)["messages"].as_array().unwrap().len()
    };
    assert_eq!((json_asked("As Json, please"), json_asked("Hi")), (1, 2));
}

#[test]
fn the_credential_is_a_bearer_with_openais_own_headers() {
    let credential = Credential { key: Some("k"), organization: Some("o"), project: Some("p") };
    let headers = |dialect, credential| speaking(dialect).auth(&credential);
    let wanted =
        [("authorization", "Bearer k".to_owned()), ("openai-organization", "o".into()), ("openai-project", "p".into())];
    assert_eq!(headers(Dialect::OpenAi, credential), wanted);
    assert_eq!(headers(Dialect::Groq, credential), wanted[..1]);
    assert!(headers(Dialect::Vllm, Credential::default()).is_empty());
}

#[test]
fn embeddings_are_asked_for_where_there_are_some() {
    let asked = |dialect| speaking(dialect).embed(&["a".into(), "b".into()], Some(256), &target("e"));
    let read = |dialect| -> Value { serde_json::from_slice(&asked(dialect).unwrap().body.unwrap()).unwrap() };
    let openai = json!({"model": "e", "input": ["a", "b"], "encoding_format": "base64", "dimensions": 256});
    assert_eq!((read(Dialect::OpenAi), asked(Dialect::OpenAi).unwrap().path.as_str()), (openai, "/embeddings"));
    assert_eq!(read(Dialect::Mistral), json!({"model": "e", "input": ["a", "b"], "output_dimension": 256}));
    for dialect in [Dialect::Moonshot, Dialect::DeepSeek, Dialect::Groq] {
        assert_eq!(asked(dialect).unwrap_err().reason, Reason::Unsupported, "{dialect:?}");
    }
}

#[test]
fn probes_are_no_generation() {
    for dialect in ALL {
        let probe = speaking(dialect).probe(&target("m"));
        let path = if dialect == Dialect::OpenRouter { "/key" } else { "/models" };
        assert_eq!((probe.body, probe.path.as_str()), (None, path), "{dialect:?}");
    }
}
