//! One trace a call through all services, without a word of the prompt unless asked for; metrics, probes, and log lines
//! that are found by their ids.

pub(crate) mod sink;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tutti_proto::router::v1::{ChatRequest, ChatResponse, ChatStreamRequest, chat_stream_response::Event};
use tutti_simulator::{SimConfig, Simulator};

use self::sink::{Seen, Sink};
use crate::support::{Mesh, PATIENCE, ask, configure, patient, tutti_up};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";
/// What the conversation is about.
const SECRET: &str = "sk-tangerine42";

/// A streamed turn in a session, with one tool call, as a caller who traces makes it.
async fn turn_with_a_tool(mesh: &Mesh) -> ChatResponse {
    let note = mesh.process.scratch().data_dir().join("workspaces/default/note.txt");
    std::fs::write(note, format!("the note says {SECRET}")).unwrap();
    let text = format!(r#"{SECRET} in the prompt [[tool read {{"path":"note.txt"}}]]"#);
    let chat = ChatRequest { session_id: "s".into(), mesh_tools: vec!["read".into()], ..ask("claude", &text) };
    let mut request = patient(ChatStreamRequest { chat: Some(chat) });
    request.metadata_mut().insert("traceparent", format!("00-{TRACE}-{CALLER}-01").parse().unwrap());
    let mut stream = mesh.router().chat_stream(request).await.unwrap().into_inner();
    let mut done = None;
    while let Some(event) = stream.message().await.unwrap() {
        if let Some(Event::Done(response)) = event.event {
            done = Some(response);
        }
    }
    let done = done.unwrap();
    assert!(done.message.as_ref().unwrap().text.contains(SECRET), "{done:?}");
    done
}

/// The spans of that turn, once all have come.
async fn spans_of_a_turn(more: &str) -> (Vec<Seen>, Mesh) {
    let sink = Sink::start().await;
    let config = format!("[telemetry]\notlp_endpoint = \"{}\"\n{more}", sink.endpoint());
    let mesh = Mesh::start_with(&config).await;
    turn_with_a_tool(&mesh).await;
    let spans = sink.trace(TRACE, |spans| {
        let count = |name: &str| spans.iter().filter(|span| span.name.ends_with(name)).count();
        count("/Settle") == 2 && count("settle") == 2 && count("/ChatStream") == 1
    });
    (spans.await, mesh)
}

#[tokio::test]
async fn one_trace_goes_through_all_services() {
    let (spans, mut mesh) = spans_of_a_turn("").await;
    let find = |name: &str| -> Vec<&Seen> { spans.iter().filter(|span| span.name == name).collect() };
    let chat = find("tutti.router.v1.RouterService/ChatStream")[0];
    assert_eq!((chat.parent.as_str(), chat.kind), (CALLER, "server"), "{chat:?}");
    assert_eq!(chat.attribute("rpc.system"), "grpc");

    let generates = find("tutti.gateway.v1.GatewayService/GenerateStream");
    let attempts = find("chat claude-sonnet-5-5");
    assert_eq!((generates.len(), attempts.len()), (2, 2), "{spans:#?}");
    assert!(generates.iter().all(|span| span.parent == chat.id));
    for attempt in &attempts {
        assert!(generates.iter().any(|span| span.id == attempt.parent), "{attempt:?}");
        assert_eq!(attempt.kind, "client");
        assert_eq!(attempt.attribute("gen_ai.operation.name"), "chat");
        assert_eq!(attempt.attribute("gen_ai.provider.name"), "anthropic");
        assert_eq!(attempt.attribute("gen_ai.request.model"), "claude-sonnet-5-5");
        assert!(attempt.attribute("gen_ai.usage.output_tokens").parse::<i64>().unwrap() > 0, "{attempt:?}");
        assert_eq!(attempt.attribute("server.address"), "127.0.0.1");
    }
    let finishes: Vec<String> = attempts.iter().map(|span| span.attribute("gen_ai.response.finish_reasons")).collect();
    assert!(finishes.iter().any(|f| f.contains("tool_calls")) && finishes.iter().any(|f| f.contains("stop")));

    let of_attempts = |parent: &str| attempts.iter().any(|span| span.id == parent);
    let reserves = find("tutti.ledger.v1.LedgerService/Reserve");
    assert!(reserves.len() == 2 && reserves.iter().all(|span| of_attempts(&span.parent)), "{spans:#?}");
    let settling = find("settle");
    assert!(settling.iter().all(|span| of_attempts(&span.parent)), "{spans:#?}");
    let settled = find("tutti.ledger.v1.LedgerService/Settle");
    assert!(settled.iter().all(|span| settling.iter().any(|parent| parent.id == span.parent)), "{spans:#?}");

    let tool = find("execute_tool read")[0];
    assert_eq!((tool.parent.as_str(), tool.attribute("gen_ai.tool.name").as_str()), (chat.id.as_str(), "read"));
    assert_eq!(find("tutti.sandbox.v1.ToolService/Execute")[0].parent, tool.id);
    assert_eq!(find("tutti.memory.v1.SessionService/BuildContext")[0].parent, chat.id);

    for span in &spans {
        assert_eq!(span.service, "tutti");
        let known = span.parent == CALLER || spans.iter().any(|other| other.id == span.parent);
        assert!(known, "{} hangs in the air: {spans:#?}", span.name);
        assert!(!span.text.contains(SECRET), "what was said is in {span:?}");
    }
    assert!(mesh.process.terminate(PATIENCE).await.success());
}

#[tokio::test]
async fn what_was_said_is_in_the_spans_only_when_asked_for_and_redacted() {
    let (spans, _mesh) = spans_of_a_turn("capture_content = true\nredact = [\"sk-[a-z0-9]+\"]\n").await;
    let text: String = spans.iter().map(|span| span.text.as_str()).collect();
    assert!(text.contains("[redacted] in the prompt") && text.contains("the note says [redacted]"), "{text}");
    assert!(!text.contains(SECRET), "{text}");
}

#[tokio::test]
async fn spans_that_wait_are_sent_before_the_process_ends() {
    let sink = Sink::start().await;
    let config = format!("[telemetry]\notlp_endpoint = \"{}\"\nsample_ratio = 1.0\n", sink.endpoint());
    let mut mesh = Mesh::start_with(&config).await;
    mesh.chat(ask("claude", "hello")).await.unwrap();
    assert!(mesh.process.terminate(PATIENCE).await.success());
    let names: Vec<String> = sink.all().into_iter().map(|span| span.name).collect();
    assert!(names.iter().any(|name| name == "tutti.router.v1.RouterService/Chat"), "{names:?}");
}

#[tokio::test]
async fn what_is_not_sampled_is_not_sent_and_has_its_ids_in_the_log() {
    let sink = Sink::start().await;
    let log = "[general]\nlog_level = \"debug\"\nlog_format = \"json\"\n";
    let config = format!("{log}[telemetry]\notlp_endpoint = \"{}\"\nsample_ratio = 0.0\n", sink.endpoint());
    let mut mesh = Mesh::start_with(&config).await;
    let request_id = mesh.chat(ask("claude", "hello")).await.unwrap().request_id;
    let mut traces = Vec::new();
    for service in ["router", "gateway", "ledger"] {
        let of_call = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).ok()?;
            let is_of = line["method"].as_str()?.starts_with(&format!("/tutti.{service}."))
                && line["request_id"] == request_id.as_str();
            is_of.then(|| line["trace_id"].as_str().unwrap_or_default().to_owned())
        };
        traces.push(mesh.process.wait_for_stderr(PATIENCE, of_call).await);
    }
    assert!(traces[0].len() == 32 && traces.iter().all(|trace| *trace == traces[0]), "{traces:?}");
    // What waits is sent before the end.
    assert!(mesh.process.terminate(PATIENCE).await.success());
    let names: Vec<String> = sink.all().into_iter().map(|span| span.name).collect();
    assert!(names.is_empty(), "{names:?}");
}

