//! The OpenAI-compatible door on a port of its own: one span, one count and one log line a request, as over gRPC.

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tutti_simulator::{SimConfig, Simulator};
use tutti_testkit::{free_port, wait_for};

use crate::{
    support::{Mesh, PATIENCE, ask, configure, tutti_up},
    telemetry::sink::Sink,
};

const TRACE: &str = "1af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "c7ad6b7169203331";
const ROUTE: &str = "/v1/chat/completions";

/// All that comes back before the connection closes, in HTTP/1.1.
async fn exchange(address: &str, method: &str, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {}\r\n\
         traceparent: 00-{TRACE}-{CALLER}-01\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A port that speaks no HTTP/1.1 may reset the connection.
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_door_of_its_own_is_observed_like_grpc() {
    let sink = Sink::start().await;
    let door = format!("127.0.0.1:{}", free_port());
    let more = format!(
        "[server]\nhttp_listen = \"{door}\"\n[telemetry]\notlp_endpoint = \"{}\"\n\
         [general]\nlog_level = \"debug\"\nlog_format = \"json\"\n",
        sink.endpoint()
    );
    let sim = Simulator::start(SimConfig::new()).await.unwrap();
    let builder = tutti_up().args(["--admin-listen", "127.0.0.1:0"]);
    configure(&builder, &sim, &more);
    let mut mesh = Mesh::of(builder, sim).await;
    assert!(mesh.process.stdout().contains(&format!("http://{door}/v1 ")), "{}", mesh.process.stdout());
    let listening = |line: &str, message: &str| {
        let line: Value = serde_json::from_str(line).ok()?;
        line["message"].as_str()?.starts_with(message).then(|| line["address"].as_str().map(str::to_owned))?
    };
    mesh.process.wait_for_stderr(PATIENCE, |line| listening(line, "listening for HTTP")).await;
    let admin = mesh.process.wait_for_stderr(PATIENCE, |line| listening(line, "metrics and probes")).await;
    let grpc = mesh.process.wait_for_stderr(PATIENCE, |line| listening(line, "listening")).await;

    let chat = r#"{"model":"claude","messages":[{"role":"user","content":"hello"}]}"#;
    let answer = exchange(&door, "POST", ROUTE, chat).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("Echo: hello"), "{answer}");
    let id = answer.lines().find_map(|line| line.strip_prefix("x-request-id: ")).unwrap().trim().to_owned();
    for (method, path, status) in [
        ("GET", "/v1/models/claude", 200),
        ("GET", ROUTE, 405),
        ("POST", "/v1/guess-1", 404),
        ("POST", "/v1/guess-2", 404),
    ] {
        let answer = exchange(&door, method, path, "{}").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
    }
    // The gRPC port has it no longer, and this one has no gRPC.
    let elsewhere = exchange(&grpc, "POST", ROUTE, chat).await;
    assert!(!elsewhere.starts_with("HTTP/1.1 200"), "{elsewhere}");
    mesh.chat(ask("claude", "over gRPC")).await.unwrap();

    check_spans(&sink).await;
    check_metrics(&admin).await;
    let of_call = |line: &str| {
        let line: Value = serde_json::from_str(line).ok()?;
        (line["method"] == ROUTE && line["request_id"] == id.as_str()).then_some(line)
    };
    let line = mesh.process.wait_for_stderr(PATIENCE, of_call).await;
    assert_eq!((&line["trace_id"], &line["status"]), (&TRACE.into(), &200.into()), "{line}");
    let log = mesh.process.stderr();
    assert_eq!(log.lines().filter_map(of_call).count(), 1, "one line a request: {log}");
    assert!(mesh.process.terminate(PATIENCE).await.success());
}

/// One span a request, joined to the caller's, and the turn's below it.
async fn check_spans(sink: &Sink) {
    let spans = sink.trace(TRACE, |spans| {
        spans.iter().any(|span| span.name == "/v1/models/{id}") && spans.iter().filter(|s| s.name == ROUTE).count() == 2
    });
    let spans = spans.await;
    let asked = spans.iter().find(|span| span.name == ROUTE && span.attribute("http.response.status_code") == "200");
    let asked = asked.unwrap();
    assert_eq!((asked.parent.as_str(), asked.kind), (CALLER, "server"), "{asked:?}");
    assert_eq!((asked.attribute("http.route"), asked.attribute("http.request.method")), (ROUTE.into(), "POST".into()));
    let below = spans.iter().find(|span| span.name == "tutti.gateway.v1.GatewayService/Generate").unwrap();
    assert_eq!(below.parent, asked.id, "{spans:#?}");
}

/// Labels that callers can't make more of.
async fn check_metrics(admin: &str) {
    let metrics = wait_for(PATIENCE, async || {
        let metrics = exchange(admin, "GET", "/metrics", "").await;
        let of_models = "tutti_calls_total{method=\"/v1/models/{id}\",code=\"OK\"} 1";
        if metrics.contains(of_models) { Ok(metrics) } else { Err(metrics) }
    });
    let metrics = metrics.await;
    for line in [
        format!("tutti_calls_total{{method=\"{ROUTE}\",code=\"OK\"}} 1"),
        format!("tutti_calls_total{{method=\"{ROUTE}\",code=\"INVALID_ARGUMENT\"}} 1"),
        format!("tutti_call_duration_seconds_count{{method=\"{ROUTE}\"}} 2"),
        "tutti_calls_total{method=\"other\",code=\"NOT_FOUND\"} 2".into(),
        "tutti_calls_in_flight{service=\"http\"} 0".into(),
    ] {
        assert!(metrics.contains(&line), "no {line} in {metrics}");
    }
    assert!(!metrics.contains("guess"), "{metrics}");
}
