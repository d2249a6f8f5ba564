//! Scenarios, the fault header, and counted faults.

use tutti_simulator::{ErrorKind, Fault, Format, Rule, Scenario};

use crate::support::{Request, chat, sim, sim_with};

#[tokio::test]
async fn rules_apply_by_model_format_text_and_count() {
    let busy = Rule::new().format(Format::OpenAi).model("gpt-*").first(1).fault(Fault::error(ErrorKind::Overloaded));
    let polite = Rule::new().text("hello").script("[[say good day]]");
    let sim = sim_with(Scenario::new().rule(busy).rule(polite)).await;
    let ask = chat(Format::OpenAi, false, "hello");
    assert_eq!(ask.send(&sim).await.unwrap().status, 503);
    let second = ask.send(&sim).await.unwrap();
    assert_eq!(second.json()["choices"][0]["message"]["content"], "good day");
    let other = chat(Format::Ollama, false, "something").send(&sim).await.unwrap();
    assert_eq!(other.json()["message"]["content"], "Echo: something");
}

#[tokio::test]
async fn a_scenario_can_be_put_in_force_over_http() {
    let sim = sim().await;
    let put = async |text: &str| Request::new("PUT", "/sim/scenario", text).send(&sim).await.unwrap().status;
    assert_eq!(put("[[rules]]\nmodel = \"claude-*\"\nfault = \"status=529\"").await, 200);
    assert_eq!(chat(Format::Anthropic, false, "hi").send(&sim).await.unwrap().status, 529);
    assert_eq!(put(r#"{"rules":[{"every":2,"fault":{"status":500}}]}"#).await, 200);
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(chat(Format::Anthropic, false, "hi").send(&sim).await.unwrap().status);
    }
    assert_eq!(statuses, [200, 500, 200, 500]);
    assert_eq!(put("rules = 3").await, 400);
}

#[tokio::test]
async fn the_header_scripts_one_request() {
    let sim = sim().await;
    let ask = chat(Format::Gemini, false, "hi");
    assert_eq!(ask.clone().header("x-sim-fault", "status=503").send(&sim).await.unwrap().status, 503);
    assert_eq!(ask.clone().header("x-sim-fault", "stat=503").send(&sim).await.unwrap().status, 400);
    assert_eq!(ask.send(&sim).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_fault_strikes_only_where_and_as_often_as_told() {
    let sim = sim().await;
    let twice = chat(Format::OpenAi, false, "[[fault status=500 times=2]] hi");
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(twice.send(&sim).await.unwrap().status);
    }
    assert_eq!(statuses, [500, 500, 200]);
    let prompt = "[[fault status=500 model=gpt-* format=openai]] hi";
    assert_eq!(chat(Format::OpenAi, false, prompt).send(&sim).await.unwrap().status, 500);
    assert_eq!(chat(Format::Gemini, false, prompt).send(&sim).await.unwrap().status, 200);
}

#[tokio::test]
async fn connections_can_be_refused_altogether() {
    let sim = sim_with(Scenario { refuse_connections: true, ..Scenario::new() }).await;
    assert!(chat(Format::OpenAi, false, "hi").send(&sim).await.is_err());
    assert_eq!(sim.stats().requests, 0);
    sim.set_scenario(Scenario::new());
    assert_eq!(chat(Format::OpenAi, false, "hi").send(&sim).await.unwrap().status, 200);
}

#[tokio::test]
async fn embeddings_obey_faults_in_their_text() {
    let sim = sim().await;
    let body = r#"{"model":"text-embedding-3-small","input":"[[fault status=429]]"}"#;
    let reply = Request::new("POST", "/v1/embeddings", body).of(Format::OpenAi).send(&sim).await.unwrap();
    assert_eq!(reply.status, 429);
}
