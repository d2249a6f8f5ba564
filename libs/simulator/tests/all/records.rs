//! What the simulator records, and how it is asked.

use serde_json::Value;
use tokio::io::AsyncReadExt;
use tutti_simulator::{Endpoint, Format, RequestState, SimConfig, SimHandle, Simulator};

use crate::support::{Request, SOON, chat, sim};

async fn get(sim: &SimHandle, path: &str) -> (u16, Value) {
    let reply = Request::new("GET", path, "").send(sim).await.unwrap();
    (reply.status, reply.json())
}

#[tokio::test]
async fn a_request_is_found_by_its_attempt_id() {
    let sim = sim().await;
    let request = chat(Format::Anthropic, true, "[[words 12]]").header("x-client-request-id", "attempt-1");
    let reply = request.send(&sim).await.unwrap();
    let record = sim.request("attempt-1").unwrap();
    assert_eq!((record.state, record.status), (RequestState::Finished, 200));
    assert_eq!((record.format, record.endpoint), (Some(Format::Anthropic), Some(Endpoint::Chat)));
    assert_eq!(record.model.as_deref(), Some("claude-sonnet-5-5"));
    assert_eq!((record.input_tokens, record.output_tokens), (3, 12));
    assert_eq!((record.output_tokens_sent, record.chunks_sent), (12, 12));
    assert_eq!(record.bytes_sent, u64::try_from(reply.body.len()).unwrap());
    assert!(record.stream && record.ended_us >= record.first_chunk_us);
    let (status, shown) = get(&sim, "/sim/requests/attempt-1").await;
    assert_eq!((status, shown), (200, serde_json::to_value(&record).unwrap()));
    assert_eq!(get(&sim, "/sim/requests/unknown").await.0, 404);
}

#[tokio::test]
async fn a_disconnect_is_seen_with_the_tokens_sent_until_then() {
    let sim = sim().await;
    let request = chat(Format::OpenAi, true, "[[words 1000]][[fault chunk_ms=20]]");
    let mut open = request.header("x-client-request-id", "gone").open(&sim).await.unwrap();
    let mut first = [0; 64];
    open.read_exact(&mut first).await.unwrap();
    let running = |sim: &SimHandle| sim.request("gone").is_some_and(|seen| seen.output_tokens_sent >= 3);
    sim.wait_for(running, SOON).await.unwrap();
    assert_eq!(sim.stats().in_progress, 1);
    drop(open);
    sim.wait_for(|sim| sim.stats().disconnected == 1, SOON).await.unwrap();
    let record = sim.request("gone").unwrap();
    assert_eq!(record.state, RequestState::Disconnected);
    assert!((3..1000).contains(&record.output_tokens_sent), "{record:?}");
    assert!(record.ended_at_us.is_some());
    sim.wait_for(|sim| sim.stats().connections_open == 0, SOON).await.unwrap();
}

#[tokio::test]
async fn a_client_that_leaves_while_sending_is_seen() {
    let sim = sim().await;
    let half = chat(Format::OpenAi, false, "hi").open_half(&sim).await.unwrap();
    sim.wait_for(|sim| sim.stats().in_progress == 1, SOON).await.unwrap();
    drop(half);
    sim.wait_for(|sim| sim.stats().disconnected == 1, SOON).await.unwrap();
    assert_eq!(sim.requests()[0].status, 0);
}

#[tokio::test]
async fn counters_are_exact_and_reset() {
    let sim = sim().await;
    for format in Format::ALL {
        chat(format, false, "[[words 5]]").send(&sim).await.unwrap();
        chat(format, true, "[[fault status=500]]").send(&sim).await.unwrap();
    }
    let (_, stats) = get(&sim, "/sim/stats").await;
    assert_eq!(stats["requests"], 8);
    assert_eq!((&stats["finished"], &stats["faulted"]), (&Value::from(4), &Value::from(4)));
    assert_eq!((&stats["by_status"]["200"], &stats["by_status"]["500"]), (&Value::from(4), &Value::from(4)));
    assert_eq!(stats["by_format"]["gemini"], 2);
    assert_eq!(stats["output_tokens_sent"], 20);
    assert_eq!(stats["connections"], 9, "eight and this one");
    let (_, listed) = get(&sim, "/sim/requests").await;
    assert_eq!(listed.as_array().unwrap().len(), 8);
    Request::new("POST", "/sim/reset", "").send(&sim).await.unwrap();
    assert_eq!(sim.stats().requests, 0);
    assert!(sim.requests().is_empty());
}

#[tokio::test]
async fn the_ring_forgets_but_the_counters_do_not() {
    let config = SimConfig { remember: 3, ..SimConfig::new().keep_bodies() };
    let sim = Simulator::start(config).await.unwrap();
    for n in 0..5 {
        chat(Format::Ollama, false, &format!("number {n}")).send(&sim).await.unwrap();
    }
    let bodies: Vec<String> = sim.requests().into_iter().filter_map(|request| request.body).collect();
    assert_eq!(bodies.len(), 3);
    assert!(bodies[0].contains("number 2"), "{bodies:?}");
    assert_eq!(sim.stats().finished, 5);
}

#[tokio::test]
async fn refusals_count_as_finished_and_name_the_simulator() {
    let sim = sim().await;
    let reply = Request::new("POST", "/v1/nothing", "{}").of(Format::OpenAi).send(&sim).await.unwrap();
    assert_eq!((reply.status, reply.headers["x-tutti-simulator"].as_str()), (404, "1"));
    let record = sim.requests().pop().unwrap();
    assert_eq!((record.state, record.status), (RequestState::Finished, 404));
    assert_eq!(record.output_tokens_sent, 0);
}

#[tokio::test]
async fn shutdown_ends_running_streams() {
    let sim = sim().await;
    let mut open = chat(Format::OpenAi, true, "[[fault stall_after=0]]").open(&sim).await.unwrap();
    let mut first = [0; 16];
    open.read_exact(&mut first).await.unwrap();
    let addr = sim.addr();
    sim.shutdown().await;
    let mut rest = Vec::new();
    // Closed or reset, but not left open.
    let _ = tokio::time::timeout(SOON, open.read_to_end(&mut rest)).await.expect("still open");
    assert!(tokio::net::TcpStream::connect(addr).await.is_err());
}

#[tokio::test]
async fn waiting_in_vain_says_what_there_was() {
    let sim = sim().await;
    let never = sim.wait_for(|sim| sim.stats().requests > 0, std::time::Duration::from_millis(20)).await;
    assert!(never.unwrap_err().to_string().contains("requests: 0"));
}
