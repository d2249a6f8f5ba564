//! The events of one turn on their way to the caller: numbered, bounded, and merged for a slow reader.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;
use tutti_proto::router::v1::chat_stream_response::Event;

/// Text that waits for the reader, in bytes; beyond it the turn waits.
const MAX_BYTES: usize = 64 * 1024;
/// Events that wait for the reader.
const MAX_EVENTS: usize = 256;
/// What an event without text counts.
const EVENT_BYTES: usize = 64;

/// The writing end. Without a reader, events are dropped.
#[derive(Clone, Default)]
pub(crate) struct Outbox(Option<Arc<Shared>>);

/// The reading end.
pub(crate) struct Events(Arc<Shared>);

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    readable: Notify,
    writable: Notify,
}

#[derive(Default)]
struct Queue {
    events: VecDeque<(u64, Event)>,
    bytes: usize,
    /// Number of the last event that was added.
    last: u64,
    /// The last event stays as it is: nothing is joined to it.
    sealed: bool,
}

impl Outbox {
    /// An outbox with its reader; its events count from 1.
    pub(crate) fn new() -> (Self, Events) {
        Self::after(0)
    }

    /// An outbox with its reader; its events count from the number after this one.
    pub(crate) fn after(last: u64) -> (Self, Events) {
        let queue = Mutex::new(Queue { last, ..Queue::default() });
        let shared = Arc::new(Shared { queue, ..Shared::default() });
        (Self(Some(shared.clone())), Events(shared))
    }

    /// The number of the last event; what is added from here on gets a higher one. 0 without a reader.
    pub(crate) fn mark(&self) -> u64 {
        let Some(shared) = &self.0 else { return 0 };
        let mut queue = shared.lock();
        queue.sealed = true;
        queue.last
    }

    /// Adds an event; text is joined to the text before it. Waits while the reader has 64 KiB to read.
    pub(crate) async fn push(&self, event: Event) {
        let Some(shared) = &self.0 else { return };
        let mut event = Some(event);
        loop {
            // Taken before looking, so that a reader in between is not missed.
            let writable = shared.writable.notified();
            if let Some(waiting) = event.take() {
                event = shared.lock().add(waiting);
            }
            if event.is_none() {
                shared.readable.notify_one();
                return;
            }
            writable.await;
        }
    }
}

impl Events {
    /// The next event with its number, once there is one.
    pub(crate) async fn next(&self) -> (u64, Event) {
        loop {
            if let Some(event) = self.try_next() {
                return event;
            }
            // One permit is kept, so that a push in between is not missed.
            self.0.readable.notified().await;
        }
    }

