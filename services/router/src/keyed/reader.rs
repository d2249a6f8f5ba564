//! One who reads a call.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::sync::watch;
use tutti_error::{Error, Reason, Result};
use tutti_layers::CallContext;
use tutti_proto::router::v1::{ChatResponse, ChatStreamResponse, chat_stream_response::Event};
use tutti_types::RequestId;

use super::follow::{Follow, News, Owner};
use crate::{app::Desk, domain::ask::Ask};

/// A reader is told that its time is over a little before it is.
const MARGIN: Duration = Duration::from_millis(50);

/// How long those who only attach wait for somebody who takes a call over.
const ORPHAN: Duration = Duration::from_secs(5);

/// Reads a call from an event on, wherever it runs. While there are readers, and for a time of grace after the last has
/// left, it goes on.
pub(crate) struct Reader {
    desk: Arc<Desk>,
    follow: Arc<Follow>,
    changes: watch::Receiver<()>,
    /// Number of the last event that was read.
    after: u64,
    /// Events that are read next.
    page: VecDeque<ChatStreamResponse>,
    over: bool,
    context: CallContext,
    /// What this replica needs to take the call over; those who only attach don't have it.
    heir: Option<Ask>,
}

impl Reader {
    /// A reader of a call that knows of it: [`Follow::enter`].
    pub(super) fn new(
        desk: Arc<Desk>,
        (follow, after): (Arc<Follow>, u64),
        context: &CallContext,
        heir: Option<Ask>,
    ) -> Self {
        let changes = follow.changes();
        let (page, context) = (VecDeque::new(), context.clone());
        Self { desk, follow, changes, after, page, over: false, context, heir }
    }

    /// The id of the request that made the call.
    pub(crate) fn request_id(&self) -> RequestId {
        self.follow.request_id
    }

    /// When the call was made, in microseconds since 1970.
    pub(crate) fn created_at(&self) -> i64 {
        self.follow.created_at
    }

    /// The next event, or why the call failed; `None` at the end. Nothing is lost when the future is dropped.
    pub(crate) async fn next(&mut self) -> Option<Result<ChatStreamResponse>> {
        loop {
            if let Some(event) = self.page.pop_front() {
                self.after = event.seq;
                return Some(Ok(event));
            }
            if self.over {
                return None;
            }
            match self.more().await {
                Ok(true) => {}
                Ok(false) => self.over = true,
                Err(error) => {
                    self.over = true;
                    return Some(Err(error));
                }
            }
        }
    }

    /// Fills the page, or waits for a change; `false` at the end.
    async fn more(&mut self) -> Result<bool> {
        self.changes.borrow_and_update();
        match self.follow.after(self.after) {
            News::Events(events) => self.page.extend(events),
            News::Stored => self.page.extend(self.desk.keyed.stored(&self.follow, self.after).await?),
            News::End(end) => return end.map(|()| false),
            News::Wait(owner) => self.wait(owner).await?,
        }
        Ok(true)
    }

    /// Waits for a change. A call whose owner died is taken over, by whoever brought its request.
    async fn wait(&mut self, owner: Owner) -> Result<()> {
        let is_dead = matches!(owner, Owner::Dead(_));
        if let Some(ask) = self.heir.as_ref().filter(|_| is_dead) {
            self.desk.take_over(&self.follow, ask, &self.context);
        }
        let left = self.context.deadline.remaining();
        let mut patience = left - MARGIN.min(left / 20);
        let is_orphan = is_dead && self.heir.is_none();
        if is_orphan {
            patience = patience.min(ORPHAN);
        }
        match tokio::time::timeout(patience, self.changes.changed()).await {
            // The sender lives as long as this.
            Ok(_) => Ok(()),
            Err(_) if is_orphan => Err(orphaned()),
            Err(_) => Err(too_late(self.follow.request_id, self.after)),
        }
    }

    /// The answer, once the call has ended.
    ///
    /// # Errors
    /// The call's failure; DEADLINE_EXCEEDED.
    pub(crate) async fn answer(mut self) -> Result<ChatResponse> {
        loop {
            self.changes.borrow_and_update();
            match self.follow.end() {
                Ok(end) => break end?,
                Err(owner) => self.wait(owner).await?,
            }
        }
        let last = match self.follow.last() {
            Some(last) => Some(last),
            None => self.desk.keyed.last(&self.follow).await?,
        };
        match last.and_then(|last| last.event) {
            Some(Event::Done(answer)) => Ok(answer),
            _ => Err(Error::internal("a call that has ended well has no answer")),
        }
    }

    /// Leaves out what was taken back, where all is known already: for formats that have no `rewind`.
    ///
    /// # Errors
    /// STORE_UNAVAILABLE.
    pub(crate) async fn leave_out_void(&mut self) -> Result<()> {
        if !self.follow.has_ended() {
            return Ok(());
        }
        let mut events: Vec<ChatStreamResponse> = Vec::new();
        loop {
            let after = self.after;
            for event in self.desk.keyed.stored(&self.follow, after).await? {
                self.after = event.seq;
                match &event.event {
                    Some(Event::Rewind(rewind)) => events.retain(|event| event.seq <= rewind.to_seq),
                    _ => events.push(event),
                }
            }
            if self.after >= self.follow.recorded() || self.after == after {
                self.page.extend(events);
                return Ok(());
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.follow.leave();
    }
}

fn orphaned() -> Error {
    let message = "the router that ran the call died; send the request again with its idempotency key";
    Error::new(Reason::ServiceUnavailable, message)
}

fn too_late(id: RequestId, after: u64) -> Error {
    let message = format!(
        "the deadline passed, and the call goes on for a while: send the same request with its idempotency key, or Attach \
         to {id} after event {after}"
    );
    Error::new(Reason::DeadlineExceeded, message)
}
