//! Calls with an idempotency key: what is kept of them, and when they are the same.

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use tutti_error::{Error, Reason, Result};
use tutti_proto::{
    llm::v1::Attempt,
    router::v1::{ChatRequest, ChatStreamResponse},
};
use tutti_types::{RequestId, Scope, TurnId};

/// The longest key, in characters.
const MAX_KEY: usize = 255;

/// A call to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewCall {
    pub(crate) id: TurnId,
    pub(crate) key: String,
    pub(crate) request_id: RequestId,
    /// [`body_hash`] of its request.
    pub(crate) body_hash: Vec<u8>,
    /// Microseconds since 1970.
    pub(crate) created_at: i64,
}

/// A call as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) id: TurnId,
    pub(crate) request_id: RequestId,
    pub(crate) body_hash: Vec<u8>,
    /// Of its owner.
    pub(crate) fencing: i64,
    pub(crate) state: State,
    /// Number of the last event.
    pub(crate) recorded: u64,
    /// Whether some of the events are output.
    pub(crate) output: bool,
    /// Attempts that may have been sent.
    pub(crate) attempts: u32,
    /// What is known of them: [`attempts`].
    pub(crate) sent: Vec<u8>,
    /// Microseconds since 1970.
    pub(crate) created_at: i64,
}

/// How far a call is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// It runs, if its owner is alive.
    Running { alive: bool },
    /// Its last event is the answer.
    Answered,
    /// It failed: [`tutti_error::Error::encode`].
    Failed(Vec<u8>),
}

/// The right to write to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) scope: Scope,
    pub(crate) id: TurnId,
    pub(crate) fencing: i64,
}

/// Events that were written at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Batch {
    /// Number of the first.
    pub(crate) seq: u64,
    /// Number of the last.
    pub(crate) last: u64,
    /// Each with its length before it.
    pub(crate) events: Bytes,
}

/// What happened to a call since it was last written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) batch: Option<Batch>,
    /// Whether the batch has output.
    pub(crate) output: bool,
    /// Attempts that may have been sent, by all owners.
    pub(crate) attempts: u32,
    /// What is known of them: [`encode_attempts`].
    pub(crate) sent: Vec<u8>,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ending {
    /// With the answer.
    Answered,
    /// With this failure, which stands for the key from now on.
    Failed(Vec<u8>),
    /// With this failure, and the key is free.
    Released(Vec<u8>),
}

/// One of an owner's own calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owned {
    pub(crate) org: String,
    pub(crate) id: TurnId,
    pub(crate) fencing: i64,
    /// Somebody wants it to end.
    pub(crate) cancelled: bool,
    /// Since when nobody reads it elsewhere.
    pub(crate) unread: Duration,
}

/// Checks a key.
///
/// # Errors
/// What is wrong with it, in words.
pub(crate) fn check_key(key: &str) -> Result<(), String> {
    if key.chars().count() > MAX_KEY {
        return Err(format!("must have at most {MAX_KEY} characters"));
    }
    if key.chars().any(char::is_control) {
        return Err("must have no control characters".into());
    }
    Ok(())
}

/// What makes two requests the same: all of it but its id and its key, by its canonical bytes (fields in the order of
/// their numbers, maps in the order of their keys).
pub(crate) fn body_hash(chat: &ChatRequest) -> Vec<u8> {
    let mut body = chat.clone();
    body.request_id.clear();
    body.idempotency_key.clear();
    Sha256::digest(body.encode_to_vec()).to_vec()
}

/// The key came with another request.
pub(crate) fn conflict() -> Error {
    let message = "the idempotency key was used for another request; use a new one";
    Error::new(Reason::IdempotencyConflict, message)
}

/// Whether a failed call frees its key, so that the same request is run again: everything that may pass. What would fail
/// again, and what somebody wanted, stands.
pub(crate) fn frees(reason: Reason) -> bool {
    !matches!(
        reason,
        Reason::InvalidRequest
            | Reason::MessageTooLarge
            | Reason::UnknownSession
            | Reason::UnknownWorkspace
            | Reason::Unsupported
            | Reason::ProviderRejected
            | Reason::ContextTooLong
            | Reason::ContentFiltered
            | Reason::ToolRoundsExceeded
            | Reason::AttemptsExceeded
            | Reason::PermissionDenied
            | Reason::Cancelled
    )
}

/// Writes events one after the other.
pub(crate) fn encode_events(events: &[ChatStreamResponse]) -> Bytes {
    let mut bytes = Vec::with_capacity(events.iter().map(ChatStreamResponse::encoded_len).sum::<usize>() + 16);
    for event in events {
        // A vector has room for everything.
        let _ = event.encode_length_delimited(&mut bytes);
    }
    bytes.into()
}

impl Batch {
    /// A batch of events; `None` of none.
    pub(crate) fn of(events: &[ChatStreamResponse]) -> Option<Self> {
        let (first, last) = (events.first()?, events.last()?);
        Some(Self { seq: first.seq, last: last.seq, events: encode_events(events) })
    }

    /// The events after this number.
    ///
    /// # Errors
    /// INTERNAL when it was not written here.
    pub(crate) fn after(&self, after: u64) -> Result<Vec<ChatStreamResponse>> {
        let mut bytes = self.events.clone();
        let mut events = Vec::new();
        while !bytes.is_empty() {
            let event = ChatStreamResponse::decode_length_delimited(&mut bytes).map_err(Error::internal)?;
            if event.seq > after {
                events.push(event);
            }
        }
        Ok(events)
    }
}

/// Writes attempts one after the other.
pub(crate) fn encode_attempts(attempts: &[Attempt]) -> Vec<u8> {
    attempts.iter().flat_map(Attempt::encode_length_delimited_to_vec).collect()
}

/// What [`encode_attempts`] wrote.
///
/// # Errors
/// INTERNAL when it was not written here.
pub(crate) fn attempts(bytes: &[u8]) -> Result<Vec<Attempt>> {
    let mut bytes = bytes;
    let mut attempts = Vec::new();
    while !bytes.is_empty() {
        attempts.push(Attempt::decode_length_delimited(&mut bytes).map_err(Error::internal)?);
    }
    Ok(attempts)
}
