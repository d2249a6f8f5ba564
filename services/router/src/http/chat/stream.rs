//! A turn as OpenAI's `chat.completion.chunk` events.

use std::{io::Write as _, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::Response,
};
use futures::stream;
use serde::Serialize;
use tokio::time::{Instant, timeout_at};
use tutti_error::{Error, Reason, Result};
use tutti_proto::router::v1::{ChatResponse, ChatStreamResponse, RouteChosen, chat_stream_response::Event};
use tutti_types::RequestId;

use super::{
    Style,
    answer::{About, Call, Used, finish_reason},
    event_stream, state,
};
use crate::{
    app::Events,
    http::{error, put_backend, seconds},
};

/// Connections that stay silent longer are cut by many a proxy.
const PING: Duration = Duration::from_secs(15);

/// Streams a turn. Until its first output a failure has a status of its own; the head goes out without output only when
/// the client would otherwise hear nothing for too long.
///
/// # Errors
/// Those of the turn before its first output.
pub(super) async fn response(events: Events, style: Style) -> Result<Response<Body>> {
    let mut chunks = Chunks::new(events, style);
    let first = timeout_at(Instant::now() + PING, chunks.next()).await;
    let first = match first {
        Ok(Some(Ok(bytes))) => bytes,
        Ok(Some(Err(error))) => return Err(error),
        Ok(None) => return Err(Error::internal("a turn ended without an answer")),
        Err(_) => Bytes::from_static(b": ping\n\n"),
    };
    let (backend, attempts) = (chunks.backend.clone(), chunks.attempts);
    let next = |(first, mut chunks): (Option<Bytes>, Chunks)| async move {
        let bytes = match first {
            Some(first) => first,
            None => chunks.next_or_ping().await?,
        };
        Some((Ok::<_, std::convert::Infallible>(bytes), (None, chunks)))
    };
    let body = Body::from_stream(stream::unfold((Some(first), chunks), next));
    let mut response = event_stream(body);
    put_backend(response.headers_mut(), &backend, attempts);
    Ok(response)
}

/// The turn's events, written.
struct Chunks {
    events: Events,
    style: Style,
    id: RequestId,
    created: i64,
    /// What every chunk begins with, up to its delta; empty before the first one.
    prefix: Vec<u8>,
    backend: String,
    model: String,
    attempts: usize,
    /// Tool calls that were sent.
    calls: usize,
    /// Nothing follows.
    over: bool,
}

#[derive(Serialize)]
struct Reasoning {
    reasoning_details: Vec<state::Detail>,
}

#[derive(Serialize)]
struct Calls<'a> {
    tool_calls: [Call<'a>; 1],
}

impl Chunks {
    fn new(events: Events, style: Style) -> Self {
        Self {
            id: events.request_id(),
            created: seconds(events.created_at()),
            events,
            style,
            prefix: Vec::new(),
            backend: String::new(),
            model: String::new(),
            attempts: 1,
            calls: 0,
            over: false,
        }
    }

    /// The next chunk, a sign of life, or the failure as an event, after which the stream ends without `[DONE]`.
    async fn next_or_ping(&mut self) -> Option<Bytes> {
        match timeout_at(Instant::now() + PING, self.next()).await {
            Err(_) => Some(Bytes::from_static(b": ping\n\n")),
            Ok(None) => None,
            Ok(Some(Ok(bytes))) => Some(bytes),
            Ok(Some(Err(error))) => {
                let mut out = b"data: ".to_vec();
                out.append(&mut error::json(&error));
                out.extend_from_slice(b"\n\n");
                Some(out.into())
            }
        }
    }

    /// What the next event that a client is shown looks like. Nothing is lost when the future is dropped.
    async fn next(&mut self) -> Option<Result<Bytes>> {
        while !self.over {
            match self.events.next().await {
                Some(Ok(ChatStreamResponse { event: Some(Event::Rewind(_)), .. })) if !self.prefix.is_empty() => {
                    self.over = true;
                    return Some(Err(taken_back()));
                }
                Some(Ok(ChatStreamResponse { event, .. })) => {
                    let Some(event) = event else { continue };
                    let bytes = self.write(event);
                    if !bytes.is_empty() {
                        return Some(Ok(bytes.into()));
                    }
                }
                Some(Err(error)) => {
                    self.over = true;
                    return Some(Err(error));
                }
                None => self.over = true,
            }
        }
        None
    }

