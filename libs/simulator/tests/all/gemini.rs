//! `generateContent` and its relatives.

use serde_json::{Value, json};
use tutti_simulator::{Format, SimHandle};

use crate::support::{Reply, Request, chat, post, sim};

const UNARY: &str = "/v1/models/gemini-3.8-flash:generateContent";

async fn ask(sim: &SimHandle, body: &Value) -> Reply {
    post(sim, Format::Gemini, UNARY, body).await
}

fn with(more: Value) -> Value {
    let mut body = json!({"contents": [{"role": "user", "parts": [{"text": "hi"}]}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn message(reply: &Reply) -> String {
    reply.json()["error"]["message"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_stream_is_framed_with_crlf_and_usage_is_cumulative() {
    let sim = sim().await;
    let reply = chat(Format::Gemini, true, "[[think hm]][[words 3]]").send(&sim).await.unwrap();
    assert!(reply.text().ends_with("\r\n\r\n") && !reply.text().contains("}\n\n"));
    let events = reply.events();
    let totals: Vec<_> =
        events.iter().map(|event| event["usageMetadata"]["candidatesTokenCount"].as_u64().unwrap_or(0)).collect();
    assert_eq!(totals, [0, 1, 2, 3, 3]);
    assert_eq!(events[0]["candidates"][0]["content"]["parts"][0]["thought"], true);
    let last = events.last().unwrap();
    assert_eq!(last["usageMetadata"]["thoughtsTokenCount"], 1);
    assert_eq!(last["candidates"][0]["finishReason"], "STOP");
    assert!(events[..4].iter().all(|event| event["candidates"][0].get("finishReason").is_none()));
}

#[tokio::test]
async fn without_alt_sse_the_stream_is_a_list() {
    let sim = sim().await;
    let path = "/v1beta/models/gemini-2.5-flash:streamGenerateContent";
    let reply = post(&sim, Format::Gemini, path, &with(json!({}))).await;
    assert_eq!(reply.headers["content-type"], "application/json; charset=UTF-8");
    assert_eq!(reply.json().as_array().unwrap().len(), 3);
    let refused = post(&sim, Format::Gemini, path, &json!({})).await;
    assert_eq!(refused.json()[0]["error"]["status"], "INVALID_ARGUMENT");
}

#[tokio::test]
async fn keys_come_by_header_or_query() {
    let sim = sim().await;
    let request = chat(Format::Gemini, false, "hi").without("x-goog-api-key");
    let missing = request.send(&sim).await.unwrap();
    assert_eq!((missing.status, &missing.json()["error"]["status"]), (403, &json!("PERMISSION_DENIED")));
    let wrong = request.header("x-goog-api-key", "invalid").send(&sim).await.unwrap();
    assert_eq!(wrong.json()["error"]["details"][0]["reason"], "API_KEY_INVALID");
    let by_query = Request::new("POST", &format!("{UNARY}?key=sim"), &with(json!({})).to_string());
    assert_eq!(by_query.send(&sim).await.unwrap().status, 200);
}

#[tokio::test]
async fn both_namings_are_understood_and_answers_are_camel_case() {
    let sim = sim().await;
    for more in
        [json!({"generation_config": {"max_output_tokens": 1}}), json!({"generationConfig": {"maxOutputTokens": 1}})]
    {
        let answer = ask(&sim, &with(more)).await.json();
        assert_eq!(answer["candidates"][0]["finishReason"], "MAX_TOKENS");
    }
}

#[tokio::test]
async fn parameters_are_checked() {
    let sim = sim().await;
    let closed = json!({"type": "object", "additionalProperties": false});
    let cases = [
        (json!({"colour": 1}), "Unknown name \"colour\""),
        (json!({"generationConfig": {"colour": 1}}), "at 'generation_config'"),
        (json!({"contents": []}), "contents is not specified"),
        (json!({"contents": [{"role": "system", "parts": [{"text": "x"}]}]}), "valid role"),
        (json!({"contents": [{"role": "user", "parts": [{"image": "x"}]}]}), "Unknown name \"image\""),
        (json!({"contents": [{"role": "user", "parts": []}]}), "must not be empty"),
        (json!({"generationConfig": {"temperature": 3}}), "temperature must be in the range"),
        (json!({"generationConfig": {"responseSchema": {"type": "OBJECT"}}}), "mime type"),
        (
            json!({"tools": [{"functionDeclarations": [{"name": "f", "parameters": closed}]}]}),
            "Unknown name \"additionalProperties\"",
        ),
        (json!({"tools": [{"functionDeclarations": [{"name": "9 f"}]}]}), "Invalid function name"),
        (json!({"generationConfig": {"thinkingConfig": {"thinkingBudget": 1, "thinkingLevel": "LOW"}}}), "only one"),
    ];
    for (more, text) in cases {
        let reply = ask(&sim, &with(more.clone())).await;
        assert!(reply.status == 400 && message(&reply).contains(text), "{more} {}", reply.text());
    }
    let open = json!({"tools": [{"functionDeclarations": [{"name": "f", "parametersJsonSchema": closed}]}]});
    assert_eq!(ask(&sim, &with(open)).await.status, 200);
}

fn step(call: Value, result: Value) -> Value {
    json!({"contents": [{"role": "user", "parts": [{"text": "go"}]},
        {"role": "model", "parts": call}, {"role": "user", "parts": result}]})
}

fn result(name: &str) -> Value {
    json!({"functionResponse": {"name": name, "response": {"output": "42"}}})
}

#[tokio::test]
async fn the_first_call_of_a_step_keeps_its_signature() {
    let sim = sim().await;
    let first = chat(Format::Gemini, false, "[[tool f]][[tool g]]").send(&sim).await.unwrap().json();
    let parts = first["candidates"][0]["content"]["parts"].clone();
    assert!(parts[0].get("thoughtSignature").is_some() && parts[1].get("thoughtSignature").is_none());
    let good = step(parts, json!([result("f"), result("g")]));
    let answer = ask(&sim, &good).await.json();
    assert_eq!(answer["candidates"][0]["content"]["parts"][0]["text"], "f returned: 42\ng returned: 42");
    let signed = |signature: Value| {
        let mut body = good.clone();
        body["contents"][1]["parts"][0]["thoughtSignature"] = signature;
        body
    };
    assert!(message(&ask(&sim, &signed(json!(""))).await).contains("missing a thought_signature"));
    assert!(message(&ask(&sim, &signed(json!("bm9uc2Vuc2U="))).await).contains("not valid"));
    assert_eq!(ask(&sim, &signed(json!("skip_thought_signature_validator"))).await.status, 200);
    let older = "/v1/models/gemini-2.5-flash:generateContent";
    assert_eq!(post(&sim, Format::Gemini, older, &signed(json!(""))).await.status, 200);
}

#[tokio::test]
async fn results_match_their_calls() {
    let sim = sim().await;
    let call = json!([{"functionCall": {"name": "f", "args": {}},
        "thoughtSignature": "skip_thought_signature_validator"}]);
    let two = step(call.clone(), json!([result("f"), result("f")]));
    assert!(message(&ask(&sim, &two).await).contains("number of function response parts"));
    let orphan = json!({"contents": [{"role": "user", "parts": [result("f")]}]});
    assert!(message(&ask(&sim, &orphan).await).contains("immediately after a function call turn"));
    let text = json!([{"functionResponse": {"name": "f", "response": "42"}}]);
    assert!(message(&ask(&sim, &step(call, text)).await).contains("google.protobuf.Struct"));
}

#[tokio::test]
async fn a_streamed_call_comes_whole_before_the_finish() {
    let sim = sim().await;
    let events = chat(Format::Gemini, true, "[[tool f {\"x\":1}]]").send(&sim).await.unwrap().events();
    let first = &events[0]["candidates"][0];
    assert_eq!(first["content"]["parts"][0]["functionCall"]["args"], json!({"x": 1}));
    assert!(first.get("finishReason").is_none());
    assert_eq!(events[1]["candidates"][0]["finishReason"], "STOP");
    let sent = sim.requests().pop().unwrap();
    assert_eq!(sent.output_tokens_sent, sent.output_tokens);
}

#[tokio::test]
async fn embeddings_models_and_counts_are_served() {
    let sim = sim().await;
    let base = "/v1beta/models/gemini-embedding-001";
    let content = json!({"parts": [{"text": "a cat"}]});
    let one = json!({"content": content, "outputDimensionality": 8});
    let single = post(&sim, Format::Gemini, &format!("{base}:embedContent"), &one).await.json();
    assert_eq!(single["embedding"]["values"].as_array().unwrap().len(), 8);
    let many = json!({"requests": [{"model": "models/x", "content": content}, {"content": content}]});
    let batch = post(&sim, Format::Gemini, &format!("{base}:batchEmbedContents"), &many).await.json();
    assert_eq!(batch["embeddings"].as_array().unwrap().len(), 2);
    let models = Request::new("GET", "/v1beta/models?pageSize=2", "").of(Format::Gemini).send(&sim).await.unwrap();
    assert_eq!(models.json()["nextPageToken"], "2");
    let counted = post(&sim, Format::Gemini, &format!("{base}:countTokens"), &with(json!({}))).await.json();
    assert_eq!(counted["totalTokens"], 1);
}
