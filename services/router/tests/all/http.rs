//! The door behind a real listener, and an HTTP/1.1 client that shows every byte.

use std::{net::SocketAddr, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tutti_server::{ServeOptions, bind, serve};

use crate::mesh::Mesh;

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Door {
    address: SocketAddr,
    _serving: JoinSet<()>,
    _shutdown: DropGuard,
}

/// A whole answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Door {
    pub(crate) async fn open(mesh: &Mesh) -> Self {
        Self::open_with(mesh, ServeOptions::default()).await
    }

    pub(crate) async fn open_with(mesh: &Mesh, options: ServeOptions) -> Self {
        let listening = bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let address = listening.address;
        let shutdown = CancellationToken::new();
        let services = mesh.app.services();
        let mut serving = JoinSet::new();
        let token = shutdown.clone();
        serving.spawn(async move { serve(listening, services, options, token).await.unwrap() });
        Self { address, _serving: serving, _shutdown: shutdown.drop_guard() }
    }

    /// Sends a request and leaves the answer to be read.
    pub(crate) async fn send(&self, head: &str, body: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let length = body.len();
        let head = format!("{head}host: door\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body).await.unwrap();
        stream
    }

    async fn ask(&self, head: &str, body: &[u8]) -> Answer {
        let mut stream = self.send(head, body).await;
        let mut bytes = Vec::new();
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("an answer").unwrap();
        Answer::read(&String::from_utf8(bytes).unwrap())
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path} HTTP/1.1\r\n"), b"").await
    }

    pub(crate) async fn post(&self, path: &str, headers: &str, body: &[u8]) -> Answer {
        self.ask(&format!("POST {path} HTTP/1.1\r\n{headers}"), body).await
    }

    /// One user message to `auto`; `more` are further fields.
    pub(crate) async fn chat(&self, text: &str, more: Value) -> Answer {
        self.post("/v1/chat/completions", "", body(text, more).as_bytes()).await
    }
}

pub(crate) fn body(text: &str, mut more: Value) -> String {
    let mut body = serde_json::json!({"model": "auto", "messages": [{"role": "user", "content": text}]});
    body.as_object_mut().unwrap().append(more.as_object_mut().unwrap());
    body.to_string()
}

impl Answer {
    fn read(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {text:?}"));
        let head = head.to_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let chunked = head.contains("transfer-encoding: chunked");
        Self { status, body: if chunked { joined(body) } else { body.to_owned() }, head }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|wrong| panic!("{wrong}: {}", self.body))
    }

    /// The failure's code and parameter.
    pub(crate) fn error(&self) -> (u16, String, String) {
        let error = &self.json()["error"];
        let text = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
        (self.status, text("code"), text("param"))
    }

    /// The data of each event.
    pub(crate) fn events(&self) -> Vec<&str> {
        self.body.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).collect()
    }
}

/// The pieces of a chunked body.
fn joined(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        whole.push_str(&rest[..size]);
        body = rest[size..].trim_start_matches("\r\n");
    }
    whole
}
