use std::time::Duration;

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tower::ServiceExt as _;
use tutti_server::ServeOptions;

use crate::{
    http::{Door, body},
    mesh::Mesh,
};

const PATIENCE: Duration = Duration::from_secs(30);
const CHAT: &str = "POST /v1/chat/completions HTTP/1.1\r\n";

#[tokio::test]
async fn a_chat_is_answered_in_openais_form() {
    let mesh = Mesh::start().await;
    let answer = Door::open(&mesh).await.chat("hello", json!({"user": "ann"})).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let said = answer.json();
    assert_eq!(said["object"], "chat.completion");
    assert_eq!(said["choices"][0]["message"]["content"], "echo: hello");
    assert_eq!(said["choices"][0]["finish_reason"], "stop");
    assert_eq!(said["tutti"]["cost_nano_usd"], 7);
    assert_eq!(said["id"], format!("chatcmpl-{}", answer.header("x-request-id").unwrap()));
    assert_eq!((answer.header("x-tutti-backend"), answer.header("x-tutti-attempts")), (Some("claude"), Some("1")));
    let asked = mesh.seen.generated.lock().unwrap();
    assert_eq!(asked[0].attribution.as_ref().unwrap().tags["user"], "ann");
    assert_eq!(said["id"], format!("chatcmpl-{}", asked[0].request_id));
}

