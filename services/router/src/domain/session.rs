//! The log of one turn in its session: appended in pieces, closed once, also when nobody waits any more.

use std::{sync::Arc, time::Duration};

use tutti_error::Result;
use tutti_layers::CallContext;
use tutti_proto::{
    llm::v1::{Message, Role},
    memory::v1::{AppendMessagesRequest, TurnState},
};
use tutti_server::Tasks;
use tutti_types::{Deadline, Scope, TurnId};

use crate::clients::Sessions;

/// How long closing a turn may take once its caller's time is over.
const CLOSING: Duration = Duration::from_secs(5);
/// Pauses before an answer that was paid for is given to the memory again.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(250)];

/// The log of one turn, and what the answer in the making has said so far. Without a session nothing is written.
/// Dropped open, it closes itself as incomplete in the background.
pub(crate) struct TurnLog {
    partial: String,
    open: Option<Open>,
}

struct Open {
    sessions: Arc<dyn Sessions>,
    tasks: Tasks,
    scope: Scope,
    session_id: String,
    turn_id: TurnId,
    /// Number of the next append.
    index: u32,
    /// Who answers.
    backend: String,
    model: String,
    /// Nothing is written until the turn began.
    begun: bool,
}

impl TurnLog {
    /// A log; without a session nothing is remembered.
    pub(crate) fn new(sessions: Arc<dyn Sessions>, tasks: Tasks, scope: &Scope, session_id: &str) -> Self {
        let open = (!session_id.is_empty()).then(|| Open {
            sessions,
            tasks,
            scope: scope.clone(),
            session_id: session_id.to_owned(),
            turn_id: TurnId::generate(),
            index: 0,
            backend: String::new(),
            model: String::new(),
            begun: false,
        });
        Self { partial: String::new(), open }
    }

    /// What the answer in the making has said so far.
    pub(crate) fn partial(&self) -> &str {
        &self.partial
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
        let append = open.append(messages.to_vec(), TurnState::Open);
        open.sessions.append(context, append).await?;
        open.index += 1;
        Ok(())
    }

    /// A backend begins to answer; what another one said before is void.
    pub(crate) fn answering(&mut self, backend: &str, model: &str) {
        self.partial.clear();
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
        let Some(open) = &mut self.open else { return Ok(()) };
        let append = open.append(messages.to_vec(), TurnState::Open);
        open.sessions.append(context, append).await?;
        open.index += 1;
        Ok(())
    }

    /// Writes the answer and closes the turn. An answer is worth more than its log: the memory's failure is returned
    /// only after several tries, for a warning.
    ///
    /// # Errors
    /// The memory's.
    pub(crate) async fn complete(&mut self, context: &CallContext, messages: &[Message]) -> Result<()> {
        let Some(open) = &mut self.open else { return Ok(()) };
        let append = open.append(messages.to_vec(), TurnState::Complete);
        let mut result = open.sessions.append(context, append.clone()).await;
        for pause in PAUSES {
            if result.is_ok() {
                break;
            }
            tokio::time::sleep(pause).await;
            result = open.sessions.append(context, append.clone()).await;
        }
        // Closed either way: a later "incomplete" would be a lie.
        self.open = None;
        result
    }

    /// Closes the turn as incomplete with what was said, and waits for it unless the caller's time is over.
    pub(crate) async fn incomplete(&mut self, wait: bool) {
        let Some(open) = self.open.take() else { return };
        match open.closing(&self.partial) {
            Some(closing) if wait => closing.await,
            Some(closing) => open.tasks.spawn(closing),
            None => {}
        }
    }
}

impl Drop for TurnLog {
    fn drop(&mut self) {
        let Some(open) = self.open.take() else { return };
        // A runtime that is shutting down takes no tasks.
        if tokio::runtime::Handle::try_current().is_ok()
            && let Some(closing) = open.closing(&self.partial)
        {
            open.tasks.spawn(closing);
        }
    }
}

impl Open {
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

    /// The last append of a turn that broke; `None` when nothing was written.
    fn closing(&self, partial: &str) -> Option<impl Future<Output = ()> + Send + 'static + use<>> {
        if !self.begun {
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
            let context = CallContext { scope, deadline: Deadline::after(CLOSING) };
            if let Err(error) = sessions.append(&context, append).await {
                tracing::warn!(%error, "a broken turn could not be marked incomplete");
            }
        })
    }
}
