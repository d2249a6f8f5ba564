//! gRPC services as one HTTP service, with the stack that stands before every handler, and a door for plain HTTP beside.

use std::{convert::Infallible, fmt, time::Duration};

use axum::response::IntoResponse as _;
use http::{Request, Response, StatusCode};
use tokio_util::sync::CancellationToken;
use tonic::{Status, body::Body, server::NamedService};
use tower::{
    Service, ServiceBuilder,
    layer::util::{Identity, Stack as Stacked},
    util::BoxCloneSyncService,
};
use tutti_error::Error;
use tutti_layers::{
    AuthLayer, CallLayer, DeadlineLayer, LogLayer, MetricsLayer, ShedLayer, TraceLayer, TypedErrorsLayer,
};

use crate::{
    HttpRoutes, Readiness,
    dispatch::{Dispatch, Front, Grpc},
};

/// A group of services behind its stack of layers. Cheap to clone.
pub type Stack = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// Services by name. One process serves one group (`router`) or several merged (`tutti up`).
#[derive(Clone, Default)]
pub struct Services {
    grpc: Vec<(&'static str, Grpc)>,
    names: Vec<&'static str>,
    readiness: Vec<(&'static str, Readiness)>,
    /// What plain HTTP clients are served.
    http: Option<HttpRoutes>,
    /// Cancelled when the server begins to drain.
    draining: Vec<CancellationToken>,
}

impl Services {
    /// Adds one generated server.
    #[must_use]
    pub fn with<S>(mut self, service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + NamedService,
        S: Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        self.grpc.push((S::NAME, Grpc::new(service)));
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
        self.grpc.extend(other.grpc);
        self.names.extend(other.names);
        self.readiness.extend(other.readiness);
        self.http = self.http.or(other.http);
        self.draining.extend(other.draining);
        self
    }

    /// All services of this group so far are ready when `readiness` says so; without, always.
    #[must_use]
    pub fn ready_when(mut self, readiness: &Readiness) -> Self {
        self.readiness.extend(self.names.iter().map(|name| (*name, readiness.clone())));
        self
    }

    /// Cancels `token` when the server begins to drain, so that streams without an end of their own end, and nobody waits
    /// for them until the grace period is over.
    #[must_use]
    pub fn draining(mut self, token: &CancellationToken) -> Self {
        self.draining.push(token.clone());
        self
    }

    /// What is to be cancelled when the server begins to drain.
    pub(crate) fn drained(&self) -> Vec<CancellationToken> {
        self.draining.clone()
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
    pub fn stack(self, default_timeout: Duration) -> Stack {
        let http = self.http.map(|http| http.stack(default_timeout, None));
        let grpc = outer(default_timeout).layer(CallLayer).service(Dispatch::new(self.grpc));
        Stack::new(Front::new(grpc, http))
    }

    /// These services as they are, and a refusal of all others, for plain HTTP too.
    pub(crate) fn refusing_others(self, why: impl Fn() -> Error + Clone + Send + Sync + 'static) -> Stack {
        let says = why.clone();
        let http = async move || (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", says())).into_response();
        let dispatch = Dispatch::new(self.grpc).or_else(move || Status::from(why()).into_http());
        // Refusals take no time.
        let grpc = outer(Duration::from_secs(1)).service(dispatch);
        Stack::new(Front::new(grpc, Some(axum::Router::new().fallback(http))))
    }

    /// The standard stack for callers over the network, with two layers more, between typed errors and call:
    ///
    /// 5. auth: proves who calls, before `call` believes what it says; strangers don't take a place
    /// 6. shed: refuses what is too much
    pub(crate) fn network_stack(self, default_timeout: Duration, auth: AuthLayer, shed: ShedLayer) -> Stack {
        let http = self.http.map(|http| http.stack(default_timeout, Some(shed.clone())));
        let guarded = outer(default_timeout).layer(auth).layer(shed).layer(CallLayer);
        Stack::new(Front::new(guarded.service(Dispatch::new(self.grpc)), http))
    }
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Services").field("names", &self.names).finish_non_exhaustive()
    }
}

type Outer = Stacked<
    TypedErrorsLayer,
    Stacked<DeadlineLayer, Stacked<LogLayer, Stacked<MetricsLayer, Stacked<TraceLayer, Identity>>>>,
>;

fn outer(default_timeout: Duration) -> ServiceBuilder<Outer> {
    ServiceBuilder::new()
        .layer(TraceLayer)
        .layer(MetricsLayer)
        .layer(LogLayer)
        .layer(DeadlineLayer::new(default_timeout))
        .layer(TypedErrorsLayer)
}
