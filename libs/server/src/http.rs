//! Routes for plain HTTP clients, beside gRPC or on a listener of their own.

use std::time::Duration;

use axum::body::Body;
use http::{Request, Response};
use tonic::Status;
use tower::util::{MapRequestLayer, MapResponseLayer};
use tutti_error::{Error, from_status};
use tutti_layers::{CallLayer, MetricsLayer, ShedLayer, TraceLayer};
use tutti_types::Deadline;

use crate::{
    Stack,
    dispatch::{Dispatch, Front},
};

/// Writes a failure as the clients of these routes read it.
pub type WriteError = fn(&Error) -> Response<Body>;

/// Plain HTTP routes. Their handlers find a `Scope` and a `Deadline` among the extensions of a request, and end by
/// themselves when it is over; they have no fallback.
#[derive(Debug, Clone)]
pub struct HttpRoutes {
    router: axum::Router,
    write_error: WriteError,
}

impl HttpRoutes {
    /// Routes, and how to write the failures of the layers before them.
    pub fn new(router: axum::Router, write_error: WriteError) -> Self {
        Self { router, write_error }
    }

    /// The whole of what a listener serves.
    pub(crate) fn alone(self, timeout: Duration, shed: ShedLayer) -> Stack {
        Stack::new(Front::new(Dispatch::new(Vec::new()), Some(self.stack(timeout, Some(shed)))))
    }

    /// The routes behind what they share with gRPC: a span, metrics, strangers' headers stripped, a deadline, and, over the network, no
    /// more calls than the server can take.
    pub(crate) fn stack(self, timeout: Duration, shed: Option<ShedLayer>) -> axum::Router {
        let until = move |mut request: Request<Body>| {
            request.extensions_mut().insert(Deadline::after(timeout));
            request
        };
        let router = self.router.layer(CallLayer).layer(MapRequestLayer::new(until));
        let Some(shed) = shed else { return router.layer(MetricsLayer).layer(TraceLayer) };
        let write_error = self.write_error;
        // The layers of the mesh refuse as gRPC does.
        let rewrite = move |response: Response<Body>| match Status::from_header_map(response.headers()) {
            Some(status) => write_error(&from_status(&status, "server")),
            None => response,
        };
        router.layer(shed).layer(MapResponseLayer::new(rewrite)).layer(MetricsLayer).layer(TraceLayer)
    }
}
