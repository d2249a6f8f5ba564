//! gRPC services as one HTTP service, with the stack that stands before every handler, and a door for plain HTTP beside.

use std::{convert::Infallible, time::Duration};

use axum::response::IntoResponse;
use http::Request;
use tonic::{Status, body::Body, server::NamedService};
use tower::Service;
use tutti_error::Error;
use tutti_layers::{
    AuthLayer, CallLayer, DeadlineLayer, LogLayer, MetricsLayer, ShedLayer, TraceLayer, TypedErrorsLayer,
};

use crate::{HttpRoutes, Readiness};

/// How the content type of a gRPC call begins.
const GRPC: &[u8] = b"application/grpc";

/// Services by name. One process serves one group (`router`) or several merged (`tutti up`).
#[derive(Clone, Default, Debug)]
pub struct Services {
    router: axum::Router,
    names: Vec<&'static str>,
    readiness: Vec<(&'static str, Readiness)>,
    /// What plain HTTP clients are served.
    http: Option<HttpRoutes>,
}

impl Services {
    /// Adds one generated server.
    #[must_use]
    pub fn with<S>(mut self, service: S) -> Self
    where
        S: Service<Request<Body>, Error = Infallible> + NamedService + Clone + Send + Sync + 'static,
        S::Response: IntoResponse,
        S::Future: Send + 'static,
    {
        let service =
            tower::util::MapRequest::new(service, |request: Request<axum::body::Body>| request.map(Body::new));
        self.router = self.router.route_service(&format!("/{}/{{*rpc}}", S::NAME), service);
        self.names.push(S::NAME);
        self
    }

    /// Adds routes for plain HTTP clients: one group of a process has some.
    #[must_use]
    pub fn with_http(mut self, http: HttpRoutes) -> Self {
        self.http = Some(http);
        self
    }

    /// Takes the plain HTTP routes out, for a listener of their own.
    pub fn take_http(&mut self) -> Option<HttpRoutes> {
        self.http.take()
    }

    /// Whether there are plain HTTP routes.
    pub fn has_http(&self) -> bool {
        self.http.is_some()
    }

    /// Both groups. Two services of the same name are a mistake of the composition and panic at start.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        self.router = self.router.merge(other.router);
        self.names.extend(other.names);
        self.readiness.extend(other.readiness);
        self.http = self.http.or(other.http);
        self
    }

    /// All services of this group so far are ready when `readiness` says so; without, always.
    #[must_use]
    pub fn ready_when(mut self, readiness: &Readiness) -> Self {
        self.readiness.extend(self.names.iter().map(|name| (*name, readiness.clone())));
        self
    }

    /// The full names, for instance `tutti.router.v1.RouterService`.
    pub fn names(&self) -> &[&'static str] {
        &self.names
    }

    /// Each name with what its health depends on.
    pub(crate) fn readiness(&self) -> Vec<(&'static str, Readiness)> {
        let of = |name: &str| self.readiness.iter().find(|(of, _)| *of == name).map(|(_, readiness)| readiness.clone());
        self.names.iter().map(|name| (*name, of(name).unwrap_or_default())).collect()
    }

    /// The services behind the standard stack, for callers in the same process. The order matters, outermost first:
    ///
    /// 1. trace: around everything, so that the lines of all others have the call's ids
    /// 2. metrics and log: see what the caller sees, deadline included
    /// 3. deadline: bounds all that follows, head and body
    /// 4. typed errors: below the deadline, so that only tonic's own refusals are left to be typed
    /// 5. call: strips what strangers may not say, before any handler reads it
    ///
    /// Plain HTTP routes stand beside it.
    pub fn stack(self, default_timeout: Duration) -> axum::Router {
        let grpc = outer(self.router.fallback(unimplemented).layer(CallLayer), default_timeout);
        beside(grpc, self.http.map(|http| http.stack(default_timeout, None)))
    }

    /// These services as they are, and a refusal of all others, for plain HTTP too.
    pub(crate) fn refusing_others(self, why: impl Fn() -> Error + Clone + Send + Sync + 'static) -> axum::Router {
        let refuse = async move |headers: http::HeaderMap| {
            let is_grpc = headers.get(http::header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(GRPC));
            match is_grpc {
                true => Status::from(why()).into_http(),
                false => (http::StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", why())).into_response(),
            }
        };
        // Refusals take no time.
        outer(self.router.fallback(refuse), Duration::from_secs(1))
    }

    /// The standard stack for callers over the network, with two layers more, between typed errors and call:
    ///
    /// 5. auth: proves who calls, before `call` believes what it says; strangers don't take a place
    /// 6. shed: refuses what is too much
    pub(crate) fn network_stack(self, default_timeout: Duration, auth: AuthLayer, shed: ShedLayer) -> axum::Router {
        let http = self.http.map(|http| http.stack(default_timeout, Some(shed.clone())));
        let guarded = self.router.fallback(unimplemented).layer(CallLayer).layer(shed).layer(auth);
        beside(outer(guarded, default_timeout), http)
    }
}

fn beside(grpc: axum::Router, http: Option<axum::Router>) -> axum::Router {
    match http {
        Some(http) => grpc.merge(http),
        None => grpc,
    }
}

fn outer(router: axum::Router, default_timeout: Duration) -> axum::Router {
    router
        .layer(TypedErrorsLayer)
        .layer(DeadlineLayer::new(default_timeout))
        .layer(LogLayer)
        .layer(MetricsLayer)
        .layer(TraceLayer)
}

/// What gRPC clients expect for a path that no service has.
async fn unimplemented() -> impl IntoResponse {
    let headers = [("content-type", "application/grpc"), ("grpc-status", "12"), ("grpc-message", "unknown service")];
    (http::StatusCode::OK, headers)
}
