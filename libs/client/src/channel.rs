//! One channel type for peers in the same process and across the network.

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use tokio_util::task::AbortOnDropHandle;
use tonic::body::Body;
use tower::{BoxError, Service, ServiceExt as _, service_fn, util::BoxCloneSyncService};
use tracing::Instrument as _;
use tutti_error::Result;
use tutti_layers::Peer;

use crate::{Connector, balance::Balance};

type Inner = BoxCloneSyncService<Request<Body>, Response<Body>, BoxError>;

/// A way to another service. Cheap to clone.
#[derive(Clone)]
pub struct Channel(Inner);

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Channel")
    }
}

impl Channel {
    /// To a service in this process, through its whole server stack. Every call is a task of its own, ended when the
    /// caller drops it; the body is driven by its reader.
    pub fn in_process<S>(service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
        S::Future: Send,
    {
        let service = service_fn(move |mut request: Request<Body>| {
            request.extensions_mut().insert(Peer::InProcess);
            // Lines of the log belong to the caller's call.
            let call = service.clone().oneshot(request).in_current_span();
            // Owned by the future that waits for it.
            #[allow(clippy::disallowed_methods)]
            let task = AbortOnDropHandle::new(tokio::spawn(call));
            async move { task.await.map_err(BoxError::from)?.map_err(|never| match never {}) }
        });
        Self(BoxCloneSyncService::new(service))
    }

    /// To an address such as `http://127.0.0.1:7070`, proving nothing; otherwise as [`Connector::connect`].
    ///
    /// # Errors
    /// INVALID_REQUEST when the address can't be read.
    pub fn connect(address: &str) -> Result<Self> {
        Connector::default().connect(address)
    }

    pub(crate) fn balanced(balance: Arc<Balance>) -> Self {
        Self(BoxCloneSyncService::new(service_fn(move |request| Arc::clone(&balance).call(request))))
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.0.call(request)
    }
}
