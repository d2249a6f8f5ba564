//! What is measured: one way of asking for an answer, whichever protocol it speaks.

use std::time::Instant;

use crate::{grpc, http};

/// Letters of one simulated token.
pub(crate) const TOKEN: usize = 4;

/// Where calls go.
#[derive(Debug)]
pub(crate) enum Target {
    /// OpenAI's format over HTTP/1.1: the simulator itself, or the mesh's second door.
    Http(http::Client),
    /// The mesh's router over gRPC.
    Grpc(grpc::Client),
}

/// What came of a call that ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    /// When the first piece of text was there; of a unary call the end.
    pub(crate) first_token: Instant,
    /// When all of it was there.
    pub(crate) ended: Instant,
    /// Bytes of text.
    pub(crate) text: usize,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The connection could not be made or broke.
    #[error("connection: {0}")]
    Connection(String),
    /// The server refused.
    #[error("refused: {0}")]
    Refused(String),
    /// The answer is not what the protocol promises.
    #[error("not understood: {0}")]
    NotUnderstood(String),
}

impl Target {
    /// Asks and waits for the whole answer. Calls of different `slot`s use different connections as far as there are
    /// so many.
    pub(crate) async fn unary(&self, slot: usize, prompt: &str) -> Result<Answer, Failure> {
        let text = match self {
            Self::Http(client) => client.unary(prompt).await?,
            Self::Grpc(client) => client.unary(slot, prompt).await?,
        };
        let ended = Instant::now();
        Ok(Answer { first_token: ended, ended, text })
    }

    /// Asks and reads the stream to its end.
    pub(crate) async fn stream(&self, slot: usize, prompt: &str) -> Result<Answer, Failure> {
        let mut tally = Tally::default();
        match self {
            Self::Http(client) => client.stream(prompt, &mut tally).await?,
            Self::Grpc(client) => client.stream(slot, prompt, &mut tally).await?,
        }
        let ended = Instant::now();
        Ok(Answer { first_token: tally.first.unwrap_or(ended), ended, text: tally.text })
    }
}

/// What a stream has brought so far.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    first: Option<Instant>,
    text: usize,
}

impl Tally {
    /// Counts a piece of text.
    pub(crate) fn add(&mut self, text: &str) {
        if !text.is_empty() {
            self.first.get_or_insert_with(Instant::now);
            self.text += text.len();
        }
    }
}
