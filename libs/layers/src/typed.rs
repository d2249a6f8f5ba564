//! Gives the transport's own refusals (a message too large, bytes that aren't the message) a type, so that every
//! failure that a caller sees has a reason.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Request, Response};
use tonic::{Code, Status};
use tower::{Layer, Service};
use tutti_error::{Error, Reason};

/// Replaces untyped statuses that tonic makes before a handler runs.
#[derive(Debug, Clone, Copy, Default)]
pub struct TypedErrorsLayer;

impl<S> Layer<S> for TypedErrorsLayer {
    type Service = TypedErrorsService<S>;
    fn layer(&self, inner: S) -> Self::Service {
        TypedErrorsService { inner }
    }
}

/// The service of [`TypedErrorsLayer`].
#[derive(Debug, Clone)]
pub struct TypedErrorsService<S> {
    inner: S,
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl<S, B, R> Service<Request<B>> for TypedErrorsService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    R: Default,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = BoxFuture<Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let call = self.inner.call(request);
        Box::pin(async move {
            let response = call.await?;
            match Status::from_header_map(response.headers()).as_ref().and_then(typed) {
                Some(error) => Ok(Status::from(error).into_http()),
                None => Ok(response),
            }
        })
    }
}

fn typed(status: &Status) -> Option<Error> {
    if !status.details().is_empty() {
        return None;
    }
    match status.code() {
        Code::OutOfRange if status.message().contains("too large") => {
            let message = format!("the message is larger than {} MiB", crate::MAX_MESSAGE_BYTES >> 20);
            Some(Error::new(Reason::MessageTooLarge, message))
        }
        Code::Internal if status.message().contains("decode") => {
            Some(Error::new(Reason::InvalidRequest, "the bytes are not the message that this call takes"))
        }
        _ => None,
    }
}

#[cfg(test)]
// Builds the statuses that tonic itself answers with.
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;

    #[test]
    fn the_transports_refusals_get_a_reason() {
        let large = Status::new(Code::OutOfRange, "Error, decoded message length too large: found 40 bytes");
        assert_eq!(typed(&large).map(|e| e.reason()), Some(Reason::MessageTooLarge));
        let garbage = Status::new(Code::Internal, "failed to decode Protobuf message");
        assert_eq!(typed(&garbage).map(|e| e.reason()), Some(Reason::InvalidRequest));
        assert!(typed(&Status::new(Code::Unimplemented, "")).is_none());
        assert!(typed(&Status::from(Error::internal("decode"))).is_none());
    }
}
