//! Who calls, on whose behalf, and until when: read from the head of a request once, for every handler.

use std::task::{Context, Poll};

use http::{HeaderMap, HeaderName, HeaderValue, Request};
use tower::{Layer, Service};
use tutti_types::{Deadline, Scope};

use crate::{ATTEMPTS_HEADER, Attempts};

const ORG: HeaderName = HeaderName::from_static("x-tutti-org");
const PRINCIPAL: HeaderName = HeaderName::from_static("x-tutti-principal");

/// Metadata that only peers of the mesh may send; stripped from everybody else's requests.
pub const PEER_HEADERS: [HeaderName; 3] = [ORG, PRINCIPAL, ATTEMPTS_HEADER];

/// Where a request came from. Put into a request's extensions by whatever accepted it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// A service of the mesh in the same process.
    InProcess,
    /// A service of the mesh over the network: a verified certificate or MAC proves it.
    Mesh,
    /// Anybody over the network.
    Network,
}

/// What every handler knows of its call. Taken from a request with [`CallContext::of`], handed on to other services
/// by `tutti_client::request`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallContext {
    /// Tenant and caller.
    pub scope: Scope,
    /// When the call must have ended.
    pub deadline: Deadline,
    /// How many attempts it may still cause, by the word of the peer that makes it.
    pub attempts: Attempts,
}

impl CallContext {
    /// A call that begins here, without a cap on its attempts.
    pub fn new(scope: Scope, deadline: Deadline) -> Self {
        Self { scope, deadline, attempts: Attempts::default() }
    }

    /// The context of a request that came through [`CallLayer`] and the deadline layer; a default one (30 s) otherwise.
    pub fn of<T>(request: &tonic::Request<T>) -> Self {
        let scope = request.extensions().get::<Scope>().cloned().unwrap_or_default();
        let deadline = request
            .extensions()
            .get::<Deadline>()
            .copied()
            .unwrap_or_else(|| Deadline::after(std::time::Duration::from_secs(30)));
        let attempts = request.extensions().get::<Attempts>().cloned().unwrap_or_default();
        Self { scope, deadline, attempts }
    }

    /// The same call with an earlier end.
    #[must_use]
    pub fn no_later_than(&self, deadline: Deadline) -> Self {
        Self { deadline: self.deadline.min(deadline), ..self.clone() }
    }

    /// The same call with a count of attempts of its own.
    #[must_use]
    pub fn with_attempts(&self, attempts: Attempts) -> Self {
        Self { attempts, ..self.clone() }
    }

    /// Writes the tenant, the caller and the attempts that are left where a peer reads them.
    pub fn write_headers(&self, headers: &mut HeaderMap) {
        for (name, value) in [(ORG, &self.scope.org), (PRINCIPAL, &self.scope.principal)] {
            // Names with bytes a header can't carry were refused where they entered the mesh.
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        }
        self.attempts.write(headers);
    }
}

/// Puts the [`Scope`] and the [`Attempts`] into the extensions of every request.
///
/// Only a request of a proven [`Peer`] is believed; from anybody else, the peer headers are stripped.
#[derive(Debug, Clone, Copy, Default)]
pub struct CallLayer;

impl<S> Layer<S> for CallLayer {
    type Service = CallService<S>;
    fn layer(&self, inner: S) -> Self::Service {
        CallService { inner }
    }
}

/// The service of [`CallLayer`].
#[derive(Debug, Clone)]
pub struct CallService<S> {
    inner: S,
}

impl<S, B> Service<Request<B>> for CallService<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let mut scope = Scope::default();
        let org = request.headers_mut().remove(ORG);
        let principal = request.headers_mut().remove(PRINCIPAL);
        let carried = request.headers_mut().remove(ATTEMPTS_HEADER);
        let mut attempts = Attempts::default();
        if matches!(request.extensions().get::<Peer>(), Some(Peer::InProcess | Peer::Mesh)) {
            let text = |value: Option<HeaderValue>| value.and_then(|v| v.to_str().ok().map(str::to_owned));
            if let Some(org) = text(org) {
                scope.org = org;
            }
            if let Some(principal) = text(principal) {
                scope.principal = principal;
            }
            attempts = Attempts::read(carried.as_ref());
        }
        request.extensions_mut().insert(scope);
        request.extensions_mut().insert(attempts);
        self.inner.call(request)
    }
}

#[cfg(test)]
mod tests {
    use tower::{ServiceExt as _, service_fn};

    use super::*;

    async fn seen(peer: Peer) -> (Scope, Option<u32>) {
        let service = CallLayer.layer(service_fn(|request: Request<()>| async move {
            assert!(PEER_HEADERS.iter().all(|name| !request.headers().contains_key(name)));
            let extensions = request.extensions();
            let (scope, attempts) = (extensions.get::<Scope>().unwrap(), extensions.get::<Attempts>().unwrap());
            Ok::<_, std::convert::Infallible>((scope.clone(), attempts.left()))
        }));
        let mut request = Request::new(());
        request.headers_mut().insert(ORG, HeaderValue::from_static("acme"));
        request.headers_mut().insert(PRINCIPAL, HeaderValue::from_static("alice"));
        request.headers_mut().insert(ATTEMPTS_HEADER, HeaderValue::from_static("3"));
        // What a caller in the same process left there is not what it says.
        request.extensions_mut().insert(Attempts::at_most(7));
        request.extensions_mut().insert(peer);
        service.oneshot(request).await.unwrap()
    }

    #[tokio::test]
    async fn only_peers_name_an_org_or_a_cap() {
        assert_eq!(seen(Peer::Network).await, (Scope::default(), None));
        for peer in [Peer::InProcess, Peer::Mesh] {
            assert_eq!(seen(peer).await, (Scope { org: "acme".into(), principal: "alice".into() }, Some(3)));
        }
    }
}
