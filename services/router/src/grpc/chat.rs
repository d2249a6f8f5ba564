//! `Chat`, `ChatStream` and `Cancel`.

use std::time::Instant;

use futures::{StreamExt as _, stream, stream::BoxStream};
use tokio::task::JoinSet;
use tonic::Status;
use tracing::Instrument as _;
use tutti_error::{Error, Result};
use tutti_layers::CallContext;
use tutti_proto::router::v1::{
    CancelRequest, ChatRequest, ChatResponse, ChatStreamResponse, chat_stream_response::Event,
};
use tutti_types::RequestId;

use crate::{
    app::Desk,
    domain::{
        ask::Ask,
        outbox::{Events, Outbox},
    },
};

/// A turn, collected. It lives in the call: a caller who goes away drops it.
pub(crate) async fn chat(
    desk: &Desk,
    context: &CallContext,
    arrived: Instant,
    chat: ChatRequest,
) -> Result<ChatResponse> {
    let ask = Ask::read(chat, "", false)?;
    let turn = desk.turn(context, arrived, ask, Outbox::default()).await?;
    Box::pin(turn.run()).await
}

/// A turn, streamed. It is a task of its own, so that it goes on (deadline, cancel, its log) while the reader sleeps;
/// the stream owns the task and ends it.
pub(crate) async fn chat_stream(
    desk: &Desk,
    context: &CallContext,
    arrived: Instant,
    chat: ChatRequest,
) -> Result<BoxStream<'static, Result<ChatStreamResponse, Status>>> {
    let ask = Ask::read(chat, "chat.", true)?;
    let request_id = ask.id.to_string();
    let (outbox, events) = Outbox::new();
    let turn = desk.turn(context, arrived, ask, outbox).await?;
    let mut task = JoinSet::new();
    task.spawn(async move { Box::pin(turn.run()).await.map(drop) }.in_current_span());
    let numbered = Numbered { request_id, seq: 0, events, task, ended: None };
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
    seq: u64,
    events: Events,
    task: JoinSet<Result<()>>,
    /// How the turn ended, taken once it was told.
    ended: Option<Option<Error>>,
}

impl Numbered {
    async fn next(&mut self) -> Option<Result<ChatStreamResponse, Status>> {
        loop {
            // All events first: `done` was pushed before the turn ended.
            if let Some(event) = self.events.try_next() {
                return Some(Ok(self.number(event)));
            }
            if let Some(ended) = &mut self.ended {
                return ended.take().map(|error| Err(error.into()));
            }
            tokio::select! {
                event = self.events.next() => return Some(Ok(self.number(event))),
                ended = self.task.join_next() => self.ended = Some(match ended {
                    Some(Ok(ended)) => ended.err(),
                    Some(Err(panicked)) => Some(Error::internal(format!("a turn broke down: {panicked}"))),
                    None => None,
                }),
            }
        }
    }

    fn number(&mut self, event: Event) -> ChatStreamResponse {
        self.seq += 1;
        ChatStreamResponse { request_id: self.request_id.clone(), seq: self.seq, event: Some(event) }
    }
}