    /// The next event with its number, if there is one.
    pub(crate) fn try_next(&self) -> Option<(u64, Event)> {
        let event = self.0.lock().take();
        if event.is_some() {
            self.0.writable.notify_waiters();
        }
        event
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing in here panics half-way.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// Takes the event, or gives it back when there is no room.
    fn add(&mut self, event: Event) -> Option<Event> {
        let size = size(&event);
        // What is larger than all room goes alone.
        let full = self.bytes + size > MAX_BYTES && self.bytes > 0;
        let full = full || self.events.len() >= MAX_EVENTS;
        // The end has always room: nothing follows it, and a turn must not wait for a reader who has gone to sleep.
        if full && !matches!(event, Event::Done(_)) {
            return Some(event);
        }
        self.bytes += size;
        let back = self.events.back_mut().filter(|_| !self.sealed).map(|(_, back)| back);
        match (back, event) {
            (Some(Event::Delta(text)), Event::Delta(more)) | (Some(Event::Reasoning(text)), Event::Reasoning(more)) => {
                text.push_str(&more);
            }
            (_, event) => {
                self.last += 1;
                self.sealed = false;
                self.events.push_back((self.last, event));
            }
        }
        None
    }

    fn take(&mut self) -> Option<(u64, Event)> {
        let (number, event) = self.events.pop_front()?;
        self.bytes = if self.events.is_empty() { 0 } else { self.bytes.saturating_sub(size(&event)) };
        Some((number, event))
    }
}

fn size(event: &Event) -> usize {
    match event {
        Event::Delta(text) | Event::Reasoning(text) => text.len(),
        // The end always has room.
        Event::Done(_) => EVENT_BYTES,
        event => event.encoded_len() + EVENT_BYTES,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tutti_proto::sandbox::v1::{ApprovalRequired, ToolResult};

    use super::*;

    fn text((_, event): (u64, Event)) -> String {
        let Event::Delta(text) = event else { panic!("not text: {event:?}") };
        text
    }

    #[tokio::test]
    async fn text_for_a_slow_reader_is_merged() {
        let (outbox, events) = Outbox::new();
        for piece in ["a", "b", "c"] {
            outbox.push(Event::Delta(piece.into())).await;
        }
        outbox.push(Event::Reasoning("r".into())).await;
        assert_eq!(text(events.next().await), "abc");
        assert_eq!(events.next().await, (2, Event::Reasoning("r".into())));
        assert_eq!(events.try_next(), None);
    }

    #[tokio::test]
    async fn nothing_is_joined_to_what_stands_before_a_mark() {
        let (outbox, events) = Outbox::after(6);
        assert_eq!(outbox.mark(), 6);
        outbox.push(Event::Delta("a".into())).await;
        assert_eq!(outbox.mark(), 7);
        outbox.push(Event::Delta("b".into())).await;
        outbox.push(Event::Delta("c".into())).await;
        assert_eq!(outbox.mark(), 8);
        assert_eq!(events.try_next(), Some((7, Event::Delta("a".into()))));
        assert_eq!(events.try_next(), Some((8, Event::Delta("bc".into()))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_writer_waits_when_64_kib_are_unread_and_loses_nothing() {
        let (outbox, events) = Outbox::new();
        let piece = "x".repeat(1024);
        for _ in 0..64 {
            outbox.push(Event::Delta(piece.clone())).await;
        }
        let blocked = outbox.push(Event::Delta(piece));
        tokio::pin!(blocked);
        assert!(tokio::time::timeout(Duration::from_secs(1), &mut blocked).await.is_err());
        assert_eq!(text(events.next().await).len(), 64 * 1024);
        blocked.await;
        assert_eq!(text(events.next().await).len(), 1024);
    }

    #[tokio::test(start_paused = true)]
    async fn many_small_events_are_bounded_too() {
        let (outbox, events) = Outbox::new();
        let push = async {
            for n in 0..1000 {
                outbox.push(if n % 2 == 0 { Event::Delta("x".into()) } else { Event::Reasoning("y".into()) }).await;
            }
        };
        tokio::pin!(push);
        assert!(tokio::time::timeout(Duration::from_secs(1), &mut push).await.is_err());
        assert_eq!(events.0.lock().events.len(), MAX_EVENTS);
    }

    #[tokio::test(start_paused = true)]
    async fn results_of_tools_count_with_all_they_say() {
        let whole =
            ToolResult { output: "x".repeat(MAX_BYTES / 2), error: "y".repeat(MAX_BYTES / 2), ..Default::default() };
        let approval = ApprovalRequired { because: "z".repeat(MAX_BYTES), ..Default::default() };
        for large in [Event::ToolResult(whole), Event::ApprovalRequired(approval)] {
            let (outbox, _events) = Outbox::new();
            outbox.push(large).await;
            let second = outbox.push(Event::Delta("more".into()));
            assert!(tokio::time::timeout(Duration::from_secs(1), second).await.is_err());
        }
    }

    #[tokio::test]
    async fn without_a_reader_nothing_is_kept() {
        let outbox = Outbox::default();
        for _ in 0..10_000 {
            outbox.push(Event::ToolCall(Default::default())).await;
        }
    }
}
