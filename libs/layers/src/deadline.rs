//! The deadline of a call, over its head and its body. tonic's own timeout ends at the head and answers CANCELLED;
//! this one answers DEADLINE_EXCEEDED, also in the middle of a stream.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::Status;
use tower::{Layer, Service};
use tutti_error::{Error, Reason};
use tutti_types::Deadline;

/// Reads `grpc-timeout`: at most 8 digits and a unit of `H M S m u n`.
pub fn parse_grpc_timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let n: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(n * 3600)),
        "M" => Some(Duration::from_secs(n * 60)),
        "S" => Some(Duration::from_secs(n)),
        "m" => Some(Duration::from_millis(n)),
        "u" => Some(Duration::from_micros(n)),
        "n" => Some(Duration::from_nanos(n)),
        _ => None,
    }
}

/// Gives every call a [`Deadline`] extension (the caller's `grpc-timeout`, else a default) and ends it then.
#[derive(Debug, Clone, Copy)]
pub struct DeadlineLayer {
    default: Duration,
}

impl DeadlineLayer {
    /// `default` holds for callers that name no timeout.
    pub fn new(default: Duration) -> Self {
        Self { default }
    }
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = DeadlineService<S>;
    fn layer(&self, inner: S) -> Self::Service {
        DeadlineService { inner, default: self.default }
    }
}

/// The service of [`DeadlineLayer`].
#[derive(Debug, Clone)]
pub struct DeadlineService<S> {
    inner: S,
    default: Duration,
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl<S, B, R> Service<Request<B>> for DeadlineService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    R: Body<Data = Bytes> + Default + Send + 'static,
{
    type Response = Response<DeadlineBody<R>>;
    type Error = S::Error;
    type Future = BoxFuture<Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        // Watches of health have no end of their own.
        if request.uri().path().starts_with("/grpc.health.") {
            let call = self.inner.call(request);
            return Box::pin(
                async move { Ok(call.await?.map(|body| DeadlineBody { inner: Some(body), timer: None })) },
            );
        }
        let timeout = parse_grpc_timeout(request.headers()).unwrap_or(self.default);
        let deadline = Deadline::after(timeout);
        request.extensions_mut().insert(deadline);
        if deadline.is_past() {
            // What nobody waits for any more is not begun.
            let response = exceeded().into_http::<R>();
            return Box::pin(async move { Ok(response.map(|body| DeadlineBody { inner: Some(body), timer: None })) });
        }
        let at = Instant::from_std(deadline.instant());
        let call = self.inner.call(request);
        Box::pin(async move {
            match tokio::time::timeout_at(at, call).await {
                Ok(response) => {
                    let timer = Some(Box::pin(sleep_until(at)));
                    Ok(response?.map(|body| DeadlineBody { inner: Some(body), timer }))
                }
                Err(_) => {
                    let response = exceeded().into_http::<R>();
                    Ok(response.map(|body| DeadlineBody { inner: Some(body), timer: None }))
                }
            }
        })
    }
}

fn exceeded() -> Status {
    Error::new(Reason::DeadlineExceeded, "the deadline passed; ask with a longer one, or for less").into()
}

/// A response body that ends with DEADLINE_EXCEEDED when its time is over; what fed it is dropped at that moment.
#[derive(Debug)]
pub struct DeadlineBody<B> {
    inner: Option<B>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<B: Body<Data = Bytes> + Unpin> Body for DeadlineBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        let Some(inner) = &mut this.inner else { return Poll::Ready(None) };
        if let Poll::Ready(frame) = Pin::new(inner).poll_frame(cx) {
            if frame.is_none() {
                this.inner = None;
            }
            return Poll::Ready(frame);
        }
        if !this.timer.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready()) {
            return Poll::Pending;
        }
        this.inner = None;
        let mut trailers = HeaderMap::new();
        // Only a status with a message that no header can carry fails here; ours is fixed.
        let _ = exceeded().add_header(&mut trailers);
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use tower::{ServiceExt as _, service_fn};

    use super::*;

    #[test]
    fn timeouts_are_read_in_every_unit() {
        let parse = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", text.parse().unwrap());
            parse_grpc_timeout(&headers)
        };
        assert_eq!(parse("2S"), Some(Duration::from_secs(2)));
        assert_eq!(parse("150m"), Some(Duration::from_millis(150)));
        assert_eq!(parse("123456789S"), None);
        assert_eq!(parse("S"), None);
        assert_eq!(parse(""), None);
        assert_eq!(parse("ä"), None);
    }

    /// A body that sends one piece and then nothing, for ever.
    #[derive(Default)]
    struct Stalls(bool);

    impl Body for Stalls {
        type Data = Bytes;
        type Error = std::convert::Infallible;
        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            if std::mem::replace(&mut self.0, true) {
                return Poll::Pending;
            }
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x")))))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stalls_ends_with_deadline_exceeded() {
        let service = DeadlineLayer::new(Duration::from_secs(1)).layer(service_fn(|_: Request<()>| async {
            Ok::<_, std::convert::Infallible>(Response::new(Stalls(false)))
        }));
        let response = service.oneshot(Request::new(())).await.unwrap();
        let collected = response.into_body().collect().await.unwrap();
        assert_eq!(collected.trailers().unwrap()["grpc-status"], "4");
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_never_comes_ends_with_deadline_exceeded() {
        let service = DeadlineLayer::new(Duration::from_secs(1)).layer(service_fn(|_: Request<()>| async {
            std::future::pending::<Result<Response<Stalls>, std::convert::Infallible>>().await
        }));
        let response = service.oneshot(Request::new(())).await.unwrap();
        assert_eq!(response.headers()["grpc-status"], "4");
    }
}
