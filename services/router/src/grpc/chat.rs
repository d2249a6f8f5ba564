//! `Chat`, `ChatStream`, `Attach` and `Cancel`.

use std::{sync::Arc, time::Instant};

use futures::{StreamExt as _, stream, stream::BoxStream};
use tonic::Status;
use tutti_error::Result;
use tutti_layers::CallContext;
use tutti_proto::router::v1::{
    AttachRequest, AttachResponse, CancelRequest, ChatRequest, ChatResponse, ChatStreamResponse,
};
use tutti_types::RequestId;

use crate::{
    app::{Desk, Events},
    domain::ask::Ask,
};

/// A turn, collected.
pub(crate) async fn chat(
    desk: &Arc<Desk>,
    context: &CallContext,
    arrived: Instant,
    chat: ChatRequest,
) -> Result<ChatResponse> {
    Ok(desk.answer(context, arrived, Ask::read(chat, "", false)?).await?.response)
}

/// A turn, streamed.
pub(crate) async fn chat_stream(
    desk: &Arc<Desk>,
    context: &CallContext,
    arrived: Instant,
    chat: ChatRequest,
) -> Result<BoxStream<'static, Result<ChatStreamResponse, Status>>> {
    let events = desk.stream(context, arrived, Ask::read(chat, "chat.", true)?).await?;
    Ok(statuses(events, |event| event))
}

/// A turn with an idempotency key, read again.
pub(crate) async fn attach(
    desk: &Arc<Desk>,
    context: &CallContext,
    request: &AttachRequest,
) -> Result<BoxStream<'static, Result<AttachResponse, Status>>> {
    let reader = desk.attach(context, RequestId::parse(&request.request_id)?, request.after_seq).await?;
    Ok(statuses(Events::Kept(Box::new(reader)), |event| AttachResponse { event: Some(event) }))
}

/// Cancels a running turn.
pub(crate) async fn cancel(desk: &Desk, context: &CallContext, request: &CancelRequest) -> Result<()> {
    desk.cancel(&context.scope, RequestId::parse(&request.request_id)?).await
}

/// The events of a turn, then its status.
fn statuses<T: Send + 'static>(
    events: Events,
    wrap: fn(ChatStreamResponse) -> T,
) -> BoxStream<'static, Result<T, Status>> {
    let next = move |mut events: Events| async move {
        let next = events.next().await?;
        Some((next.map(wrap).map_err(Status::from), events))
    };
    stream::unfold(events, next).boxed()
}
