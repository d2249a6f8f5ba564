//! gRPC services as one HTTP service, with the stack that stands before every handler.

use std::{convert::Infallible, time::Duration};

use axum::response::IntoResponse;
use http::Request;
use tonic::{body::Body, server::NamedService};
use tower::Service;
use tutti_layers::{CallLayer, DeadlineLayer, LogLayer, TypedErrorsLayer};

/// Services by name. One process serves one group (`router`) or several merged (`tutti up`).
#[derive(Clone, Default, Debug)]
pub struct Services {
    router: axum::Router,
    names: Vec<&'static str>,
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

    /// Both groups. Two services of the same name are a mistake of the composition and panic at start.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        self.router = self.router.merge(other.router);
        self.names.extend(other.names);
        self
    }

    /// The full names, for instance `tutti.router.v1.RouterService`.
    pub fn names(&self) -> &[&'static str] {
        &self.names
    }

    /// The services behind the standard stack. The order matters, outermost first:
    ///
    /// 1. log: sees what the caller sees, deadline included
    /// 2. deadline: bounds all that follows, head and body
    /// 3. typed errors: below the deadline, so that only tonic's own refusals are left to be typed
    /// 4. call: strips what strangers may not say, before any handler reads it
    pub fn stack(self, default_timeout: Duration) -> axum::Router {
        self.router
            .fallback(unimplemented)
            .layer(CallLayer)
            .layer(TypedErrorsLayer)
            .layer(DeadlineLayer::new(default_timeout))
            .layer(LogLayer)
    }
}

/// What gRPC clients expect for a path that no service has.
async fn unimplemented() -> impl IntoResponse {
    let headers = [("content-type", "application/grpc"), ("grpc-status", "12"), ("grpc-message", "unknown service")];
    (http::StatusCode::OK, headers)
}
