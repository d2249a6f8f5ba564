//! A client of the mesh's router, as generated from the protos.

use std::time::Duration;

use tonic::{
    Request, Status,
    transport::{Channel, Endpoint},
};
use tutti_proto::{
    llm::v1::{Message, Role},
    router::v1::{
        ChatRequest, ChatStreamRequest, chat_stream_response::Event, router_service_client::RouterServiceClient,
    },
};

use crate::target::{Failure, Tally};

/// Longer than any call of a run takes.
const TIMEOUT: Duration = Duration::from_secs(120);

/// A fixed number of connections.
#[derive(Debug)]
pub(crate) struct Client {
    channels: Vec<Channel>,
    backend: String,
    /// What calls go on with, by turns; none: nothing is remembered between calls.
    sessions: Vec<String>,
}

impl Client {
    /// Connects so many times to `address` (`http://host:port`). Calls name this backend; empty lets the router choose.
    ///
    /// # Errors
    /// When nobody answers there.
    pub(crate) async fn connect(address: &str, connections: usize, backend: &str) -> Result<Self, Failure> {
        let mut channels = Vec::with_capacity(connections);
        for _ in 0..connections {
            let endpoint = Endpoint::from_shared(address.to_owned())?.tcp_nodelay(true);
            channels.push(endpoint.connect().await?);
        }
        Ok(Self { channels, backend: backend.to_owned(), sessions: Vec::new() })
    }

    /// The same connections, with calls that go on with these sessions, one after the other.
    pub(crate) fn of_sessions(&self, sessions: Vec<String>) -> Self {
        Self { channels: self.channels.clone(), backend: self.backend.clone(), sessions }
    }

    /// Bytes of text of a whole answer.
    pub(crate) async fn unary(&self, slot: usize, prompt: &str) -> Result<usize, Failure> {
        let response = self.router(slot).chat(timed(self.chat(slot, prompt))).await?.into_inner();
        Ok(response.message.map_or(0, |message| message.text.len()))
    }

    /// Reads a streamed answer to its last event.
    pub(crate) async fn stream(&self, slot: usize, prompt: &str, tally: &mut Tally) -> Result<(), Failure> {
        let request = timed(ChatStreamRequest { chat: Some(self.chat(slot, prompt)) });
        let mut stream = self.router(slot).chat_stream(request).await?.into_inner();
        let mut done = false;
        while let Some(response) = stream.message().await? {
            match response.event {
                Some(Event::Delta(text)) => tally.add(&text),
                Some(Event::Done(_)) => done = true,
                _ => {}
            }
        }
        if done { Ok(()) } else { Err(Failure::NotUnderstood("the stream has no last event".to_owned())) }
    }

    fn router(&self, slot: usize) -> RouterServiceClient<Channel> {
        RouterServiceClient::new(self.channels[slot % self.channels.len()].clone())
    }

    fn chat(&self, slot: usize, prompt: &str) -> ChatRequest {
        let session_id = self.sessions.get(slot % self.sessions.len().max(1)).cloned().unwrap_or_default();
        let message = Message { role: Role::User.into(), text: prompt.to_owned(), ..Default::default() };
        ChatRequest { messages: vec![message], backend: self.backend.clone(), session_id, ..Default::default() }
    }
}

/// The request with a deadline that it keeps.
pub(crate) fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(TIMEOUT);
    request
}

impl From<tonic::transport::Error> for Failure {
    fn from(error: tonic::transport::Error) -> Self {
        use std::error::Error as _;
        Self::Connection(error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}")))
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Refused(format!("{:?}: {}", status.code(), status.message()))
    }
}
