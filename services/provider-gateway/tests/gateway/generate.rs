//! `Generate` and `Embed` when all goes well, and what is refused before anything is paid.

use tonic::Code;
use tutti_error::Reason;
use tutti_proto::{
    gateway::v1::{EmbedRequest, GenerateRequest},
    ledger::v1::TokenCounts,
    llm::v1::{AttemptOutcome, FinishReason, ResponseFormat, RunLimits, Sampling, Tool, response_format::Kind},
};
use tutti_types::{TokenCounts as Tokens, UnitPrices};

use crate::support::{FORMATS, World, ask, reason, user};

#[tokio::test]
async fn every_format_answers_and_is_settled_as_told() {
    for backend in FORMATS {
        let world = World::start().await;
        let answer = world.generate(ask(backend, "[[say four words are here]]")).await.unwrap();
        assert_eq!(answer.message.as_ref().unwrap().text, "four words are here", "{backend}");
        assert_eq!(answer.finish_reason(), FinishReason::Stop);
        assert_eq!((answer.backend.as_str(), answer.provider.as_str()), (backend, backend));
        let [attempt] = &answer.attempts[..] else { panic!("{:?}", answer.attempts) };
        assert_eq!(attempt.outcome(), AttemptOutcome::Ok);
        let seen = world.sim.request(&attempt.attempt_id).expect("sent upstream by its id");
        let usage = answer.usage.unwrap();
        assert_eq!(usage.input_tokens as u64, seen.input_tokens, "{backend}");
        assert_eq!(usage.output_tokens as u64, seen.output_tokens, "{backend}");
        assert!(!usage.estimated);
        let settled = world.ledger.only_settlement().await;
        assert_eq!(settled.attempt_id, attempt.attempt_id);
        assert_eq!(settled.outcome(), AttemptOutcome::Ok);
        assert_eq!(settled.finish_reason(), FinishReason::Stop);
        let used = settled.used.unwrap();
        assert_eq!((used.fresh_input, used.visible_output), (usage.input_tokens, usage.output_tokens));
        assert!(!settled.tokens_estimated);
    }
}

#[tokio::test]
async fn the_cost_is_what_the_ledger_will_book() {
    let world = World::start().await;
    let answer = world.generate(ask("openai", "hello")).await.unwrap();
    let settled = world.ledger.only_settlement().await;
    let (reserve, scope) = world.ledger.books().reserved[&settled.attempt_id].clone();
    let prices = UnitPrices::from(reserve.prices.unwrap());
    assert_eq!((prices.input, prices.output), (2_500_000_000, 10_000_000_000));
    assert_eq!(answer.usage.unwrap().cost_nano_usd, prices.cost(&Tokens::from(&settled.used.unwrap())).0);
    assert_eq!(scope.org, "default");
    let worst = reserve.worst_case.unwrap();
    assert_eq!(worst.visible_output, 4096, "the cap that was sent");
    assert!(worst.fresh_input >= settled.used.unwrap().fresh_input);
    assert!(settled.prices.is_none(), "the same as reserved");
}

#[tokio::test]
async fn the_output_cap_is_always_sent_and_never_above_the_models() {
    let world = World::start().await;
    let body = |answer: tutti_proto::gateway::v1::GenerateResponse| {
        let seen = world.sim.request(&answer.attempts[0].attempt_id).unwrap();
        serde_json::from_str::<serde_json::Value>(&seen.body.unwrap()).unwrap()
    };
    let plain = world.generate(ask("openai", "hi")).await.unwrap();
    assert!(body(plain).to_string().contains("4096"));
    let sampling = Sampling { max_output_tokens: Some(1_000_000), ..Default::default() };
    let greedy = world.generate(GenerateRequest { sampling: Some(sampling), ..ask("openai", "hi") }).await.unwrap();
    assert!(greedy.warnings.iter().any(|warning| warning.contains("16384")), "{:?}", greedy.warnings);
    assert!(body(greedy).to_string().contains("16384"));
}

#[tokio::test]
async fn keys_take_turns_and_are_never_shown() {
    let world = World::start().await;
    for _ in 0..2 {
        world.generate(ask("openai", "hi")).await.unwrap();
    }
    let mut credentials: Vec<_> =
        world.ledger.books().reserved.values().map(|(reserve, _)| reserve.credential.clone()).collect();
    credentials.sort();
    assert_eq!(credentials, ["openai/sk-…abcd", "openai/sk-…efgh"]);
}

#[tokio::test]
async fn the_raw_body_comes_only_when_asked_for() {
    let world = World::start().await;
    assert!(world.generate(ask("openai", "hi")).await.unwrap().raw.is_empty());
    let raw = world.generate(GenerateRequest { include_raw: true, ..ask("openai", "hi") }).await.unwrap().raw;
    let raw: serde_json::Value = serde_json::from_str(&raw).unwrap();
    assert_eq!(raw["object"], "chat.completion");
}

