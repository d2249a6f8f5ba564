//! Bodies, bounded.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use reqwest::Response;
use tutti_error::Reason;

use super::{
    clock::{Clock, Wait},
    upstream::root_cause,
};
use crate::error::Failure;

/// The largest answer of a generation that is taken.
pub(crate) const MAX_BODY_BYTES: usize = 32 * 1024 * 1024;
/// The largest answer with vectors that is taken: as text, they are several times as long as in a message of ours.
pub(crate) const MAX_VECTORS_BYTES: usize = 128 * 1024 * 1024;
/// The largest error body that is read; what comes after says no more.
const MAX_ERROR_BYTES: usize = 64 * 1024;
/// For the body of an error, whose status is known already.
const ERROR_TIMEOUT: Duration = Duration::from_secs(5);

/// Whether a request has begun to leave this machine: until then the provider can't have seen it.
#[derive(Debug, Clone, Default)]
pub(crate) struct OnWire(Arc<AtomicBool>);

impl OnWire {
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// A request's body that notes when a connection takes it, which is when its head is written too.
pub(super) struct Outgoing {
    bytes: Option<Bytes>,
    on_wire: OnWire,
}

impl Outgoing {
    pub(super) fn new(bytes: Bytes, on_wire: OnWire) -> Self {
        Self { bytes: Some(bytes), on_wire }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.on_wire.0.store(true, Ordering::Release);
        Poll::Ready(self.bytes.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

/// The next bytes of a body; `None` at its end.
pub(crate) async fn next_piece(response: &mut Response) -> Result<Option<Bytes>, Failure> {
    let broken = |error: reqwest::Error| {
        let cause = root_cause(&error);
        Failure::new(Reason::Truncated, format!("the connection broke in the middle of the answer: {cause}"))
    };
    response.chunk().await.map_err(broken)
}

/// A whole body.
///
/// # Errors
/// TRUNCATED, a timeout, or MALFORMED_OUTPUT when it is larger than `most` bytes.
pub(crate) async fn collect(mut response: Response, clock: &Clock, most: usize) -> Result<Bytes, Failure> {
    let mut body = BytesMut::new();
    // Providers that send the head early may still think for long; once the body has begun, it should flow.
    let mut wait = Wait::Whole;
    while let Some(piece) = clock.wait(wait, next_piece(&mut response)).await?? {
        wait = Wait::Next;
        if body.len() + piece.len() > most {
            return Err(Failure::new(Reason::MalformedOutput, format!("the answer is larger than {most} bytes")));
        }
        body.extend_from_slice(&piece);
    }
    Ok(body.freeze())
}

/// As much of an error's body as comes soon.
pub(super) async fn collect_error(mut response: Response, clock: &Clock) -> Bytes {
    let mut body = BytesMut::new();
    let reading = async {
        while body.len() < MAX_ERROR_BYTES {
            let Ok(Some(piece)) = next_piece(&mut response).await else { return };
            body.extend_from_slice(&piece);
        }
    };
    // Cut or late: the status alone says what it says.
    let _ = clock.wait(Wait::Next, tokio::time::timeout(ERROR_TIMEOUT, reading)).await;
    body.freeze()
}
