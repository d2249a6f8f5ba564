//! What becomes of a generation that failed: the next backend, or the turn's end.

use std::time::Duration;

use tutti_error::{Error, Reason, Result};
use tutti_proto::{
    gateway::v1::GenerateResponse,
    llm::v1::{Attempt, AttemptOutcome, Message, Part, ResponseFormat, Role, part::Kind, response_format},
    router::v1::{Rewind, StreamFailureMode, chat_stream_response::Event},
};

use super::{GatewayEvent, Turn};

/// What a backend is told that goes on with another one's text. An instruction works with every model; a prefilled
/// answer is refused by most new ones.
const CONTINUE: &str = "Your answer above was cut off. Go on exactly where it stopped: repeat nothing, comment on \
                        nothing, and begin with the very next character.";

/// A generation that failed.
pub(super) struct Broken {
    pub(super) error: Error,
    /// What the gateway's `done` said of it.
    pub(super) done: Option<GenerateResponse>,
    /// What the caller has seen of it.
    pub(super) delivered: Delivered,
    /// The gateway itself went away in the middle: one that is there says `done` first.
    pub(super) gone: bool,
}

impl Broken {
    /// Whether the same backend is asked once more: a model that gets the form of its answer wrong often gets it right
    /// when it tries again; and a gateway that died says nothing about the backend, which another gateway can ask. What
    /// the dead one had reserved lapses into a record marked as assumed; the new attempt has a hold of its own.
    fn may_mend(&self) -> bool {
        self.gone || self.error.reason() == Reason::MalformedOutput
    }
}

/// How much of a generation its caller has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Delivered {
    Nothing,
    /// Text or reasoning.
    Text,
    /// A call of a tool.
    Call,
}

impl Delivered {
    pub(super) fn of(event: &GatewayEvent) -> Self {
        match event {
            GatewayEvent::Delta(_) | GatewayEvent::Reasoning(_) => Self::Text,
            GatewayEvent::ToolCall(_) => Self::Call,
            GatewayEvent::Usage(_) | GatewayEvent::Attempt(_) | GatewayEvent::Done(_) => Self::Nothing,
        }
    }
}

/// How a turn goes on after a generation that broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Recovery {
    /// It doesn't.
    End,
    /// The next backend begins anew; what was seen of this answer is void.
    Restart,
    /// The next backend goes on from what was said.
    Resume,
    /// The next backend answers; nothing was seen of the one that failed.
    Next,
}

impl Turn {
    /// Moves to the next backend, and gives the attempt that failed.
    pub(super) async fn fall_back(&mut self, broken: Broken) -> Result<Attempt> {
        let failed = self.tally.failed(&self.plan.decision.taken[self.at], &broken.error, broken.done.as_ref());
        let again = self.regenerates(&broken);
        let Broken { error, done, delivered, .. } = broken;
        self.retry_after = self.retry_after.into_iter().chain(error.retry_delay()).min();
        match self.recovery(&error, delivered, again) {
            Recovery::End => {
                self.broken = done.and_then(|done| done.message);
                return Err(self.ending(error, delivered));
            }
            Recovery::Restart => {
                self.stands.clear();
                self.log.void();
                let rewind = Rewind { to_seq: self.mark, reason: error.reason().into() };
                self.outbox.push(Event::Rewind(rewind)).await;
            }
            Recovery::Resume => {
                self.stands = self.log.partial().to_owned();
                let broke = &self.taken().backend.name;
                self.warn(vec![format!("{broke} broke off in its answer, which was gone on with from there")]).await;
            }
            Recovery::Next if self.stands.is_empty() => self.log.void(),
            Recovery::Next => {}
        }
        tracing::info!(request_id = %self.ask.id, backend = self.taken().backend.name, %error, "falling back");
        if again {
            self.regenerated = true;
        } else {
            self.at += 1;
            self.regenerated = false;
            self.shown = None;
        }
        Ok(failed)
    }

