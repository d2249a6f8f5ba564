//! The log of one turn in its session: appended in pieces, closed once, also when nobody waits any more.

use std::{sync::Arc, time::Duration};

use tokio::sync::oneshot;
use tracing::Instrument as _;
use tutti_error::{Error, Reason, Result};
use tutti_layers::CallContext;
use tutti_proto::{
    llm::v1::{Message, Role},
    memory::v1::{AppendMessagesRequest, TurnState},
};
use tutti_server::Tasks;
use tutti_types::{Deadline, Scope, TurnId};

use super::run::{Lost, Run};
use crate::clients::Sessions;

/// How long closing a turn may take once its caller's time is over.
const CLOSING: Duration = Duration::from_secs(5);
/// Pauses after each try to give the memory an answer that was paid for.
const PAUSES: [Duration; 7] = [
    Duration::from_millis(50),
    Duration::from_millis(250),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(20),
    Duration::ZERO,
];
/// The tries that the turn itself waits for.
const WAITED: usize = 3;

/// The log of one turn, and what the answer in the making has said so far. Without a session nothing is written.
/// Dropped open, it closes itself as incomplete in the background.
pub(crate) struct TurnLog {
    id: TurnId,
    partial: String,
    open: Option<Open>,
    /// Set when the log is another owner's.
    lost: Lost,
}

struct Open {
    sessions: Arc<dyn Sessions>,
    tasks: Tasks,
    scope: Scope,
    session_id: String,
    turn_id: TurnId,
    /// Number of the next append.
    index: u32,
    /// Number of the first append after the question's.
    first: u32,
    /// Who answers.
    backend: String,
    model: String,
    /// Nothing is written until the turn began.
    begun: bool,
    /// An earlier run of the call has closed the turn before it died: what it wrote stays, and nothing is added.
    closed: bool,
}

impl TurnLog {
    /// A log; without a session nothing is remembered.
    pub(crate) fn new(
        sessions: Arc<dyn Sessions>,
        tasks: Tasks,
        (scope, session_id): (&Scope, &str),
        run: &Run,
    ) -> Self {
        let id = run.id;
        let open = (!session_id.is_empty()).then(|| Open {
            sessions,
            tasks,
            scope: scope.clone(),
            session_id: session_id.to_owned(),
            turn_id: id,
            index: 0,
            first: run.first_append(),
            backend: String::new(),
            model: String::new(),
            begun: false,
            closed: false,
        });
        Self { id, partial: String::new(), open, lost: run.lost.clone() }
    }

    /// What the answer in the making has said so far.
    pub(crate) fn partial(&self) -> &str {
        &self.partial
    }

    /// The turn, in a session or not.
    pub(crate) fn id(&self) -> TurnId {
        self.id
    }

    /// The turn, for [`BuildContext`](Sessions::context).
    pub(crate) fn turn_id(&self) -> Option<TurnId> {
        self.open.as_ref().map(|open| open.turn_id)
    }

    /// Writes the caller's messages.
    ///
    /// # Errors
    /// The memory's.
    pub(crate) async fn begin(&mut self, context: &CallContext, messages: &[Message]) -> Result<()> {
        let Some(open) = &mut self.open else { return Ok(()) };
        if open.begun {
            return Ok(());
        }
        // From here on the turn may be in the log, whatever the call answers.
        open.begun = true;
        let append = open.next(messages.to_vec(), TurnState::Open);
        open.sessions.append(context, append).await
    }

    /// What was said of the answer in the making does not count.
    pub(crate) fn void(&mut self) {
        self.partial.clear();
    }

    /// A backend begins to answer, or goes on from what was said.
    pub(crate) fn answering(&mut self, backend: &str, model: &str) {
        if let Some(open) = &mut self.open {
            backend.clone_into(&mut open.backend);
            model.clone_into(&mut open.model);
        }
    }

    /// The backend said this.
    pub(crate) fn said(&mut self, text: &str) {
        self.partial.push_str(text);
    }

    /// Writes a finished tool round: the calls and their results.
    ///
    /// # Errors
    /// The memory's.
    pub(crate) async fn round(&mut self, context: &CallContext, messages: &[Message]) -> Result<()> {
        self.partial.clear();
        let Some(open) = self.open.as_mut().filter(|open| !open.closed) else { return Ok(()) };
        let append = open.next(messages.to_vec(), TurnState::Open);
        match open.sessions.append(context, append).await {
            Err(error) if open.is_closed_by_an_earlier_run(&error) => {
                tracing::warn!(%error, "the session keeps what an earlier run of this call has answered");
                open.closed = true;
                Ok(())
            }
            result => result,
        }
    }

    /// Writes the answer and closes the turn. An answer is worth more than its log: the memory's failure is returned
    /// only after several tries, for a warning. The tries go on after that, and also when nobody waits any more.
    ///
    /// # Errors
    /// The memory's.
    pub(crate) async fn complete(&mut self, messages: &[Message]) -> Result<()> {
        // Closed either way: a later "incomplete" would be a lie.
        let Some(mut open) = self.open.take().filter(|open| !open.closed) else { return Ok(()) };
        let append = open.next(messages.to_vec(), TurnState::Complete);
        let (tell, told) = oneshot::channel();
        open.tasks.clone().spawn(open.write(append, tell).in_current_span());
        let lost = || Error::new(Reason::ShuttingDown, "the router is shutting down");
        told.await.map_err(|_| lost())?
    }

