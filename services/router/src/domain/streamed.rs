//! A streamed turn as its reader sees it.

use tokio::task::JoinSet;
use tracing::Instrument as _;
use tutti_error::{Error, Result};
use tutti_proto::router::v1::chat_stream_response::Event;

use super::{outbox::Events, turn::Turn};

/// The events of a turn, then how it ended. The turn is a task of its own, so that it goes on (deadline, cancel, its
/// log) while the reader sleeps; dropping this ends it.
pub(crate) struct Streamed {
    events: Events,
    task: JoinSet<Result<()>>,
    /// How the turn ended, taken once it was told.
    ended: Option<Option<Error>>,
}

impl Streamed {
    /// Starts a turn; `events` is the reading end of its outbox.
    pub(crate) fn start(turn: Turn, events: Events) -> Self {
        let mut task = JoinSet::new();
        task.spawn(async move { Box::pin(turn.run()).await.map(drop) }.in_current_span());
        Self { events, task, ended: None }
    }

    /// What comes next, if it is there: as [`Streamed::next`] gives it.
    pub(crate) fn try_next(&mut self) -> Option<Option<Result<(u64, Event)>>> {
        self.events.try_next().map(|event| Some(Ok(event)))
    }

    /// The next event with its number, or why the turn failed; `None` at the end. Nothing is lost when the future is
    /// dropped.
    pub(crate) async fn next(&mut self) -> Option<Result<(u64, Event)>> {
        loop {
            // All events first: `done` was pushed before the turn ended.
            if let Some(event) = self.events.try_next() {
                return Some(Ok(event));
            }
            if let Some(ended) = &mut self.ended {
                return ended.take().map(Err);
            }
            tokio::select! {
                event = self.events.next() => return Some(Ok(event)),
                ended = self.task.join_next() => self.ended = Some(match ended {
                    Some(Ok(ended)) => ended.err(),
                    Some(Err(panicked)) => Some(Error::internal(format!("a turn broke down: {panicked}"))),
                    None => None,
                }),
            }
        }
    }
}