#[tokio::test]
async fn a_stream_begins_with_the_role_and_ends_with_the_usage_and_the_mark() {
    let mesh = Mesh::start().await;
    let more = json!({"stream": true, "stream_options": {"include_usage": true}});
    let answer = Door::open(&mesh).await.chat("one two", more).await;
    assert_eq!(answer.header("content-type"), Some("text/event-stream; charset=utf-8"));
    assert_eq!(answer.header("x-tutti-backend"), Some("claude"));
    let mut events = answer.events();
    assert_eq!(events.pop(), Some("[DONE]"));
    let chunks: Vec<Value> = events.iter().map(|event| serde_json::from_str(event).unwrap()).collect();
    let (last, said) = chunks.split_last().unwrap();
    assert_eq!(said[0]["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
    let text: String = said.iter().filter_map(|c| c["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, "echo: one two");
    let finish = &said[said.len() - 1];
    assert_eq!((&finish["choices"][0]["finish_reason"], &finish["choices"][0]["delta"]), (&"stop".into(), &json!({})));
    assert_eq!(finish["tutti"]["backend"], "claude");
    assert!(said.iter().all(|chunk| chunk["usage"].is_null() && chunk["object"] == "chat.completion.chunk"));
    assert!(chunks.iter().all(|chunk| chunk["id"] == chunks[0]["id"] && chunk["model"] == "claude-model"));
    assert_eq!((&last["choices"], &last["usage"]["completion_tokens"]), (&json!([]), &json!(0)));
}

#[tokio::test]
async fn usage_is_streamed_only_to_those_who_ask() {
    let mesh = Mesh::start().await;
    let answer = Door::open(&mesh).await.chat("hi", json!({"stream": true})).await;
    assert!(!answer.body.contains("usage"), "{}", answer.body);
    assert!(answer.body.ends_with("data: [DONE]\n\n"));
}

#[tokio::test]
async fn a_stream_that_breaks_ends_with_an_error_and_without_the_mark() {
    let mesh = Mesh::start().await;
    let answer = Door::open(&mesh).await.chat("break", json!({"stream": true})).await;
    assert_eq!(answer.status, 200);
    let events = answer.events();
    let last: Value = serde_json::from_str(events[events.len() - 1]).unwrap();
    assert_eq!(last["error"]["code"], "truncated");
    assert!(answer.body.contains("half") && !answer.body.contains("[DONE]"), "{}", answer.body);
}

#[tokio::test]
async fn a_failure_before_the_first_token_has_a_status_and_is_not_to_be_retried() {
    let mesh = Mesh::start().await;
    let door = Door::open(&mesh).await;
    for streamed in [false, true] {
        let answer = door.chat("fail", json!({"stream": streamed})).await;
        assert_eq!(answer.error(), (502, "all_backends_failed".into(), String::new()), "{}", answer.body);
        assert_eq!((answer.header("x-should-retry"), answer.header("x-tutti-attempts")), (Some("false"), Some("2")));
        assert!(answer.header("x-request-id").is_some());
    }
    let fallback = door.chat("fail first", json!({"stream": true})).await;
    let heads = (fallback.header("x-tutti-backend"), fallback.header("x-tutti-attempts"));
    assert_eq!((fallback.status, heads), (200, (Some("openai"), Some("2"))));
}

#[tokio::test]
async fn parallel_tool_calls_have_their_places_and_their_state_comes_back() {
    let mesh = Mesh::start().await;
    let door = Door::open(&mesh).await;
    let tools = || json!({"tools": [{"type": "function", "function": {"name": "read"}}]});
    let mut streamed = tools();
    streamed["stream"] = true.into();
    let chunks = door.chat("two tools", streamed).await;
    let places: Vec<Value> = chunks.events().iter().filter_map(|event| serde_json::from_str(event).ok()).collect();
    let places: Vec<&Value> = places.iter().map(|c| &c["choices"][0]["delta"]["tool_calls"][0]["index"]).collect();
    assert_eq!(places, [&Value::Null, &0.into(), &1.into(), &Value::Null]);

    let answer = door.chat("tool", tools()).await.json();
    let message = answer["choices"][0]["message"].clone();
    assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!((&message["content"], &message["tool_calls"][0]["id"]), (&Value::Null, &"c1".into()));
    let result = json!({"role": "tool", "tool_call_id": "c1", "content": "4"});
    let conversation = json!({"messages": [{"role": "user", "content": "tool"}, message, result]});
    let answer = door.chat("", conversation).await.json();
    assert_eq!(answer["choices"][0]["message"]["content"], "tool said: 4");
    let asked = mesh.seen.generated.lock().unwrap();
    let asked = asked.last().unwrap();
    let call = asked.messages.iter().flat_map(|m| &m.tool_calls).next().unwrap();
    assert_eq!((&call.opaque[..], call.provider.as_str(), call.model.as_str()), (&b"state"[..], "claude", "m"));
}

#[tokio::test]
async fn options_come_as_headers() {
    let mesh = Mesh::start().await;
    let door = Door::open(&mesh).await;
    let id = "0198f0c5-0000-7000-8000-000000000001";
    let headers =
        format!("x-tutti-session: s1\r\nx-tutti-backend: openai\r\nx-tutti-request-id: {id}\r\nx-tutti-org: evil\r\n");
    let answer = door.post("/v1/chat/completions", &headers, body("hi", json!({})).as_bytes()).await;
    assert_eq!((answer.header("x-tutti-backend"), answer.header("x-request-id")), (Some("openai"), Some(id)));
    assert!(mesh.seen.appended.lock().unwrap().iter().all(|append| append.session_id == "s1"));
    let headers = "x-tutti-strategy: pareto\r\n";
    let refused = door.post("/v1/chat/completions", headers, body("hi", json!({})).as_bytes()).await;
    assert_eq!(refused.error(), (400, "unsupported".into(), "strategy".into()));
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_named() {
    let mesh = Mesh::start().await;
    let door = Door::open(&mesh).await;
    let broken = door.post("/v1/chat/completions", "", b"{\"model\":\n nope}").await;
    assert_eq!(broken.error(), (400, "invalid_request".into(), String::new()));
    assert!(broken.body.contains("line 2 column"), "{}", broken.body);
    assert_eq!(broken.header("x-should-retry"), Some("false"));
    for (more, expected) in [
        (json!({"model": "gpt-9"}), (404, "unknown_model", "")),
        (json!({"model": "persona/nobody"}), (404, "unknown_persona", "")),
        (json!({"temperature": 3}), (400, "invalid_request", "temperature")),
        (json!({"n": 2}), (400, "unsupported", "n")),
        (json!({"messages": []}), (400, "invalid_request", "messages")),
    ] {
        let (status, code, param) = expected;
        assert_eq!(door.chat("hi", more).await.error(), (status, code.into(), param.into()));
    }
    let large = door.chat(&"x".repeat(33 << 20), json!({})).await;
    assert_eq!(large.error(), (413, "message_too_large".into(), String::new()));
    assert_eq!(door.get("/v1/assistants").await.status, 404);
    let wrong = door.get("/v1/chat/completions").await;
    assert_eq!(wrong.error(), (405, "unknown_request".into(), String::new()));
    assert_eq!((wrong.header("allow"), wrong.header("x-should-retry")), (Some("post"), Some("false")));
    let wrong = door.post("/v1/models/auto", "", b"{}").await;
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("get,head")));
}

#[tokio::test]
async fn a_client_that_leaves_cancels_its_turn() {
    for streamed in [true, false] {
        let mesh = Mesh::start().await;
        let door = Door::open(&mesh).await;
        let mut stream = door.send(CHAT, body("stall", json!({"stream": streamed})).as_bytes()).await;
        if streamed {
            assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
        } else {
            let begun = || async { if mesh.seen.generated.lock().unwrap().is_empty() { Err(()) } else { Ok(()) } };
            tokio::time::timeout(PATIENCE, async {
                while begun().await.is_err() {
                    tokio::task::yield_now().await;
                }
            })
            .await
            .unwrap();
        }
        drop(stream);
        tokio::time::timeout(PATIENCE, mesh.seen.dropped.cancelled()).await.expect("the turn to be cancelled");
    }
}

#[tokio::test]
async fn the_deadline_ends_a_call_and_a_stream() {
    let mesh = Mesh::start().await;
    let options = ServeOptions { default_timeout: Duration::from_millis(400), ..ServeOptions::default() };
    let door = Door::open_with(&mesh, options).await;
    let whole = door.chat("stall", json!({})).await;
    assert_eq!(whole.error(), (504, "deadline_exceeded".into(), String::new()));
    let stream = door.chat("stall", json!({"stream": true})).await;
    assert!(stream.body.contains("so far") && stream.body.contains("deadline_exceeded"), "{}", stream.body);
    assert!(!stream.body.contains("[DONE]"));
    // A body that never comes.
    let mut silent = door.send(&format!("{CHAT}expect: 100-continue\r\n"), b"").await;
    assert!(silent.read(&mut [0; 4096]).await.unwrap() > 0);
}

#[tokio::test]
async fn a_server_that_has_too_much_to_do_says_so_in_openais_form() {
    let mesh = Mesh::start().await;
    let options = ServeOptions { max_concurrent_calls: 0, ..ServeOptions::default() };
    let answer = Door::open_with(&mesh, options).await.chat("hi", json!({})).await;
    assert_eq!(answer.error(), (503, "overloaded".into(), String::new()));
    assert_eq!((answer.header("x-should-retry"), answer.header("retry-after")), (Some("true"), Some("1")));
}

#[tokio::test]
async fn a_silent_stream_gives_signs_of_life() {
    let mesh = Mesh::start().await;
    // Not before its store is open, which takes real time.
    tokio::time::pause();
    let body = Body::from(body("stall", json!({"stream": true})));
    let request = Request::post("/v1/chat/completions").body(tonic::body::Body::new(body)).unwrap();
    let stack = mesh.app.services().stack(Duration::from_secs(300));
    let mut answer = stack.oneshot(request).await.unwrap().into_body();
    let mut said = Vec::new();
    while said.len() < 3 {
        said.push(answer.frame().await.unwrap().unwrap().into_data().unwrap());
    }
    assert!(std::str::from_utf8(&said[0]).unwrap().contains("so far"));
    assert_eq!((&said[1][..], &said[2][..]), (&b": ping\n\n"[..], &b": ping\n\n"[..]));
}

#[tokio::test]
async fn texts_become_vectors() {
    let mesh = Mesh::start().await;
    let door = Door::open(&mesh).await;
    let embed = async |body: Value| door.post("/v1/embeddings", "", body.to_string().as_bytes()).await;
    let floats = embed(json!({"model": "openai", "input": ["a", "abc"]})).await;
    assert_eq!(floats.header("x-tutti-backend"), Some("openai"));
    let said = floats.json();
    assert_eq!((&said["data"][1]["embedding"], &said["data"][1]["index"]), (&json!([3.0, 0.5]), &json!(1)));
    assert_eq!(said["usage"], json!({"prompt_tokens": 3, "total_tokens": 3}));
    let packed = embed(json!({"model": "auto", "input": "a", "encoding_format": "base64"})).await.json();
    assert_eq!(packed["data"][0]["embedding"], "AACAPwAAAD8=");
    for (body, code, param) in [
        (json!({"model": "auto", "input": [[1, 2]]}), "unsupported", "input"),
        (json!({"model": "auto", "input": [1, 2]}), "unsupported", "input"),
        (json!({"model": "auto"}), "invalid_request", "input"),
        (json!({"input": "a"}), "invalid_request", "model"),
    ] {
        assert_eq!(embed(body).await.error(), (400, code.into(), param.into()));
    }
    assert_eq!(embed(json!({"model": "no-such", "input": "a"})).await.error().1, "unknown_model");
}

#[tokio::test]
async fn models_are_listed_and_found() {
    let mesh = Mesh::start().await;
    let door = Door::open(&mesh).await;
    let list = door.get("/v1/models").await.json();
    let ids: Vec<&str> = list["data"].as_array().unwrap().iter().filter_map(|m| m["id"].as_str()).collect();
    assert_eq!(ids[..3], ["auto", "claude", "openai"]);
    assert!(ids.contains(&"persona/architect") && !ids.contains(&"gemini"), "{ids:?}");
    for id in ["auto", "claude", "persona/architect", "persona%2Farchitect", "claude-model"] {
        let found = door.get(&format!("/v1/models/{id}")).await;
        assert_eq!((found.status, found.json()["object"].as_str()), (200, Some("model")), "{id}");
    }
    let unknown = door.get("/v1/models/persona/architekt").await;
    assert_eq!(unknown.error().1, "unknown_model");
    assert!(unknown.body.contains("persona/architect"), "{}", unknown.body);
}
