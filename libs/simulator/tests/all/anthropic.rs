//! Messages in both API versions.

use serde_json::{Value, json};
use tutti_simulator::{Format, SimHandle};

use crate::support::{Reply, Request, chat, post, sim};

async fn ask(sim: &SimHandle, body: &Value) -> Reply {
    post(sim, Format::Anthropic, "/v1/messages", body).await
}

async fn ask_old(sim: &SimHandle, body: &Value) -> Reply {
    let request = Request::new("POST", "/v1/messages", &body.to_string());
    request.of(Format::Anthropic).header("anthropic-version", "2023-06-01").send(sim).await.unwrap()
}

fn with(model: &str, more: Value) -> Value {
    let mut body = json!({"model": model, "max_tokens": 4000,
        "messages": [{"role": "user", "content": "hi"}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn message(reply: &Reply) -> String {
    reply.json()["error"]["message"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_stream_has_the_real_events() {
    let sim = sim().await;
    let reply = chat(Format::Anthropic, true, "[[think a]][[say b]][[tool f {\"x\":1}]]").send(&sim).await.unwrap();
    let text = reply.text();
    let names: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    let expected = [
        "message_start",
        "ping",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ];
    assert_eq!(names, expected);
    let events = reply.events();
    assert!(events.iter().zip(&names).all(|(event, name)| event["type"] == *name));
    assert_eq!(events[14]["delta"]["stop_reason"], "tool_use");
    assert_eq!(events[14]["usage"]["output_tokens"], 5);
}

#[tokio::test]
async fn key_and_version_are_required() {
    let sim = sim().await;
    let request = chat(Format::Anthropic, false, "hi");
    let keyless = request.clone().without("x-api-key");
    assert_eq!(keyless.send(&sim).await.unwrap().json()["error"]["type"], "authentication_error");
    let bearer = keyless.header("authorization", "Bearer sim").send(&sim).await.unwrap();
    assert_eq!(bearer.status, 200);
    let versionless = request.without("anthropic-version").send(&sim).await.unwrap();
    assert_eq!((versionless.status, message(&versionless)), (400, "anthropic-version: header is required".into()));
}

#[tokio::test]
async fn sampling_depends_on_version_and_model() {
    let sim = sim().await;
    for model in ["claude-sonnet-4-5", "claude-opus-5-5"] {
        let reply = ask(&sim, &with(model, json!({"temperature": 1.0}))).await;
        assert_eq!(message(&reply), "temperature: Extra inputs are not permitted");
    }
    let warm = json!({"temperature": 0.5});
    assert_eq!(ask_old(&sim, &with("claude-sonnet-4-5", warm.clone())).await.status, 200);
    assert_eq!(ask_old(&sim, &with("claude-opus-5-5", warm)).await.status, 400);
    assert_eq!(ask_old(&sim, &with("claude-opus-5-5", json!({"temperature": 1.0}))).await.status, 200);
}

#[tokio::test]
async fn parameters_are_checked() {
    let sim = sim().await;
    let tool = json!({"name": "f", "input_schema": {"type": "object"}});
    let marked = json!({"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}});
    let cases = [
        (json!({"max_tokens": null}), "max_tokens: Field required"),
        (json!({"seed": 1}), "seed: Extra inputs are not permitted"),
        (json!({"messages": []}), "at least one message"),
        (json!({"messages": [{"role": "tool", "content": "x"}]}), "messages.0.role"),
        (json!({"messages": [{"role": "user", "content": [{"type": "text", "text": ""}]}]}), "non-empty"),
        (json!({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}), "prefill"),
        (json!({"tools": [{"name": "f"}]}), "input_schema: Field required"),
        (json!({"tools": [tool, tool]}), "unique"),
        (json!({"tool_choice": {"type": "any"}}), "while providing tools"),
        (json!({"tools": [tool], "tool_choice": {"type": "tool", "name": "g"}}), "Tool 'g' not found"),
        (json!({"thinking": {"type": "enabled", "budget_tokens": 2000}}), "adaptive"),
        (json!({"system": [marked, marked, marked, marked, marked]}), "maximum of 4 blocks"),
    ];
    for (more, text) in cases {
        let reply = ask(&sim, &with("claude-sonnet-5-5", more.clone())).await;
        assert!(reply.status == 400 && message(&reply).contains(text), "{more} {}", reply.text());
    }
    let small = json!({"thinking": {"type": "enabled", "budget_tokens": 5000}});
    let reply = ask(&sim, &with("claude-sonnet-4-5", small)).await;
    assert!(message(&reply).contains("must be greater than `thinking.budget_tokens`"));
}

fn step(assistant: Value, user: Value) -> Value {
    with(
        "claude-sonnet-5-5",
        json!({"messages": [{"role": "user", "content": "go"},
        {"role": "assistant", "content": assistant}, {"role": "user", "content": user}]}),
    )
}

fn result(id: &str) -> Value {
    json!({"type": "tool_result", "tool_use_id": id, "content": "42"})
}

#[tokio::test]
async fn tool_results_follow_their_calls_at_once() {
    let sim = sim().await;
    let calls = json!([{"type": "tool_use", "id": "a", "name": "f", "input": {}},
        {"type": "tool_use", "id": "b", "name": "g", "input": {}}]);
    let good = ask(&sim, &step(calls.clone(), json!([result("a"), result("b")]))).await.json();
    assert_eq!(good["content"][0]["text"], "f returned: 42\ng returned: 42");
    let late = json!([{"type": "text", "text": "well"}, result("a"), result("b")]);
    let cases = [
        (json!([result("a")]), "without `tool_result` blocks immediately after: b"),
        (late, "without `tool_result` blocks"),
        (json!([result("a"), result("b"), result("c")]), "unexpected `tool_use_id`"),
    ];
    for (user, text) in cases {
        let reply = ask(&sim, &step(calls.clone(), user)).await;
        assert!(reply.status == 400 && message(&reply).contains(text), "{}", reply.text());
    }
    let wrong = json!([{"type": "tool_use", "id": "a", "name": "f", "input": "{}"}]);
    assert!(message(&ask(&sim, &step(wrong, json!([result("a")]))).await).contains("valid dictionary"));
    let foreign = json!([{"type": "tool_use", "id": "a:b", "name": "f", "input": {}}]);
    assert!(message(&ask(&sim, &step(foreign, json!([result("a:b")]))).await).contains("match pattern"));
}

#[tokio::test]
async fn consecutive_user_messages_count_as_one_turn() {
    let sim = sim().await;
    let body = with(
        "claude-sonnet-5-5",
        json!({"messages": [{"role": "user", "content": "go"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "f", "input": {}},
            {"type": "tool_use", "id": "b", "name": "g", "input": {}}]},
        {"role": "user", "content": [result("a")]}, {"role": "user", "content": [result("b")]}]}),
    );
    assert_eq!(ask(&sim, &body).await.status, 200);
}

#[tokio::test]
async fn thoughts_must_come_back_unaltered() {
    let sim = sim().await;
    let first = chat(Format::Anthropic, false, "[[think deep]][[tool f]]").send(&sim).await.unwrap().json();
    let blocks = first["content"].clone();
    let id = blocks[1]["id"].as_str().unwrap().to_owned();
    let mut good = step(blocks.clone(), json!([result(&id)]));
    good["thinking"] = json!({"type": "adaptive"});
    assert_eq!(ask(&sim, &good).await.status, 200);
    let mut altered = good.clone();
    altered["messages"][1]["content"][0]["thinking"] = json!("shallow");
    assert!(message(&ask(&sim, &altered).await).contains("Invalid `signature` in `thinking` block"));
    let mut dropped = good.clone();
    dropped["messages"][1]["content"].as_array_mut().unwrap().remove(0);
    assert!(message(&ask(&sim, &dropped).await).contains("Expected `thinking`"));
    dropped["thinking"] = json!({"type": "disabled"});
    assert_eq!(ask(&sim, &dropped).await.status, 200);
}

#[tokio::test]
async fn models_and_counts_are_served() {
    let sim = sim().await;
    let models = Request::new("GET", "/v1/models?limit=2", "").of(Format::Anthropic).send(&sim).await.unwrap().json();
    assert_eq!((models["data"].as_array().unwrap().len(), &models["has_more"]), (2, &json!(true)));
    let after = models["last_id"].as_str().unwrap();
    let next = Request::new("GET", &format!("/v1/models?after_id={after}"), "").of(Format::Anthropic);
    assert_eq!(next.send(&sim).await.unwrap().json()["has_more"], false);
    let body = json!({"model": "claude-opus-5-5", "messages": [{"role": "user", "content": "12345678"}]});
    let counted = post(&sim, Format::Anthropic, "/v1/messages/count_tokens", &body).await.json();
    assert_eq!(counted["input_tokens"], 2);
}

#[tokio::test]
async fn a_warm_up_generates_nothing() {
    let sim = sim().await;
    let reply = ask(&sim, &with("claude-sonnet-5-5", json!({"max_tokens": 0}))).await.json();
    assert_eq!((&reply["content"], &reply["stop_reason"]), (&json!([]), &json!("max_tokens")));
}
