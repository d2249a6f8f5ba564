//! A deliberately plain HTTP/1.1 client: it sees bytes, cuts and resets as they are.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tutti_simulator::{Format, Scenario, SimConfig, SimHandle, Simulator};

/// Nothing in these tests takes so long unless it is broken.
pub(crate) const SOON: Duration = Duration::from_secs(10);

pub(crate) async fn sim() -> SimHandle {
    Simulator::start(SimConfig::new()).await.unwrap()
}

pub(crate) async fn sim_with(scenario: Scenario) -> SimHandle {
    Simulator::start(SimConfig::new().scenario(scenario)).await.unwrap()
}

/// An answer as far as it arrived.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
    /// Whether the body ended as HTTP says it must.
    pub(crate) complete: bool,
    /// Whether the connection was reset.
    pub(crate) reset: bool,
}

impl Reply {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The data of all events, without `[DONE]`.
    pub(crate) fn events(&self) -> Vec<Value> {
        let text = self.text();
        let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
        data.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect()
    }

    /// One JSON object a line.
    pub(crate) fn lines(&self) -> Vec<Value> {
        self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// A request in the making.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    method: &'static str,
    path: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Request {
    pub(crate) fn new(method: &'static str, path: &str, body: &str) -> Self {
        Self { method, path: path.to_owned(), headers: Vec::new(), body: body.to_owned() }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self
    }

    /// With the credentials of `format`.
    pub(crate) fn of(self, format: Format) -> Self {
        match format {
            Format::OpenAi => self.header("authorization", "Bearer sk-sim"),
            Format::Anthropic => self.header("x-api-key", "sim").header("anthropic-version", "2026-10-21"),
            Format::Gemini => self.header("x-goog-api-key", "sim"),
            Format::Ollama => self,
        }
    }

    /// Sends it and returns the open connection.
    pub(crate) async fn open(&self, sim: &SimHandle) -> io::Result<TcpStream> {
        self.write(sim, self.body.len()).await
    }

    /// Sends all but the second half of the body.
    pub(crate) async fn open_half(&self, sim: &SimHandle) -> io::Result<TcpStream> {
        self.write(sim, self.body.len() / 2).await
    }

    async fn write(&self, sim: &SimHandle, until: usize) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect(sim.addr()).await?;
        let mut text =
            format!("{} {} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n", self.method, self.path, sim.addr());
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str(&format!("content-length: {}\r\n\r\n{}", self.body.len(), &self.body[..until]));
        stream.write_all(text.as_bytes()).await?;
        Ok(stream)
    }

    /// Sends it and reads to the end of the connection; an error when there was no answer.
    pub(crate) async fn send(&self, sim: &SimHandle) -> io::Result<Reply> {
        let mut stream = self.open(sim).await?;
        let mut raw = Vec::new();
        let mut buffer = vec![0; 16 * 1024];
        let reset = loop {
            match tokio::time::timeout(SOON, stream.read(&mut buffer)).await.expect("no answer") {
                Ok(0) => break false,
                Ok(read) => raw.extend_from_slice(&buffer[..read]),
                Err(error) if raw.is_empty() => return Err(error),
                Err(_) => break true,
            }
        };
        parse(&raw, reset)
    }
}

fn parse(raw: &[u8], reset: bool) -> io::Result<Reply> {
    let Some(split) = raw.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Err(io::ErrorKind::UnexpectedEof.into());
    };
    let head = String::from_utf8(raw[..split].to_vec()).unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: BTreeMap<String, String> =
        lines.filter_map(|line| line.split_once(": ")).map(|(k, v)| (k.to_lowercase(), v.to_owned())).collect();
    let rest = &raw[split + 4..];
    let (body, complete) = match headers.get("content-length") {
        Some(length) => (rest.to_vec(), rest.len() == length.parse::<usize>().unwrap()),
        None => unchunk(rest),
    };
    Ok(Reply { status, headers, body, complete, reset })
}

fn unchunk(mut rest: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|window| window == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            return (body, true);
        }
        let data = &rest[end + 2..];
        body.extend_from_slice(&data[..size.min(data.len())]);
        rest = data.get(size + 2..).unwrap_or_default();
    }
    (body, false)
}

/// A generation request of `format` with one user message.
pub(crate) fn chat(format: Format, stream: bool, text: &str) -> Request {
    let text = Value::from(text);
    let (path, body) = match format {
        Format::OpenAi => (
            "/v1/chat/completions".to_owned(),
            format!(r#"{{"model":"gpt-4.1","stream":{stream},"messages":[{{"role":"user","content":{text}}}]}}"#),
        ),
        Format::Anthropic => (
            "/v1/messages".to_owned(),
            format!(
                r#"{{"model":"claude-sonnet-5-5","max_tokens":4096,"stream":{stream},
                   "messages":[{{"role":"user","content":{text}}}]}}"#
            ),
        ),
        Format::Gemini => {
            let action = if stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
            (
                format!("/v1beta/models/gemini-3.8-flash:{action}"),
                format!(r#"{{"contents":[{{"role":"user","parts":[{{"text":{text}}}]}}]}}"#),
            )
        }
        Format::Ollama => (
            "/api/chat".to_owned(),
            format!(r#"{{"model":"qwen3:8b","stream":{stream},"messages":[{{"role":"user","content":{text}}}]}}"#),
        ),
    };
    Request::new("POST", &path, &body).of(format)
}

/// Sends the JSON `body` to `path` in `format`.
pub(crate) async fn post(sim: &SimHandle, format: Format, path: &str, body: &Value) -> Reply {
    Request::new("POST", path, &body.to_string()).of(format).send(sim).await.unwrap()
}

/// The text that a stream of `format` carries.
pub(crate) fn streamed_text(format: Format, reply: &Reply) -> String {
    let pointer = match format {
        Format::OpenAi => "/choices/0/delta/content",
        Format::Anthropic => "/delta/text",
        Format::Gemini => "/candidates/0/content/parts/0/text",
        Format::Ollama => "/message/content",
    };
    let events = if format == Format::Ollama { reply.lines() } else { reply.events() };
    events.iter().filter_map(|event| event.pointer(pointer)?.as_str()).collect()
}

/// Whether a stream of `format` has the mark of a complete answer.
pub(crate) fn has_end_mark(format: Format, reply: &Reply) -> bool {
    let text = reply.text();
    match format {
        Format::OpenAi => text.ends_with("data: [DONE]\n\n"),
        Format::Anthropic => text.contains("event: message_stop"),
        Format::Gemini => text.contains("\"finishReason\""),
        Format::Ollama => text.contains("\"done\":true"),
    }
}
