//! Calls by method and code, their time, and how many run.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use tonic::Code;
use tower::{Layer, Service};
use tutti_telemetry::Metrics;

use crate::methods::{self, Method, OTHER};

/// Counts every call of a server once its body has ended, with what the caller saw.
#[derive(Debug, Clone, Copy, Default)]
pub struct MetricsLayer;

impl<S> Layer<S> for MetricsLayer {
    type Service = MetricsService<S>;
    fn layer(&self, inner: S) -> Self::Service {
        MetricsService { inner }
    }
}

/// The service of [`MetricsLayer`].
#[derive(Debug, Clone)]
pub struct MetricsService<S> {
    inner: S,
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl<S, B, R> Service<Request<B>> for MetricsService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
{
    type Response = Response<MetricsBody<R>>;
    type Error = S::Error;
    type Future = BoxFuture<Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let mut tally = Tally::start(methods::find(request.uri().path()));
        let call = self.inner.call(request);
        Box::pin(async move {
            let response = call.await?;
            tally.head(&response);
            Ok(response.map(|inner| MetricsBody { inner, tally }))
        })
    }
}

/// Counted when dropped, however the call ends.
#[derive(Debug)]
struct Tally {
    method: Option<&'static Method>,
    started: Instant,
    code: Option<Code>,
}

impl Tally {
    fn start(method: Option<&'static Method>) -> Self {
        let tally = Self { method, started: Instant::now(), code: None };
        metrics::gauge!(Metrics::IN_FLIGHT, "service" => tally.service()).increment(1.0);
        tally
    }

    fn service(&self) -> &'static str {
        self.method.map_or(OTHER, |method| &method.service)
    }

    fn head<R>(&mut self, response: &Response<R>) {
        self.code = methods::grpc_code(response.headers());
        let is_plain = self.method.map_or_else(|| !methods::speaks_grpc(response.headers()), |method| !method.is_grpc);
        if self.code.is_none() && is_plain {
            self.code = Some(methods::of_http(response.status()));
        }
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        let method = self.method.map_or(OTHER, |method| method.name.as_str());
        // A call without a status was dropped by its caller.
        let code = methods::code_name(self.code.unwrap_or(Code::Cancelled));
        metrics::gauge!(Metrics::IN_FLIGHT, "service" => self.service()).decrement(1.0);
        metrics::counter!(Metrics::CALLS, "method" => method, "code" => code).increment(1);
        metrics::histogram!(Metrics::CALL_SECONDS, "method" => method).record(self.started.elapsed());
    }
}

/// A response body whose end is counted.
#[derive(Debug)]
pub struct MetricsBody<B> {
    inner: B,
    tally: Tally,
}

impl<B: Body<Data = Bytes> + Unpin> Body for MetricsBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = Pin::new(&mut self.inner).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(code) = frame.trailers_ref().and_then(methods::grpc_code)
        {
            self.tally.code = Some(code);
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

#[cfg(test)]
mod tests {
    use http_body_util::Empty;
    use tower::{ServiceExt as _, service_fn};

    use super::*;

    /// What a scrape shows after calls of these paths.
    fn scraped(paths: impl Iterator<Item = String>) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        Metrics::of(|| {
            runtime.block_on(async {
                for path in paths {
                    let service = MetricsLayer.layer(service_fn(|_: Request<()>| async {
                        let response = Response::builder().header("grpc-status", "5").body(Empty::<Bytes>::new());
                        Ok::<_, std::convert::Infallible>(response.unwrap())
                    }));
                    drop(service.oneshot(Request::builder().uri(path).body(()).unwrap()).await.unwrap());
                }
            });
        })
    }

    #[test]
    fn a_call_is_counted_by_method_and_code() {
        let text = scraped(std::iter::once("/tutti.router.v1.RouterService/Chat".to_owned()));
        let method = "method=\"tutti.router.v1.RouterService/Chat\"";
        assert!(text.contains(&format!("tutti_calls_total{{{method},code=\"NOT_FOUND\"}} 1")), "{text}");
        assert!(text.contains(&format!("tutti_call_duration_seconds_count{{{method}}} 1")), "{text}");
        assert!(text.contains("tutti_calls_in_flight{service=\"tutti.router.v1.RouterService\"} 0"), "{text}");
    }

    #[test]
    fn a_plain_answer_is_counted_by_its_status() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let text = Metrics::of(|| {
            for path in ["/v1/models", "/v1/guess"] {
                let service = MetricsLayer.layer(service_fn(|_: Request<()>| async {
                    let response = Response::builder().status(404).body(Empty::<Bytes>::new());
                    Ok::<_, std::convert::Infallible>(response.unwrap())
                }));
                let call = service.oneshot(Request::builder().uri(path).body(()).unwrap());
                drop(runtime.block_on(call).unwrap());
            }
        });
        for method in ["/v1/models", "other"] {
            assert!(text.contains(&format!("{{method=\"{method}\",code=\"NOT_FOUND\"}} 1")), "{text}");
        }
    }

    #[test]
    fn callers_cannot_make_series() {
        let text = scraped((0..10_000).map(|n| format!("/tutti.router.v1.RouterService/Guess{n}")));
        let series = text.lines().filter(|line| line.starts_with("tutti_calls_total{")).count();
        assert_eq!(series, 1, "{text}");
        assert!(text.contains("tutti_calls_total{method=\"other\",code=\"NOT_FOUND\"} 10000"), "{text}");
    }
}
