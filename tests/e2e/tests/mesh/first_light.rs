//! A newcomer's first minute: one command, no key, an answer.

use std::time::{Duration, Instant};

use tutti_proto::router::v1::ListBackendsRequest;
use tutti_simulator::{SimConfig, Simulator};
use tutti_testkit::Process;

use crate::support::{Mesh, PATIENCE, ask, listening, patient, tutti_up};

#[tokio::test]
async fn without_a_key_the_simulator_answers_and_says_so() {
    let started = Instant::now();
    let mut process = tutti_up().start();
    let address = listening(&mut process).await;
    let took = started.elapsed();
    assert!(took <= Duration::from_secs(1), "ready after {took:?}");
    process.wait_for_stdout(PATIENCE, |line| line.to_lowercase().contains("simulator").then_some(())).await;
    process.wait_for_stdout(PATIENCE, |line| line.contains("grpcurl").then_some(())).await;

    let chat = Process::binary("tutti").args(["chat", "--address", &address, "hello there"]).start();
    let mut chat = chat;
    let status = chat.wait(PATIENCE).await;
    assert!(status.success(), "{}", chat.stderr());
    assert!(chat.stdout().contains("hello there"), "{}", chat.stdout());
    assert!(chat.stderr().contains("simulator"), "{}", chat.stderr());
}

#[tokio::test]
async fn an_idle_mesh_is_small() {
    let mut process = tutti_up().start();
    let address = listening(&mut process).await;
    let health = Process::binary("tutti").args(["health", "--address", &address]).start();
    let mut health = health;
    assert!(health.wait(PATIENCE).await.success(), "{}{}", health.stdout(), health.stderr());
    // What it asks the system for. All resident memory (60 MiB at most) is a gate of `tests/load`, where the program is
    // the one that is shipped.
    let mib = process.own_memory_bytes() >> 20;
    assert!(mib <= 20, "{mib} MiB of its own");
}

#[tokio::test]
async fn backends_without_a_key_are_skipped_with_a_notice() {
    let sim = Simulator::start(SimConfig::new()).await.unwrap();
    let builder = tutti_up();
    let only_claude = format!("[backends.claude]\nbase_url = \"http://{}\"\n", sim.addr());
    builder.scratch().write_config("config.toml", &only_claude);
    let mesh = Mesh::of(builder.env("ANTHROPIC_API_KEY", "sk-ant-from-the-environment"), sim).await;
    let listed = mesh.router().list_backends(patient(ListBackendsRequest::default())).await.unwrap().into_inner();
    let usable: Vec<_> = listed.backends.iter().filter(|b| b.usable).map(|b| b.name.as_str()).collect();
    assert!(usable.contains(&"claude") && !usable.contains(&"openai"), "{usable:?}");
    let openai = listed.backends.iter().find(|b| b.name == "openai").unwrap();
    assert!(openai.unusable_because.contains("OPENAI_API_KEY"), "{}", openai.unusable_because);
    let answer = mesh.chat(ask("", "hello")).await.unwrap();
    assert_eq!(answer.backend, "claude");
    assert!(answer.message.unwrap().text.contains("hello"));
}

#[tokio::test]
async fn a_key_is_seen_nowhere() {
    let mesh = Mesh::start_with("[general]\nlog_level = \"trace\"\n").await;
    let answer = mesh.chat(ask("openai", "hello")).await.unwrap();
    let refused = mesh.chat(ask("claude", "[[fault status=401]] hello")).await.unwrap_err();
    let listed = mesh.router().list_backends(patient(ListBackendsRequest { probe: true })).await.unwrap();
    let seen = format!("{answer:?}{refused:?}{listed:?}{}{}", mesh.process.stdout(), mesh.process.stderr());
    for backend in ["claude", "openai", "gemini", "deepseek"] {
        assert!(!seen.contains(&format!("sk-test-{backend}-0123456789")), "the key of {backend} leaked");
    }
}
