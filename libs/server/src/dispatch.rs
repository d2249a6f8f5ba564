//! From the path of a call to the service that answers it.
//!
//! Not an `axum::Router`: it boxes the service and both bodies once for every layer, and matches paths character by
//! character, which together cost more than all layers do.

use std::{
    convert::Infallible,
    future::Ready,
    sync::Arc,
    task::{Context, Poll},
};

use futures::future::{Either, Map};
use http::{HeaderValue, Request, Response};
use tonic::body::Body;
use tower::{
    Service, ServiceExt as _,
    util::{BoxCloneSyncService, Oneshot},
};

/// A service whose type is forgotten: what generated servers are.
pub(crate) type Grpc = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// The services of a group by name.
#[derive(Clone)]
pub(crate) struct Dispatch {
    services: Arc<[(&'static str, Grpc)]>,
    other: Arc<dyn Fn() -> Response<Body> + Send + Sync>,
}

impl Dispatch {
    /// Panics at start when two services have one name: a mistake of the composition.
    pub(crate) fn new(services: Vec<(&'static str, Grpc)>) -> Self {
        for (n, (name, _)) in services.iter().enumerate() {
            assert!(services.iter().skip(n + 1).all(|(other, _)| other != name), "two services are named {name}");
        }
        Self { services: services.into(), other: Arc::new(unimplemented) }
    }

    /// Answers so for a path that no service has.
    pub(crate) fn or_else(self, other: impl Fn() -> Response<Body> + Send + Sync + 'static) -> Self {
        Self { other: Arc::new(other), ..self }
    }

    fn find(&self, path: &str) -> Option<&Grpc> {
        let (service, _) = path.strip_prefix('/')?.split_once('/')?;
        self.services.iter().find(|(name, _)| *name == service).map(|(_, grpc)| grpc)
    }
}

impl Service<Request<Body>> for Dispatch {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<Oneshot<Grpc, Request<Body>>, Ready<Result<Response<Body>, Infallible>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match self.find(request.uri().path()) {
            Some(grpc) => Either::Left(grpc.clone().oneshot(request)),
            None => Either::Right(std::future::ready(Ok((self.other)()))),
        }
    }
}

/// What gRPC clients expect for a path that no service has.
fn unimplemented() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from_static("12"));
    headers.insert("grpc-message", HeaderValue::from_static("unknown service"));
    response
}

/// gRPC on one side, plain HTTP on the other: the content type tells them apart.
#[derive(Clone)]
pub(crate) struct Front<G> {
    grpc: G,
    http: Option<axum::Router>,
}

impl<G> Front<G> {
    pub(crate) fn new(grpc: G, http: Option<axum::Router>) -> Self {
        Self { grpc, http }
    }
}

type Answer<B> = Result<Response<B>, Infallible>;
type Mapped<F, B> = Map<F, fn(Answer<B>) -> Answer<Body>>;

impl<G, B> Service<Request<Body>> for Front<G>
where
    G: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<tower::BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<Mapped<G::Future, B>, Mapped<Oneshot<axum::Router, Request<Body>>, axum::body::Body>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.grpc.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        use futures::FutureExt as _;
        match &self.http {
            Some(http) if !is_grpc(&request) => Either::Right(http.clone().oneshot(request).map(boxed)),
            _ => Either::Left(self.grpc.call(request).map(boxed)),
        }
    }
}

fn is_grpc(request: &Request<Body>) -> bool {
    let content_type = request.headers().get(http::header::CONTENT_TYPE);
    content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

fn boxed<B>(answer: Answer<B>) -> Answer<Body>
where
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<tower::BoxError>,
{
    answer.map(|response| response.map(Body::new))
}

#[cfg(test)]
mod tests {
    use tower::service_fn;

    use super::*;

    fn named(name: &'static str) -> (&'static str, Grpc) {
        let answer = service_fn(move |_: Request<Body>| async move {
            Ok(Response::builder().header("from", name).body(Body::empty()).unwrap())
        });
        (name, Grpc::new(answer))
    }

    async fn ask(
        service: impl Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
        path: &str,
        grpc: bool,
    ) -> Response<Body> {
        let content_type = if grpc { "application/grpc+proto" } else { "application/json" };
        let request = Request::builder().uri(path).header("content-type", content_type).body(Body::empty()).unwrap();
        service.oneshot(request).await.unwrap()
    }

    #[tokio::test]
    async fn the_whole_name_counts() {
        let dispatch = Dispatch::new(vec![named("a.B"), named("a.Bc")]);
        assert_eq!(ask(dispatch.clone(), "/a.Bc/Do", true).await.headers()["from"], "a.Bc");
        assert_eq!(ask(dispatch.clone(), "/a.B/Do", true).await.headers()["from"], "a.B");
        for path in ["/a.C/Do", "/a.B", "/", "/a/B/Do"] {
            assert_eq!(ask(dispatch.clone(), path, true).await.headers()["grpc-status"], "12", "{path}");
        }
    }

    #[tokio::test]
    async fn plain_http_has_a_side_of_its_own() {
        let http = axum::Router::new().fallback(|| async { (http::StatusCode::NOT_FOUND, "nothing here") });
        let front = Front::new(Dispatch::new(vec![named("a.B")]), Some(http));
        assert_eq!(ask(front.clone(), "/a.B/Do", true).await.headers()["from"], "a.B");
        assert_eq!(ask(front, "/a.B/Do", false).await.status(), 404);
        let alone = Front::new(Dispatch::new(vec![named("a.B")]), None);
        assert_eq!(ask(alone, "/a.B/Do", false).await.headers()["from"], "a.B");
    }
}