    /// `again`: on the same backend.
    fn recovery(&self, error: &Error, delivered: Delivered, again: bool) -> Recovery {
        if ends_the_turn(error.reason()) || (self.is_last() && !again) {
            return Recovery::End;
        }
        if delivered == Delivered::Nothing {
            return Recovery::Next;
        }
        // What was seen is taken back only for an attempt that may be made.
        if self.limits().is_err() {
            return Recovery::End;
        }
        match self.ask.chat.on_stream_failure() {
            // Its caller has seen nothing, and those who read along understand.
            _ if !self.ask.streamed => Recovery::Restart,
            StreamFailureMode::Resume if delivered == Delivered::Text && self.can_resume() => Recovery::Resume,
            StreamFailureMode::Restart | StreamFailureMode::Resume if self.ask.rewinds => Recovery::Restart,
            _ => Recovery::End,
        }
    }

    fn is_last(&self) -> bool {
        self.at + 1 == self.plan.decision.taken.len()
    }

    /// Whether the backend in use gets a second chance: once, while the bounds allow it.
    fn regenerates(&self, broken: &Broken) -> bool {
        broken.may_mend() && !self.regenerated && self.limits().is_ok()
    }

    /// Half an answer of a given form can't be joined to the rest of another, and reasoning alone is no beginning.
    fn can_resume(&self) -> bool {
        use response_format::Kind;
        let format = self.ask.chat.response_format.as_ref().map(ResponseFormat::kind);
        matches!(format, None | Some(Kind::Unspecified | Kind::Text)) && !self.log.partial().is_empty()
    }

    /// How a turn ends that nobody takes over.
    fn ending(&self, error: Error, delivered: Delivered) -> Error {
        if delivered > Delivered::Nothing || !self.stands.is_empty() {
            return error.after_output();
        }
        if ends_the_turn(error.reason()) || self.plan.decision.named {
            return error;
        }
        all_failed(&self.tally.attempts, self.retry_after)
    }

    /// The beginning of the answer, and that it is to be gone on with.
    pub(super) fn continuation(&self) -> Vec<Message> {
        if self.stands.is_empty() {
            return Vec::new();
        }
        let message = |role: Role, text: &str| Message { role: role.into(), text: text.into(), ..Default::default() };
        vec![message(Role::Assistant, &self.stands), message(Role::User, CONTINUE)]
    }
}

/// An answer with the beginning that others have made.
pub(super) fn joined(beginning: String, mut response: GenerateResponse) -> GenerateResponse {
    if beginning.is_empty() {
        return response;
    }
    let message = response.message.get_or_insert_default();
    message.text.insert_str(0, &beginning);
    // The text parts say the same as the text.
    if let Some(first) = message.parts.iter().position(|part| matches!(part.kind, Some(Kind::Text(_)))) {
        message.parts.insert(first, Part { kind: Some(Kind::Text(beginning)), cache_hint: None });
    }
    response
}

/// Nobody is left to try. Attempts of earlier rounds that went well are no failures.
fn all_failed(attempts: &[Attempt], retry_after: Option<Duration>) -> Error {
    let failed = attempts.iter().filter(|attempt| attempt.outcome() != AttemptOutcome::Ok);
    let list: Vec<String> = failed.map(in_words).collect();
    let error = Error::new(Reason::AllBackendsFailed, format!("every backend failed: {}", list.join("; ")));
    match retry_after {
        Some(delay) => error.retry_after(delay),
        None => error,
    }
}

/// Failures that no other backend would mend.
fn ends_the_turn(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::BudgetExceeded
            | Reason::DeadlineExceeded
            | Reason::Cancelled
            | Reason::InvalidRequest
            | Reason::RateLimited
            | Reason::AttemptsExceeded
            | Reason::StoreUnavailable
    )
}

/// A failed attempt: its backend, its reason, and the beginning of the provider's words.
fn in_words(attempt: &Attempt) -> String {
    let reason = attempt.reason().as_str_name().trim_start_matches("ERROR_REASON_");
    let message: String = attempt.message.chars().take(160).collect();
    let message = if message.is_empty() { message } else { format!(" ({message})") };
    format!("{}: {reason}{message}", attempt.backend)
}
