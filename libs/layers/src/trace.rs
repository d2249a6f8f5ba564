//! One span a call: begun where the caller's trace context says, entered whenever the call or its body is polled, so
//! that every log line inside has its ids, and ended with the body.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::{Body, Frame, SizeHint};
use tonic::Code;
use tower::{Layer, Service};
use tracing::{
    Span,
    instrument::{Instrument as _, Instrumented},
};
use tutti_telemetry::{self as telemetry, TraceContext};

use crate::{
    Peer,
    methods::{self, Method},
};

/// W3C Trace Context.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// The id of the request that a call belongs to, for the log.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longer ones are not ids.
const MAX_REQUEST_ID: usize = 64;

/// Writes where the running code is into the head of an outgoing call.
pub fn write_trace(headers: &mut HeaderMap) {
    let Some(current) = telemetry::current() else { return };
    // Both are visible ASCII.
    if let Ok(value) = HeaderValue::try_from(current.trace.to_string()) {
        headers.insert(TRACEPARENT, value);
    }
    if let Some(Ok(value)) = current.request_id.map(|id| HeaderValue::from_str(&id)) {
        headers.insert(REQUEST_ID, value);
    }
}

/// Gives every call of a known method its span. Health and reflection have none.
#[derive(Debug, Clone, Copy, Default)]
pub struct TraceLayer;

impl<S> Layer<S> for TraceLayer {
    type Service = TraceService<S>;
    fn layer(&self, inner: S) -> Self::Service {
        TraceService { inner }
    }
}

/// The service of [`TraceLayer`].
#[derive(Debug, Clone)]
pub struct TraceService<S> {
    inner: S,
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl<S, B, R> Service<Request<B>> for TraceService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
{
    type Response = Response<TraceBody<R>>;
    type Error = S::Error;
    type Future = BoxFuture<Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let mut ending = Ending::start(&request);
        let call = ending.span.in_scope(|| self.inner.call(request)).instrument(ending.span.clone());
        Box::pin(async move {
            let response = call.await?;
            ending.head(&response);
            Ok(response.map(|inner| TraceBody { inner: inner.instrument(ending.span.clone()), ending }))
        })
    }
}

/// Tells the span how the call ended, when dropped.
#[derive(Debug)]
struct Ending {
    span: Span,
    method: Option<&'static Method>,
    code: Option<Code>,
}

impl Ending {
    fn start<B>(request: &Request<B>) -> Self {
        let Some(method) = methods::find(request.uri().path()) else {
            return Self::unseen(None);
        };
        if is_inside_a_call(request) {
            return Self::unseen(Some(method));
        }
        let text = |name: HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok());
        let parent: Option<TraceContext> = text(TRACEPARENT).and_then(|text| text.parse().ok());
        let is_id = |id: &&str| (1..=MAX_REQUEST_ID).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic());
        let span = telemetry::server(&method.name, parent, text(REQUEST_ID).filter(is_id));
        if telemetry::is_exporting() {
            if method.is_grpc {
                telemetry::set(&span, "rpc.system", "grpc");
                telemetry::set(&span, "rpc.service", method.service.as_str());
                telemetry::set(&span, "rpc.method", method.rpc.as_str());
            } else {
                telemetry::set(&span, "http.route", method.rpc.as_str());
                telemetry::set(&span, "http.request.method", request.method().to_string());
            }
        }
        Self { span, method: Some(method), code: None }
    }

    fn unseen(method: Option<&'static Method>) -> Self {
        Self { span: Span::none(), method, code: None }
    }

    fn head<R>(&mut self, response: &Response<R>) {
        self.code = methods::grpc_code(response.headers());
        if self.method.is_some_and(|method| !method.is_grpc) {
            self.code = Some(methods::of_http(response.status()));
            telemetry::set(&self.span, "http.response.status_code", i64::from(response.status().as_u16()));
        }
    }
}

/// Whether the caller's span is around us already and serves us too: nobody records what each service takes.
fn is_inside_a_call<B>(request: &Request<B>) -> bool {
    !telemetry::is_exporting() && request.extensions().get() == Some(&Peer::InProcess) && !Span::current().is_none()
}

