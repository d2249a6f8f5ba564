//! One log line a call, with its method, code and time, when its body has ended.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use tower::{Layer, Service};

use crate::methods;

/// Logs every call of a server at debug level, failures of ours (INTERNAL, UNKNOWN, DATA_LOSS) at warn level.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogLayer;

impl<S> Layer<S> for LogLayer {
    type Service = LogService<S>;
    fn layer(&self, inner: S) -> Self::Service {
        LogService { inner }
    }
}

/// The service of [`LogLayer`].
#[derive(Debug, Clone)]
pub struct LogService<S> {
    inner: S,
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl<S, B, R> Service<Request<B>> for LogService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
{
    type Response = Response<LogBody<R>>;
    type Error = S::Error;
    type Future = BoxFuture<Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let mut line = Line { method: request.uri().path().to_owned(), started: Instant::now(), code: None };
        let call = self.inner.call(request);
        Box::pin(async move {
            let response = call.await?;
            line.read(response.headers());
            Ok(response.map(|inner| LogBody { inner, line }))
        })
    }
}

/// Written when dropped, however the call ends.
#[derive(Debug)]
struct Line {
    method: String,
    started: Instant,
    code: Option<tonic::Code>,
}

impl Line {
    fn read(&mut self, headers: &HeaderMap) {
        self.code = methods::grpc_code(headers).or(self.code);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let (method, micros) = (self.method.as_str(), self.started.elapsed().as_micros());
        match self.code {
            None => tracing::debug!(method, micros, "call dropped by its caller"),
            Some(code @ (tonic::Code::Internal | tonic::Code::Unknown | tonic::Code::DataLoss)) => {
                tracing::warn!(method, micros, ?code, "call failed");
            }
            Some(code) => tracing::debug!(method, micros, ?code, "call"),
        }
    }
}

/// A response body that remembers its status for the log.
#[derive(Debug)]
pub struct LogBody<B> {
    inner: B,
    line: Line,
}

impl<B: Body<Data = Bytes> + Unpin> Body for LogBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = Pin::new(&mut self.inner).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(trailers) = frame.trailers_ref()
        {
            self.line.read(trailers);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