#[tokio::test]
async fn the_admin_port_has_metrics_and_probes() {
    let sim = Simulator::start(SimConfig::new()).await.unwrap();
    let builder = tutti_up().args(["--admin-listen", "127.0.0.1:0"]);
    configure(&builder, &sim, "");
    let mut mesh = Mesh::of(builder, sim).await;
    let admin = mesh.process.wait_for_stderr(PATIENCE, |line| {
        let (_, rest) = line.split_once("metrics and probes address=")?;
        rest.split_whitespace().next().map(str::to_owned)
    });
    let admin = admin.await;
    let answer = mesh.chat(ask("claude", "hello")).await.unwrap();
    mesh.settled(&answer.request_id).await;
    mesh.chat(ChatRequest { model: "nobody-has-this".into(), ..ask("openai", "hello") }).await.unwrap();

    assert!(get(&admin, "/livez").await.starts_with("HTTP/1.1 200"));
    assert!(get(&admin, "/readyz").await.starts_with("HTTP/1.1 200"));
    let metrics = get(&admin, "/metrics").await;
    for line in [
        "tutti_calls_total{method=\"tutti.router.v1.RouterService/Chat\",code=\"OK\"} 2",
        "tutti_call_duration_seconds_count{method=\"tutti.router.v1.RouterService/Chat\"} 2",
        "tutti_calls_in_flight{service=\"tutti.router.v1.RouterService\"} 0",
        "tutti_attempts_total{backend=\"claude\",model=\"claude-sonnet-5-5\",outcome=\"OK\",reason=\"\"} 1",
        "tutti_attempts_total{backend=\"openai\",model=\"other\",outcome=\"OK\",reason=\"\"} 1",
        "tutti_tokens_total{backend=\"claude\",model=\"claude-sonnet-5-5\",kind=\"output\"}",
        "tutti_cost_nano_usd_total{backend=\"claude\",model=\"claude-sonnet-5-5\"}",
        "tutti_time_to_first_token_seconds_count{backend=\"claude\"} 1",
        "tutti_ledger_batch_size_count",
        "tutti_spool_length 0",
    ] {
        assert!(metrics.contains(line), "no {line} in {metrics}");
    }
    assert!(!metrics.contains("nobody-has-this"), "{metrics}");
}

#[tokio::test]
async fn log_lines_of_a_call_have_its_trace_and_request() {
    let mesh = Mesh::start_with("[general]\nlog_level = \"debug\"\nlog_format = \"json\"\n").await;
    let mut mesh = mesh;
    let done = turn_with_a_tool(&mesh).await;
    for service in ["router", "gateway", "memory", "sandbox", "ledger"] {
        let of_call = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).ok()?;
            let is_of =
                line["method"].as_str()?.starts_with(&format!("/tutti.{service}.")) && line["trace_id"] == TRACE;
            is_of.then(|| line["request_id"].as_str().unwrap_or_default().to_owned())
        };
        let request_id = mesh.process.wait_for_stderr(PATIENCE, of_call).await;
        assert_eq!(request_id, done.request_id, "{service}");
    }
}

/// A whole HTTP answer.
async fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}