    /// One event; empty when clients of this format have no use for it.
    fn write(&mut self, event: Event) -> Vec<u8> {
        let mut out = Vec::new();
        match event {
            Event::Route(route) => self.route(route),
            Event::Delta(text) => self.delta(&mut out, b"{\"content\":", &text),
            Event::Reasoning(text) => self.delta(&mut out, b"{\"reasoning_content\":", &text),
            Event::ToolCall(call) if self.style.is_clients(&call.name) => {
                let call = Calls { tool_calls: [Call::of(&call, Some(self.calls))] };
                self.calls += 1;
                self.chunk(&mut out, |out| json(out, &call), None);
            }
            Event::Done(answer) if !is_failure(&answer) => self.end(&mut out, &answer),
            _ => {}
        }
        out
    }

    fn route(&mut self, route: RouteChosen) {
        self.attempts += usize::from(route.failed_attempt.is_some());
        // A later round may be another backend's: the chunks keep the name that they began with.
        if self.prefix.is_empty() {
            (self.backend, self.model) = (route.backend, route.model);
        }
    }

    /// A piece of text; `key` opens its object.
    fn delta(&mut self, out: &mut Vec<u8>, key: &[u8], text: &str) {
        out.reserve(self.prefix.len() + text.len() + 64);
        let delta = |out: &mut Vec<u8>| {
            out.extend_from_slice(key);
            json(out, text);
            out.push(b'}');
        };
        self.chunk(out, delta, None);
    }

    /// A chunk with a delta and, at the end, a finish reason; before the first one, the role.
    fn chunk(&mut self, out: &mut Vec<u8>, delta: impl FnOnce(&mut Vec<u8>), finish: Option<&str>) {
        if self.prefix.is_empty() {
            self.prefix = self.begin();
            let role = |out: &mut Vec<u8>| out.extend_from_slice(b"{\"role\":\"assistant\",\"content\":\"\"}");
            self.write_chunk(out, role, None);
        }
        self.write_chunk(out, delta, finish);
    }

    fn write_chunk(&self, out: &mut Vec<u8>, delta: impl FnOnce(&mut Vec<u8>), finish: Option<&str>) {
        out.extend_from_slice(&self.prefix);
        out.extend_from_slice(b"[{\"index\":0,\"delta\":");
        delta(out);
        out.extend_from_slice(b",\"logprobs\":null,\"finish_reason\":");
        json(out, &finish);
        out.extend_from_slice(if self.style.include_usage { b"}],\"usage\":null}\n\n" } else { b"}]}\n\n" });
    }

    fn begin(&self) -> Vec<u8> {
        let mut prefix = b"data: ".to_vec();
        // A vector takes all that is written to it.
        let _ = write!(
            prefix,
            "{{\"id\":\"chatcmpl-{}\",\"object\":\"chat.completion.chunk\",\"created\":{},\"model\":",
            self.id, self.created
        );
        json(&mut prefix, &self.model);
        prefix.extend_from_slice(b",\"choices\":");
        prefix
    }

    /// What must come back, the finish reason, the usage where it was asked for, and the end mark.
    fn end(&mut self, out: &mut Vec<u8>, answer: &ChatResponse) {
        let details = answer.message.as_ref().map(state::details).unwrap_or_default();
        if !details.is_empty() {
            let details = Reasoning { reasoning_details: details };
            self.chunk(out, |out| json(out, &details), None);
        }
        self.chunk(out, |out| out.extend_from_slice(b"{}"), Some(finish_reason(answer)));
        // The last chunk says what only Tutti knows.
        out.truncate(out.len() - b"}\n\n".len());
        out.extend_from_slice(b",\"tutti\":");
        json(out, &About::of(answer));
        out.extend_from_slice(b"}\n\n");
        if self.style.include_usage {
            out.extend_from_slice(&self.prefix);
            out.extend_from_slice(b"[],\"usage\":");
            json(out, &Used::of(&answer.usage.unwrap_or_default()));
            out.extend_from_slice(b"}\n\n");
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
        self.over = true;
    }
}

/// What was sent is void, and this format can't say so.
fn taken_back() -> Error {
    let message = "the router that answered died; send the request again with its idempotency key";
    Error::new(Reason::Truncated, message).after_output()
}

/// `done` of a turn that failed; its error follows.
fn is_failure(answer: &ChatResponse) -> bool {
    use tutti_proto::llm::v1::FinishReason;
    matches!(answer.finish_reason(), FinishReason::Error | FinishReason::Cancelled)
}

/// Texts and numbers alone, into memory: neither fails.
fn json(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    let _ = serde_json::to_writer(out, value);
}
