//! Load shedding: a server that has as much to do as it can take refuses at once, instead of making everybody wait.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;
use tower::{Layer, Service};
use tutti_error::{Error, Reason};

/// Counts calls that were refused because too many ran.
pub const SHED_CALLS: &str = "tutti_shed_calls_total";
/// When a refused caller should come again.
const COME_AGAIN: Duration = Duration::from_secs(1);

/// Lets at most so many calls run at a time, from the head of the request to the end of the answer's body; the others get
/// OVERLOADED with a time to come again. Health is exempt: a busy server is not a broken one.
#[derive(Debug, Clone)]
pub struct ShedLayer {
    permits: Arc<Semaphore>,
}

impl ShedLayer {
    /// At most `max` calls over all services behind all clones of this layer.
    pub fn new(max: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(max.min(Semaphore::MAX_PERMITS))) }
    }
}

impl<S> Layer<S> for ShedLayer {
    type Service = ShedService<S>;
    fn layer(&self, inner: S) -> Self::Service {
        ShedService { inner, permits: Arc::clone(&self.permits) }
    }
}

/// The service of [`ShedLayer`].
#[derive(Debug, Clone)]
pub struct ShedService<S> {
    inner: S,
    permits: Arc<Semaphore>,
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl<S, B, R> Service<Request<B>> for ShedService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    R: Default + Send + 'static,
{
    type Response = Response<ShedBody<R>>;
    type Error = S::Error;
    type Future = BoxFuture<Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let is_exempt = request.uri().path().starts_with("/grpc.health.");
        let permit = Arc::clone(&self.permits).try_acquire_owned().ok();
        if permit.is_none() && !is_exempt {
            metrics::counter!(SHED_CALLS).increment(1);
            let error = Error::new(Reason::Overloaded, "too many calls are running; come again later");
            let response = Status::from(error.retry_after(COME_AGAIN)).into_http::<R>();
            return Box::pin(async move { Ok(response.map(|inner| ShedBody { inner, _permit: None })) });
        }
        let permit = permit.filter(|_| !is_exempt);
        let call = self.inner.call(request);
        Box::pin(async move { Ok(call.await?.map(|inner| ShedBody { inner, _permit: permit })) })
    }
}

/// A response body that holds its call's place until it is dropped.
#[derive(Debug, Default)]
pub struct ShedBody<B> {
    inner: B,
    _permit: Option<OwnedSemaphorePermit>,
}

impl<B: Body<Data = Bytes> + Unpin> Body for ShedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Empty;
    use tower::{ServiceExt as _, service_fn};

    use super::*;

    #[tokio::test]
    async fn a_call_holds_its_place_until_its_body_is_gone() {
        let layer = ShedLayer::new(1);
        let call = |path: &'static str| {
            let service = layer.layer(service_fn(|_: Request<()>| async {
                Ok::<_, std::convert::Infallible>(Response::new(Empty::<Bytes>::new()))
            }));
            service.oneshot(Request::builder().uri(path).body(()).unwrap())
        };
        let first = call("/a/B").await.unwrap();
        let refused = call("/a/B").await.unwrap();
        assert_eq!(refused.headers()["grpc-status"], "8");
        let status = Status::from_header_map(refused.headers()).unwrap();
        let error = tutti_error::from_status(&status, "a");
        assert_eq!((error.reason(), error.retry_delay()), (Reason::Overloaded, Some(COME_AGAIN)));
        assert!(!call("/grpc.health.v1.Health/Check").await.unwrap().headers().contains_key("grpc-status"));
        drop(first);
        assert!(!call("/a/B").await.unwrap().headers().contains_key("grpc-status"));
    }
}
