//! `POST /v1/chat/completions`.

mod answer;
mod content;
mod read;
mod request;
mod state;
mod stream;

use std::sync::Arc;

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderValue, Response, header},
};
use tutti_error::Result;
use tutti_types::RequestId;

pub(super) use self::request::OneOrMany;
use super::{Call, json, parse, put_backend, read_body, sent};
use crate::{
    app::{Answer, Desk, Events},
    domain::ask::Ask,
};

/// How an answer is to be written.
#[derive(Debug, Clone, Default)]
struct Style {
    streamed: bool,
    /// A chunk with the usage, at the end of a stream.
    include_usage: bool,
    /// With tools of the mesh, the only calls that the client is shown: those of its own tools.
    own_tools: Option<Vec<String>>,
}

impl Style {
    /// Whether the client is to run a tool of this name.
    fn is_clients(&self, tool: &str) -> bool {
        self.own_tools.as_ref().is_none_or(|own| own.iter().any(|name| name == tool))
    }
}

/// A turn.
pub(super) async fn complete(desk: &Arc<Desk>, call: &mut Call, request: Request) -> Result<Response<Body>> {
    let (head, body) = request.into_parts();
    let asked: request::ChatBody = parse(&read_body(body, &head.headers).await?)?;
    let backends = desk.planner.directory.backends().await?;
    let (mut chat, style) = read::chat(asked, &head.headers, &backends)?;
    if chat.request_id.is_empty() {
        chat.request_id = call.id.to_string();
    }
    // Text that was sent can't be taken back in this format.
    let ask = Ask { rewinds: false, ..Ask::read(chat, "", style.streamed)? };
    call.id = ask.id;
    if style.streamed {
        let mut events = desk.stream(&call.context, call.arrived, ask).await?;
        if let Events::Kept(reader) = &mut events {
            reader.leave_out_void().await?;
        }
        call.id = events.request_id();
        return stream::response(events, style).await;
    }
    let Answer { response: answer, created_at } = desk.answer(&call.context, call.arrived, ask).await?;
    // That of the request that made the call.
    call.id = RequestId::parse(&answer.request_id)?;
    let mut response = json(answer::json(&answer, created_at, &style));
    put_backend(response.headers_mut(), &answer.backend, sent(&answer.attempts));
    Ok(response)
}

/// The head of a stream.
fn event_stream(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Proxies that collect answers would turn a stream into one piece.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}
