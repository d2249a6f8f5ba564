//! `Chat`, `ChatStream` and `Cancel`.

use std::time::Instant;

use futures::{StreamExt as _, stream, stream::BoxStream};
use tonic::Status;
use tutti_error::Result;
use tutti_layers::CallContext;
use tutti_proto::router::v1::{
    CancelRequest, ChatRequest, ChatResponse, ChatStreamResponse, chat_stream_response::Event,
};
use tutti_types::RequestId;

use crate::{
    app::Desk,
    domain::{ask::Ask, streamed::Streamed},
};

/// A turn, collected.
pub(crate) async fn chat(
    desk: &Desk,
    context: &CallContext,
    arrived: Instant,
    chat: ChatRequest,
) -> Result<ChatResponse> {
    desk.answer(context, arrived, Ask::read(chat, "", false)?).await
}

/// A turn, streamed.
pub(crate) async fn chat_stream(
    desk: &Desk,
    context: &CallContext,
    arrived: Instant,
    chat: ChatRequest,
) -> Result<BoxStream<'static, Result<ChatStreamResponse, Status>>> {
    let ask = Ask::read(chat, "chat.", true)?;
    let request_id = ask.id.to_string();
    let events = desk.stream(context, arrived, ask).await?;
    let numbered = Numbered { request_id, events };
    let next = |mut numbered: Numbered| async move { Some((numbered.next().await?, numbered)) };
    Ok(stream::unfold(numbered, next).boxed())
}

/// Cancels a running turn.
pub(crate) fn cancel(desk: &Desk, context: &CallContext, request: &CancelRequest) -> Result<()> {
    desk.running.cancel(&context.scope, RequestId::parse(&request.request_id)?)
}

/// The events of a turn with their numbers, then its status.
struct Numbered {
    request_id: String,
    events: Streamed,
}

impl Numbered {
    async fn next(&mut self) -> Option<Result<ChatStreamResponse, Status>> {
        let number = |(seq, event): (u64, Event)| ChatStreamResponse {
            request_id: self.request_id.clone(),
            seq,
            event: Some(event),
        };
        Some(self.events.next().await?.map(number).map_err(Status::from))
    }
}
