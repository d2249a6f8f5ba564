//! A client of OpenAI's chat format over HTTP/1.1, as lean as can be: what it costs is not to be taken for the server's.

use std::{borrow::Cow, net::SocketAddr, sync::Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    client::conn::http1::{self, SendRequest},
    header,
};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio_util::task::TaskTracker;

use crate::target::{Failure, Tally};

type Connection = SendRequest<Full<Bytes>>;

/// Keeps its connections and makes one more when all are busy.
#[derive(Debug)]
pub(crate) struct Client {
    address: SocketAddr,
    model: String,
    idle: Mutex<Vec<Connection>>,
    tasks: TaskTracker,
}

#[derive(Deserialize)]
struct Completion<'a> {
    #[serde(borrow)]
    choices: Vec<Choice<'a>>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow, alias = "delta")]
    message: Piece<'a>,
}

#[derive(Deserialize)]
struct Piece<'a> {
    #[serde(borrow, default)]
    content: Option<Cow<'a, str>>,
}

impl Client {
    /// A client of the server at this address, for this model.
    pub(crate) fn new(address: SocketAddr, model: &str) -> Self {
        Self { address, model: model.to_owned(), idle: Mutex::default(), tasks: TaskTracker::new() }
    }

    /// Whether the server has this door: it lists its models.
    pub(crate) async fn is_there(&self) -> bool {
        let Ok(mut connection) = self.connection().await else { return false };
        let request = Request::get("/v1/models").header(header::HOST, self.address.to_string()).body(Full::default());
        let Ok(request) = request else { return false };
        connection.send_request(request).await.is_ok_and(|response| response.status() == StatusCode::OK)
    }

    /// Bytes of text of a whole answer.
    pub(crate) async fn unary(&self, prompt: &str) -> Result<usize, Failure> {
        let (connection, response) = self.ask(prompt, false).await?;
        let body = response.into_body().collect().await?.to_bytes();
        self.give_back(connection);
        text_of(&body)
    }

    /// Reads a streamed answer to its end mark.
    pub(crate) async fn stream(&self, prompt: &str, tally: &mut Tally) -> Result<(), Failure> {
        let (connection, response) = self.ask(prompt, true).await?;
        let mut body = response.into_body();
        let mut events = Events::default();
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame?.into_data() {
                events.read(&data, tally)?;
            }
        }
        self.give_back(connection);
        if events.done { Ok(()) } else { Err(Failure::NotUnderstood("the stream has no end mark".to_owned())) }
    }

    async fn ask(&self, prompt: &str, stream: bool) -> Result<(Connection, Response<Incoming>), Failure> {
        let messages = [serde_json::json!({"role": "user", "content": prompt})];
        let body = serde_json::json!({"model": self.model, "messages": messages, "stream": stream}).to_string();
        let request = Request::post("/v1/chat/completions")
            .header(header::HOST, self.address.to_string())
            .header(header::AUTHORIZATION, "Bearer sk-load")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::from(body))
            .map_err(|error| Failure::NotUnderstood(error.to_string()))?;
        let mut connection = self.connection().await?;
        let response = connection.send_request(request).await?;
        if response.status() == StatusCode::OK {
            return Ok((connection, response));
        }
        let (status, body) = (response.status(), response.into_body().collect().await?.to_bytes());
        Err(Failure::Refused(format!("{status}: {}", String::from_utf8_lossy(&body))))
    }

    async fn connection(&self) -> Result<Connection, Failure> {
        while let Some(mut kept) = self.take_idle() {
            if kept.ready().await.is_ok() {
                return Ok(kept);
            }
        }
        let socket = TcpStream::connect(self.address).await?;
        socket.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
        self.tasks.spawn(connection);
        Ok(sender)
    }

    fn take_idle(&self) -> Option<Connection> {
        self.idle().pop()
    }

    fn give_back(&self, connection: Connection) {
        self.idle().push(connection);
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl From<hyper::Error> for Failure {
    fn from(error: hyper::Error) -> Self {
        Self::Connection(error.to_string())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Connection(error.to_string())
    }
}

/// Server-sent events, however the network cuts them.
#[derive(Debug, Default)]
struct Events {
    rest: Vec<u8>,
    done: bool,
}

impl Events {
    fn read(&mut self, data: &[u8], tally: &mut Tally) -> Result<(), Failure> {
        self.rest.extend_from_slice(data);
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else { return Ok(()) };
        let rest = self.rest.split_off(end + 1);
        let lines = std::mem::replace(&mut self.rest, rest);
        for line in lines.split(|byte| *byte == b'\n') {
            match line.strip_prefix(b"data:").map(<[u8]>::trim_ascii) {
                None => {}
                Some(b"[DONE]") => self.done = true,
                Some(event) => completion(event)?.choices.iter().for_each(|choice| {
                    tally.add(choice.message.content.as_deref().unwrap_or_default());
                }),
            }
        }
        Ok(())
    }
}

fn completion(json: &[u8]) -> Result<Completion<'_>, Failure> {
    let unclear = |error| Failure::NotUnderstood(format!("{error}: {}", String::from_utf8_lossy(json)));
    serde_json::from_slice(json).map_err(unclear)
}

fn text_of(json: &[u8]) -> Result<usize, Failure> {
    let texts = completion(json)?.choices.into_iter().filter_map(|choice| choice.message.content);
    Ok(texts.map(|text| text.len()).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_however_they_are_cut() {
        let wire = b": hello\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"sun \"}}]}\n\n\
            data: {\"choices\":[{\"delta\":{}}]}\n\ndata: {\"choices\":[]}\n\ndata: [DONE]\n\n";
        for size in [1, 7, wire.len()] {
            let (mut events, mut tally) = (Events::default(), Tally::default());
            wire.chunks(size).for_each(|chunk| events.read(chunk, &mut tally).unwrap());
            assert!(events.done);
            assert!(format!("{tally:?}").contains("text: 4"), "{tally:?}");
        }
    }

    #[test]
    fn an_answer_of_another_shape_is_a_failure() {
        assert_eq!(text_of(br#"{"choices":[{"message":{"content":"a\nb"}}]}"#).unwrap(), 3);
        assert!(matches!(text_of(br#"{"error":{}}"#), Err(Failure::NotUnderstood(_))));
    }
}
