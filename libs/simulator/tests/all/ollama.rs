//! Ollama's native API.

use serde_json::{Value, json};
use tutti_simulator::{Format, SimHandle};

use crate::support::{Reply, Request, chat, post, sim};

async fn ask(sim: &SimHandle, more: Value) -> Reply {
    let mut body = json!({"model": "qwen3:8b", "stream": false,
        "messages": [{"role": "user", "content": "hi"}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    post(sim, Format::Ollama, "/api/chat", &body).await
}

#[tokio::test]
async fn streaming_is_the_default_and_ends_with_the_counters() {
    let sim = sim().await;
    let body = json!({"model": "qwen3:8b", "messages": [{"role": "user", "content": "hi"}]});
    let reply = post(&sim, Format::Ollama, "/api/chat", &body).await;
    assert_eq!(reply.headers["content-type"], "application/x-ndjson");
    let lines = reply.lines();
    let (last, before) = lines.split_last().unwrap();
    assert!(before.iter().all(|line| line["done"] == false));
    assert_eq!((&last["done"], &last["done_reason"]), (&json!(true), &json!("stop")));
    assert_eq!((&last["prompt_eval_count"], &last["eval_count"]), (&json!(1), &json!(2)));
}

#[tokio::test]
async fn calls_come_whole_and_the_last_line_has_none() {
    let sim = sim().await;
    let reply = chat(Format::Ollama, true, "[[think a]][[tool f {\"x\":1}]][[tool g]]").send(&sim).await.unwrap();
    let lines = reply.lines();
    assert_eq!(lines[0]["message"]["thinking"], "a");
    let call = &lines[1]["message"]["tool_calls"][0];
    assert_eq!(call["function"], json!({"index": 0, "name": "f", "arguments": {"x": 1}}));
    assert_eq!(lines[2]["message"]["tool_calls"][0]["function"]["index"], 1);
    assert_eq!(lines[3]["done_reason"], "stop");
}

#[tokio::test]
async fn requests_are_checked() {
    let sim = sim().await;
    let text_args = json!([{"role": "assistant", "content": "",
        "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}]);
    let prefixed = json!([{"role": "user", "content": "x", "images": ["data:image/png;base64,AA=="]}]);
    let cases = [
        (json!({"model": ""}), "model is required"),
        (json!({"messages": [{"role": "robot", "content": "x"}]}), "invalid role"),
        (json!({"messages": text_args}), "cannot unmarshal string"),
        (json!({"messages": prefixed}), "illegal base64 data at input byte 4"),
        (json!({"model": "llama3.3", "think": true}), "\"llama3.3\" does not support thinking"),
        (json!({"format": "xml"}), "invalid format"),
    ];
    for (more, text) in cases {
        let reply = ask(&sim, more.clone()).await;
        let error = reply.json()["error"].as_str().unwrap_or_default().to_owned();
        assert!(reply.status == 400 && error.contains(text), "{more} {}", reply.text());
    }
    assert_eq!(ask(&sim, json!({"model": "no-such-model"})).await.status, 404);
    assert_eq!(ask(&sim, json!({"colour": "red"})).await.status, 200);
}

#[tokio::test]
async fn options_hold() {
    let sim = sim().await;
    let cut = ask(&sim, json!({"options": {"num_predict": 1}})).await.json();
    assert_eq!((&cut["done_reason"], &cut["eval_count"]), (&json!("length"), &json!(1)));
    let whole = ask(&sim, json!({"options": {"num_predict": -1}})).await.json();
    assert_eq!(whole["done_reason"], "stop");
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}});
    assert_eq!(ask(&sim, json!({"format": schema})).await.json()["message"]["content"], "{\"n\":1}");
    let load = ask(&sim, json!({"messages": []})).await.json();
    assert_eq!((&load["done_reason"], load.get("eval_count")), (&json!("load"), None));
}

#[tokio::test]
async fn results_without_names_belong_to_the_calls_in_order() {
    let sim = sim().await;
    let messages = json!([{"role": "user", "content": "go"},
        {"role": "assistant", "content": "", "tool_calls": [
            {"function": {"name": "f", "arguments": {}}}, {"function": {"name": "g", "arguments": {}}}]},
        {"role": "tool", "content": "1"}, {"role": "tool", "content": "2"}]);
    let answer = ask(&sim, json!({"messages": messages})).await.json();
    assert_eq!(answer["message"]["content"], "f returned: 1\ng returned: 2");
}

#[tokio::test]
async fn embeddings_and_lists_are_served() {
    let sim = sim().await;
    let body = json!({"model": "nomic-embed-text", "input": ["a cat", "a dog"], "dimensions": 16});
    let answer = post(&sim, Format::Ollama, "/api/embed", &body).await.json();
    assert_eq!(answer["embeddings"][1].as_array().unwrap().len(), 16);
    assert_eq!(answer["prompt_eval_count"], 4);
    let tags = Request::new("GET", "/api/tags", "").send(&sim).await.unwrap().json();
    assert!(tags["models"].as_array().unwrap().iter().any(|model| model["name"] == "qwen3:8b"));
    let version = Request::new("GET", "/api/version", "").send(&sim).await.unwrap().json();
    assert!(version["version"].is_string());
    let shown = post(&sim, Format::Ollama, "/api/show", &json!({"model": "qwen3:8b"})).await.json();
    assert_eq!(shown["capabilities"], json!(["completion", "tools", "thinking"]));
}
