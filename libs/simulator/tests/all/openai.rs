//! Chat Completions and its dialects.

use serde_json::{Value, json};
use tutti_simulator::{Format, SimHandle};

use crate::support::{Reply, Request, chat, post, sim};

async fn ask(sim: &SimHandle, body: Value) -> Reply {
    post(sim, Format::OpenAi, "/v1/chat/completions", &body).await
}

fn with(model: &str, more: Value) -> Value {
    let mut body = json!({"model": model, "messages": [{"role": "user", "content": "hi"}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

async fn refusal(sim: &SimHandle, body: Value) -> Value {
    let reply = ask(sim, body).await;
    assert_eq!(reply.status, 400, "{}", reply.text());
    reply.json()["error"].clone()
}

#[tokio::test]
async fn a_stream_has_the_real_order() {
    let sim = sim().await;
    let more = json!({"stream": true, "stream_options": {"include_usage": true}});
    let reply = ask(&sim, with("gpt-5.4", more)).await;
    assert_eq!(reply.headers["content-type"], "text/event-stream; charset=utf-8");
    assert!(reply.text().ends_with("data: [DONE]\n\n"));
    let events = reply.events();
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    let (last, before) = events.split_last().unwrap();
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["completion_tokens"], 2);
    assert!(before.iter().all(|event| event.get("usage") == Some(&Value::Null)));
    assert_eq!(before.last().unwrap()["choices"][0]["finish_reason"], "stop");
    assert!(events.iter().all(|event| event["id"] == last["id"] && event["system_fingerprint"] == "sim"));
}

#[tokio::test]
async fn several_choices_interleave() {
    let sim = sim().await;
    let events = ask(&sim, with("gpt-4.1", json!({"stream": true, "n": 2}))).await.events();
    let indices: Vec<_> = events.iter().map(|event| event["choices"][0]["index"].as_u64().unwrap()).collect();
    assert_eq!(indices[..4], [0, 1, 0, 1]);
    let unary = ask(&sim, with("gpt-4.1", json!({"n": 2}))).await.json();
    assert_eq!(unary["choices"].as_array().unwrap().len(), 2);
    assert_eq!(unary["usage"]["completion_tokens"], 4);
}

#[tokio::test]
async fn keys_and_bodies_are_checked_first() {
    let sim = sim().await;
    let request = chat(Format::OpenAi, false, "hi");
    let missing = request.clone().without("authorization").send(&sim).await.unwrap();
    assert_eq!((missing.status, &missing.json()["error"]["code"]), (401, &Value::Null));
    let wrong = request.header("authorization", "Bearer invalid").send(&sim).await.unwrap();
    assert_eq!((wrong.status, &wrong.json()["error"]["code"]), (401, &json!("invalid_api_key")));
    let broken = Request::new("POST", "/v1/chat/completions", "{").of(Format::OpenAi).send(&sim).await.unwrap();
    assert!(broken.status == 400 && broken.text().contains("could not parse"));
}

#[tokio::test]
async fn reasoning_models_refuse_what_they_refuse() {
    let sim = sim().await;
    for model in ["o1", "o3-mini", "gpt-5.4", "gpt-6-sol"] {
        let error = refusal(&sim, with(model, json!({"max_tokens": 5}))).await;
        assert_eq!((&error["code"], &error["param"]), (&json!("unsupported_parameter"), &json!("max_tokens")));
        assert_eq!(refusal(&sim, with(model, json!({"temperature": 0.2}))).await["code"], "unsupported_value");
        assert_eq!(ask(&sim, with(model, json!({"temperature": 1}))).await.status, 200);
    }
    for model in ["gpt-4.1", "sim-echo", "kimi-k3"] {
        assert_eq!(ask(&sim, with(model, json!({"max_tokens": 5, "temperature": 0.2}))).await.status, 200);
    }
}

#[tokio::test]
async fn parameters_are_checked() {
    let sim = sim().await;
    let strict = json!({"type": "json_schema", "json_schema": {"name": "x", "strict": true,
        "schema": {"type": "object", "properties": {"a": {"type": "string"}}}}});
    let nameless = json!([{"type": "function", "function": {"name": "no spaces"}}]);
    let cases = [
        (json!({"colour": "red"}), "Unknown parameter: 'colour'"),
        (json!({"messages": []}), "empty array"),
        (json!({"messages": [{"role": "robot", "content": "x"}]}), "Invalid value: 'robot'"),
        (json!({"messages": [{"role": "user"}]}), "expected a string, got null"),
        (json!({"temperature": 3}), "above maximum"),
        (json!({"stream_options": {}}), "only allowed when 'stream' is enabled"),
        (json!({"stop": ["a", "b", "c", "d", "e"]}), "maximum length 4"),
        (json!({"tools": []}), "empty array"),
        (json!({"tools": nameless}), "does not match pattern"),
        (json!({"tool_choice": "required"}), "only allowed when 'tools' are specified"),
        (json!({"response_format": {"type": "json_object"}}), "must contain the word 'json'"),
        (json!({"response_format": strict}), "additionalProperties"),
        (json!({"max_tokens": 5, "max_completion_tokens": 5}), "at the same time"),
    ];
    for (more, text) in cases {
        let error = refusal(&sim, with("gpt-4.1", more.clone())).await;
        assert!(error["message"].as_str().unwrap().contains(text), "{more} {error}");
    }
    let tolerant = with("some-model", json!({"colour": "red"}));
    assert_eq!(ask(&sim, tolerant).await.status, 200, "compatible servers ignore what they do not know");
}

fn call(id: &str, more: Value) -> Value {
    let mut message = json!({"role": "assistant", "tool_calls": [
        {"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}}]});
    message.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    message
}

fn step(model: &str, call: Value, result_id: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "go"}, call,
        {"role": "tool", "tool_call_id": result_id, "content": "42"}]})
}

#[tokio::test]
async fn tool_results_must_match_their_calls() {
    let sim = sim().await;
    let good = ask(&sim, step("gpt-5.4", call("a", json!({})), "a")).await.json();
    assert_eq!(good["choices"][0]["message"]["content"], "f returned: 42");
    let other = refusal(&sim, step("gpt-5.4", call("a", json!({})), "b")).await;
    assert!(other["message"].as_str().unwrap().contains("not found in 'tool_calls'"));
    let mut unanswered = step("gpt-5.4", call("a", json!({})), "a");
    unanswered["messages"].as_array_mut().unwrap().pop();
    let error = refusal(&sim, unanswered).await;
    assert!(error["message"].as_str().unwrap().contains("did not have response messages: a"));
}

#[tokio::test]
async fn mistral_wants_nine_characters() {
    let sim = sim().await;
    let error = refusal(&sim, step("mistral-large-2512", call("call_1", json!({})), "call_1")).await;
    assert_eq!(error["code"], "3280");
    let good = step("mistral-large-2512", call("abcdefg12", json!({})), "abcdefg12");
    assert_eq!(ask(&sim, good).await.status, 200);
    let made = ask(
        &sim,
        json!({"model": "mistral-large-2512",
        "messages": [{"role": "user", "content": "[[think so]][[tool f]]"}]}),
    )
    .await
    .json();
    let message = &made["choices"][0]["message"];
    assert_eq!(message["tool_calls"][0]["id"].as_str().unwrap().len(), 9);
    assert_eq!(message["content"][0]["type"], "thinking");
}

#[tokio::test]
async fn reasoning_must_come_back_with_its_calls() {
    let sim = sim().await;
    for model in ["deepseek-v4-pro", "kimi-k3"] {
        let made = ask(&sim, json!({"model": model, "messages": [{"role": "user", "content": "[[tool f]]"}]})).await;
        let message = made.json()["choices"][0]["message"].clone();
        let id = message["tool_calls"][0]["id"].as_str().unwrap().to_owned();
        assert!(!message["reasoning_content"].as_str().unwrap().is_empty());
        assert_eq!(ask(&sim, step(model, message.clone(), &id)).await.status, 200);
        for lost in [json!(""), Value::Null] {
            let mut forgetful = message.clone();
            forgetful["reasoning_content"] = lost;
            let error = refusal(&sim, step(model, forgetful, &id)).await;
            assert!(error["message"].as_str().unwrap().contains("reasoning_content"), "{error}");
        }
        let foreign = call("other", json!({"reasoning_content": ""}));
        assert_eq!(ask(&sim, step(model, foreign, "other")).await.status, 200);
    }
}

#[tokio::test]
async fn dialects_differ_in_reasoning_and_usage() {
    let sim = sim().await;
    let thought = async |model: &str| {
        let body = json!({"model": model, "messages": [{"role": "user", "content": "[[think hm]]hi"}]});
        ask(&sim, body).await.json()
    };
    assert_eq!(thought("gpt-oss-120b").await["choices"][0]["message"]["reasoning"], "hm");
    let hidden = thought("gpt-5.4").await;
    assert!(hidden["choices"][0]["message"].get("reasoning_content").is_none());
    assert_eq!(hidden["usage"]["completion_tokens_details"]["reasoning_tokens"], 1);
    let deepseek = thought("deepseek-v4-flash").await["usage"].clone();
    assert_eq!(deepseek["prompt_cache_miss_tokens"], deepseek["prompt_tokens"]);
    let kimi = ask(&sim, with("kimi-k3", json!({"stream": true}))).await.events();
    let last = kimi.last().unwrap();
    assert_eq!(last["choices"][0]["usage"], last["usage"]);
}

#[tokio::test]
async fn rounds_and_loops_script_the_tool_loop() {
    let sim = sim().await;
    let prompt = "[[tool f]][[next]][[tool g]]";
    let mut messages = vec![json!({"role": "user", "content": prompt})];
    let mut called = Vec::new();
    for _ in 0..3 {
        let reply = ask(&sim, json!({"model": "gpt-5.4", "messages": messages})).await.json();
        let message = reply["choices"][0]["message"].clone();
        messages.push(message.clone());
        for call in message["tool_calls"].as_array().into_iter().flatten() {
            called.push(call["function"]["name"].clone());
            messages.push(json!({"role": "tool", "tool_call_id": call["id"], "content": "ok"}));
        }
    }
    assert_eq!(called, ["f", "g"]);
    assert_eq!(messages.last().unwrap()["content"], "g returned: ok");
}

#[tokio::test]
async fn the_system_prompt_and_history_can_be_seen() {
    let sim = sim().await;
    let body = |text: &str| {
        json!({"model": "gpt-5.4", "messages": [
        {"role": "system", "content": "be kind"}, {"role": "user", "content": text}]})
    };
    let said = async |text: &str| ask(&sim, body(text)).await.json()["choices"][0]["message"]["content"].clone();
    assert_eq!(said("[[system]]").await, "be kind");
    assert_eq!(said("[[history]]").await, "system: be kind\nuser: <<history>>");
}