    /// Closes the turn as incomplete with what was said, and waits for it unless the caller's time is over.
    pub(crate) async fn incomplete(&mut self, wait: bool) {
        let Some(open) = self.open.take().filter(|_| !self.lost.is_set()) else { return };
        match open.closing(&self.partial) {
            Some(closing) if wait => closing.await,
            Some(closing) => open.tasks.spawn(closing),
            None => {}
        }
    }
}

impl Drop for TurnLog {
    fn drop(&mut self) {
        let Some(open) = self.open.take().filter(|_| !self.lost.is_set()) else { return };
        // A runtime that is shutting down takes no tasks.
        if tokio::runtime::Handle::try_current().is_ok()
            && let Some(closing) = open.closing(&self.partial)
        {
            open.tasks.spawn(closing);
        }
    }
}

impl Open {
    /// The next append. Its number is used up before it is sent: whoever gives up waiting can't know whether it was
    /// written.
    fn next(&mut self, messages: Vec<Message>, state: TurnState) -> AppendMessagesRequest {
        let append = self.append(messages, state);
        self.index = if self.index == 0 { self.first } else { self.index + 1 };
        append
    }

    /// Whether the memory refuses an append for that reason. In a call's first run it would be a mistake of ours.
    fn is_closed_by_an_earlier_run(&self, error: &Error) -> bool {
        self.first > 1
            && error.reason() == Reason::InvalidRequest
            && error.fields().iter().any(|(field, _)| field == "turn_id")
    }

    fn append(&self, messages: Vec<Message>, state: TurnState) -> AppendMessagesRequest {
        AppendMessagesRequest {
            session_id: self.session_id.clone(),
            turn_id: self.turn_id.to_string(),
            index: self.index,
            // The first append is the caller's.
            backend: if self.index == 0 { String::new() } else { self.backend.clone() },
            model: if self.index == 0 { String::new() } else { self.model.clone() },
            messages,
            state: state.into(),
        }
    }

    /// Gives an append to the memory until it takes it; tells how it went, or how the first tries failed.
    async fn write(self, append: AppendMessagesRequest, tell: oneshot::Sender<Result<()>>) {
        let mut tell = Some(tell);
        for (tried, pause) in (1..).zip(PAUSES) {
            let context = CallContext::new(self.scope.clone(), Deadline::after(CLOSING));
            let result = self.sessions.append(&context, append.clone()).await;
            let failed = result.as_ref().err().cloned();
            let is_final = failed.as_ref().is_none_or(|error| is_hopeless(error.reason()));
            if (is_final || tried == WAITED)
                && let Some(tell) = tell.take()
            {
                // Where nobody listens, the turn was dropped.
                let _ = tell.send(result);
            }
            let Some(error) = failed else { return };
            tracing::warn!(%error, tried, "an answer could not be written to its session");
            if is_final {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // What is left of the process's time is for trying.
                () = self.tasks.stopping().cancelled() => {}
            }
        }
    }

    /// The last append of a turn that broke; `None` when nothing was written.
    fn closing(&self, partial: &str) -> Option<impl Future<Output = ()> + Send + 'static + use<>> {
        if !self.begun || self.closed {
            return None;
        }
        let partial = (!partial.is_empty()).then(|| Message {
            role: Role::Assistant.into(),
            text: partial.to_owned(),
            ..Default::default()
        });
        let append = self.append(partial.into_iter().collect(), TurnState::Incomplete);
        let (sessions, scope) = (self.sessions.clone(), self.scope.clone());
        Some(async move {
            let context = CallContext::new(scope, Deadline::after(CLOSING));
            if let Err(error) = sessions.append(&context, append).await {
                tracing::warn!(%error, "a broken turn could not be marked incomplete");
            }
        })
    }
}

/// Failures that trying again would not mend.
fn is_hopeless(reason: Reason) -> bool {
    matches!(reason, Reason::InvalidRequest | Reason::MessageTooLarge)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use tutti_proto::memory::v1::BuildContextRequest;

    use super::*;

    /// A memory in which the turn is closed after its question.
    #[derive(Debug, Default)]
    struct Closed(Mutex<Vec<u32>>);

    #[async_trait]
    impl Sessions for Closed {
        async fn context(&self, _: &CallContext, _: BuildContextRequest) -> Result<Vec<Message>> {
            Ok(Vec::new())
        }

        async fn append(&self, _: &CallContext, append: AppendMessagesRequest) -> Result<()> {
            self.0.lock().unwrap().push(append.index);
            if append.index == 0 { Ok(()) } else { Err(Error::invalid("turn_id", "the turn is closed")) }
        }
    }

    #[tokio::test]
    async fn a_turn_that_an_earlier_run_has_closed_stays_as_it_is() {
        let context = CallContext::new(Scope::default(), Deadline::after(CLOSING));
        for (number, goes_on) in [(1, true), (0, false)] {
            let memory = Arc::new(Closed::default());
            let run = Run { number, ..Run::default() };
            let same: Arc<Closed> = Arc::clone(&memory);
            let mut log = TurnLog::new(same, Tasks::default(), (&Scope::default(), "s"), &run);
            log.begin(&context, &[]).await.unwrap();
            assert_eq!(log.round(&context, &[]).await.is_ok(), goes_on);
            if goes_on {
                log.round(&context, &[]).await.unwrap();
                log.complete(&[]).await.unwrap();
                assert_eq!(*memory.0.lock().unwrap(), [0, run.first_append()], "nothing is tried again");
            }
        }
    }
}