#[tokio::test]
async fn tools_are_called_and_checked() {
    let world = World::start().await;
    let tool = Tool {
        name: "add".into(),
        parameters_json: r#"{"type":"object","required":["x"],"properties":{"x":{"type":"integer"}}}"#.into(),
        ..Default::default()
    };
    let call = |strict, arguments: &str| GenerateRequest {
        tools: vec![Tool { strict, ..tool.clone() }],
        ..ask("openai", &format!("[[tool add {arguments}]]"))
    };
    let good = world.generate(call(true, r#"{"x": 4}"#)).await.unwrap();
    assert_eq!(good.finish_reason(), FinishReason::ToolCalls);
    assert_eq!(good.message.unwrap().tool_calls[0].name, "add");
    // Only a strict tool promises its schema; what is wrong with another's call is for its owner to say.
    world.generate(call(false, r#"{"x": "four"}"#)).await.unwrap();
    let bad = world.generate(call(true, r#"{"x": "four"}"#)).await.unwrap_err();
    assert_eq!((reason(&bad), bad.code()), (Reason::MalformedOutput, Code::Unavailable));
    world.ledger.balanced().await;
    // What came was paid.
    let failed = world.ledger.books().settled.iter().find(|s| s.reason() == Reason::MalformedOutput).cloned().unwrap();
    assert!(failed.used.unwrap().fresh_input > 0);
}

#[tokio::test]
async fn an_answer_that_breaks_its_schema_is_malformed() {
    let world = World::start().await;
    let format = ResponseFormat {
        kind: Kind::JsonSchema.into(),
        schema_json: r#"{"type":"object","required":["age"],"properties":{"age":{"type":"integer"}}}"#.into(),
        ..Default::default()
    };
    let ask_for = |text: &str| GenerateRequest { response_format: Some(format.clone()), ..ask("openai", text) };
    let good = world.generate(ask_for("how old?")).await.unwrap();
    assert!(good.message.unwrap().text.contains("age"));
    let bad = world.generate(ask_for(r#"[[say {"age": "old"}]]"#)).await.unwrap_err();
    assert_eq!(reason(&bad), Reason::MalformedOutput);
    assert_eq!(tutti_error::attempts_of(&bad).len(), 1);
}

#[tokio::test]
async fn what_is_wrong_is_refused_before_anything_is_paid() {
    let world = World::start().await;
    let limits = RunLimits { max_cost_nano_usd: 1, ..Default::default() };
    let bad_id = GenerateRequest { request_id: "7".into(), ..ask("openai", "hi") };
    let no_message = GenerateRequest { messages: Vec::new(), ..ask("openai", "hi") };
    let empty = GenerateRequest { messages: vec![user("")], ..ask("openai", "hi") };
    let dear = GenerateRequest { limits: Some(limits), ..ask("openai", "hi") };
    let cases = [
        (ask("", "hi"), Reason::InvalidRequest, Code::InvalidArgument),
        (ask("opnai", "hi"), Reason::UnknownBackend, Code::NotFound),
        (ask("locked", "hi"), Reason::BackendNotUsable, Code::FailedPrecondition),
        (bad_id, Reason::InvalidRequest, Code::InvalidArgument),
        (no_message, Reason::InvalidRequest, Code::InvalidArgument),
        (empty, Reason::InvalidRequest, Code::InvalidArgument),
        (dear, Reason::BudgetExceeded, Code::ResourceExhausted),
    ];
    for (request, expected, code) in cases {
        let status = world.generate(request.clone()).await.unwrap_err();
        assert_eq!((reason(&status), status.code()), (expected, code), "{status:?}");
        let (events, ended) = world.stream(request).await;
        assert_eq!((events.len(), reason(&ended.unwrap_err())), (0, expected));
    }
    let near = world.generate(ask("opnai", "hi")).await.unwrap_err();
    assert!(near.message().contains("openai"), "{}", near.message());
    assert!(world.ledger.books().reserved.is_empty());
    assert_eq!(world.sim.stats().requests, 0);
}

#[tokio::test]
async fn embeddings_come_in_order_and_are_settled() {
    for backend in ["openai", "gemini", "ollama", "simulator"] {
        let world = World::start().await;
        let request = EmbedRequest {
            backend: backend.into(),
            inputs: vec!["one".into(), "two".into(), "one".into()],
            ..Default::default()
        };
        let answer = world.client.clone().embed(request).await.unwrap().into_inner();
        assert_eq!(answer.embeddings.len(), 3, "{backend}");
        assert_eq!(answer.embeddings[0], answer.embeddings[2], "{backend}");
        assert_ne!(answer.embeddings[0], answer.embeddings[1], "{backend}");
        let settled = world.ledger.only_settlement().await;
        let used = settled.used.unwrap();
        assert_eq!(used, TokenCounts { fresh_input: used.fresh_input, ..Default::default() });
        assert!(used.fresh_input > 0);
    }
}

#[tokio::test]
async fn wrong_embedding_requests_are_refused() {
    let world = World::start().await;
    let embed = async |backend: &str, inputs: Vec<String>| {
        let request = EmbedRequest { backend: backend.into(), inputs, ..Default::default() };
        world.client.clone().embed(request).await.unwrap_err()
    };
    assert!(embed("openai", Vec::new()).await.message().contains("inputs"));
    assert!(embed("openai", vec!["a".into(), String::new()]).await.message().contains("inputs[1]"));
    assert_eq!(reason(&embed("openai", vec!["a".into(); 2049]).await), Reason::InvalidRequest);
    assert_eq!(reason(&embed("anthropic", vec!["a".into()]).await), Reason::Unsupported);
    assert_eq!(reason(&embed("nobody", vec!["a".into()]).await), Reason::UnknownBackend);
    assert!(world.ledger.books().reserved.is_empty());
}