impl Drop for Ending {
    fn drop(&mut self) {
        if !telemetry::is_exporting() || self.span.is_none() {
            return;
        }
        // A call without a status was dropped by its caller.
        let code = self.code.unwrap_or(Code::Cancelled);
        if self.method.is_some_and(|method| method.is_grpc) {
            telemetry::set(&self.span, "rpc.grpc.status_code", i64::from(i32::from(code)));
        }
        // The caller's own mistakes are no errors of a server.
        let is_ours = matches!(
            code,
            Code::Unknown
                | Code::DeadlineExceeded
                | Code::Unimplemented
                | Code::Internal
                | Code::Unavailable
                | Code::DataLoss
        );
        if is_ours {
            telemetry::set_error(&self.span, methods::code_name(code));
        }
    }
}

/// A response body that is polled, and dropped, inside its call's span.
#[derive(Debug)]
pub struct TraceBody<B> {
    inner: Instrumented<B>,
    ending: Ending,
}

impl<B: Body<Data = Bytes> + Unpin> Body for TraceBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        let entered = this.ending.span.enter();
        let frame = Pin::new(this.inner.inner_mut()).poll_frame(cx);
        drop(entered);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(code) = frame.trailers_ref().and_then(methods::grpc_code)
        {
            this.ending.code = Some(code);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.inner().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.inner().size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Empty;
    use tower::{ServiceExt as _, service_fn};
    use tracing_subscriber::registry;

    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    /// The headers of a call that is made inside one that came with these.
    async fn handed_on(path: &'static str, headers: &[(&'static str, &'static str)]) -> HeaderMap {
        let _guard = tracing::subscriber::set_default(registry());
        let service = TraceLayer.layer(service_fn(|_: Request<()>| async {
            let mut headers = HeaderMap::new();
            write_trace(&mut headers);
            let mut response = Response::new(Empty::<Bytes>::new());
            *response.headers_mut() = headers;
            Ok::<_, std::convert::Infallible>(response)
        }));
        let mut request = Request::builder().uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = service.oneshot(request.body(()).unwrap()).await.unwrap();
        response.headers().clone()
    }

    #[tokio::test]
    async fn a_callers_trace_and_request_id_go_on() {
        let path = "/tutti.router.v1.RouterService/Chat";
        let headers = handed_on(path, &[("traceparent", PARENT), ("x-request-id", "r-1")]).await;
        assert!(headers["traceparent"] == PARENT && headers["x-request-id"] == "r-1", "{headers:?}");
    }

    #[tokio::test]
    async fn a_service_in_the_same_process_shares_its_callers_span() {
        let _guard = tracing::subscriber::set_default(registry());
        let inner = TraceLayer.layer(service_fn(|_: Request<()>| async {
            let place = telemetry::current().map(|current| current.trace.to_string());
            Ok::<_, std::convert::Infallible>(Response::builder().header("place", place.unwrap()).body(()).unwrap())
        }));
        let of = |peer| {
            let request = Request::builder().uri("/tutti.router.v1.RouterService/Chat").extension(peer);
            inner.clone().oneshot(request.body(()).unwrap())
        };
        let caller = telemetry::server("a.B/C", PARENT.parse().ok(), None);
        let place = async |peer| of(peer).instrument(caller.clone()).await.unwrap().headers()["place"].clone();
        assert_eq!(place(Peer::InProcess).await, PARENT);
        // The network's calls are in the trace that their headers say.
        assert_ne!(place(Peer::Network).await, PARENT);
        // Nor is there anything to share outside of a call.
        assert_ne!(of(Peer::InProcess).await.unwrap().headers()["place"], PARENT);
    }

    #[tokio::test]
    async fn a_call_without_a_trace_begins_one_and_rubbish_is_left_out() {
        let path = "/tutti.router.v1.RouterService/Chat";
        let headers = handed_on(path, &[("traceparent", "rubbish"), ("x-request-id", "two words")]).await;
        assert!(headers["traceparent"].to_str().unwrap().parse::<TraceContext>().is_ok());
        assert!(!headers.contains_key("x-request-id"));
        assert!(handed_on("/grpc.health.v1.Health/Check", &[("traceparent", PARENT)]).await.is_empty());
    }
}
