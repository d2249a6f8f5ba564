//! Who may call: proven peers of the mesh, or anyone.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Request, Response};
use tonic::Status;
use tower::{Layer, Service};
use tutti_error::{Error, Reason};

use crate::{MAC_HEADER, MeshSecret, Peer, Proof};

/// Counts calls that were refused for want of a proof, or for a wrong one. Label `proof`: `none` or `wrong`.
pub const UNAUTHENTICATED_CALLS: &str = "tutti_unauthenticated_calls_total";

/// What anyone may ask of every server: probes and tools have no secret.
const OPEN: [&str; 2] = ["/grpc.health.", "/grpc.reflection."];

/// Who may call a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Callers {
    /// Whoever reaches it.
    #[default]
    Anyone,
    /// Only services of the mesh that prove it.
    Peers,
}

/// Turns [`Peer::Network`] into [`Peer::Mesh`] for calls with a right MAC, and refuses with UNAUTHENTICATED a wrong one,
/// as well as strangers where only peers may call. Health and reflection stay open.
#[derive(Debug, Clone, Default)]
pub struct AuthLayer {
    callers: Callers,
    secret: Option<MeshSecret>,
}

impl AuthLayer {
    /// With a `secret`, calls can prove themselves by a MAC; a client certificate is proven before, by the connection.
    pub fn new(callers: Callers, secret: Option<MeshSecret>) -> Self {
        Self { callers, secret }
    }

    /// The peer behind a request, or why it is refused.
    fn admit<B>(&self, request: &Request<B>) -> Result<Peer, Error> {
        let peer = request.extensions().get::<Peer>().copied().unwrap_or(Peer::Network);
        let path = request.uri().path();
        if peer != Peer::Network || OPEN.iter().any(|prefix| path.starts_with(prefix)) {
            return Ok(peer);
        }
        let proof = self.secret.as_ref().map_or(Proof::Absent, |secret| secret.verify(path, request.headers()));
        match (proof, self.callers) {
            (Proof::Valid, _) => Ok(Peer::Mesh),
            (Proof::Absent, Callers::Anyone) => Ok(Peer::Network),
            (Proof::Absent, Callers::Peers) => Err(refusal("none", "only services of the mesh may call this one")),
            (Proof::Wrong, _) => {
                Err(refusal("wrong", "the mesh secret or the clock of the caller is another than ours"))
            }
        }
    }
}

fn refusal(proof: &'static str, why: &str) -> Error {
    metrics::counter!(UNAUTHENTICATED_CALLS, "proof" => proof).increment(1);
    tracing::warn!(proof, "call refused: {why}");
    Error::new(Reason::Unauthenticated, why)
}

impl<S> Layer<S> for AuthLayer {
    type Service = AuthService<S>;
    fn layer(&self, inner: S) -> Self::Service {
        AuthService { inner, auth: self.clone() }
    }
}

/// The service of [`AuthLayer`].
#[derive(Debug, Clone)]
pub struct AuthService<S> {
    inner: S,
    auth: AuthLayer,
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl<S, B, R> Service<Request<B>> for AuthService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    R: Default + Send + 'static,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = BoxFuture<Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        match self.auth.admit(&request) {
            Ok(peer) => {
                request.headers_mut().remove(MAC_HEADER);
                request.extensions_mut().insert(peer);
                Box::pin(self.inner.call(request))
            }
            Err(error) => {
                let response = Status::from(error).into_http();
                Box::pin(async move { Ok(response) })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tower::{ServiceExt as _, service_fn};

    use super::*;

    const PATH: &str = "/tutti.ledger.v1.LedgerService/Reserve";

    fn secret(key: &str) -> MeshSecret {
        MeshSecret::new([key]).unwrap()
    }

    fn call(path: &str, signed_with: Option<&MeshSecret>) -> Request<()> {
        let mut request = Request::builder().uri(path).body(()).unwrap();
        request.extensions_mut().insert(Peer::Network);
        if let Some(secret) = signed_with {
            secret.sign(path, request.headers_mut());
        }
        request
    }

    /// The peer that the handler saw, or the status.
    async fn outcome(layer: &AuthLayer, request: Request<()>) -> Result<Peer, String> {
        let service = layer.layer(service_fn(|request: Request<()>| async move {
            assert!(!request.headers().contains_key(MAC_HEADER));
            let mut response = Response::new(());
            response.extensions_mut().insert(*request.extensions().get::<Peer>().unwrap());
            Ok::<_, std::convert::Infallible>(response)
        }));
        let response = service.oneshot(request).await.unwrap();
        match response.extensions().get::<Peer>() {
            Some(peer) => Ok(*peer),
            None => Err(response.headers()["grpc-status"].to_str().unwrap().to_owned()),
        }
    }

    const UNAUTHENTICATED: &str = "16";

    #[tokio::test]
    async fn below_the_router_only_peers_may_call() {
        let layer = AuthLayer::new(Callers::Peers, Some(secret("ours")));
        assert_eq!(outcome(&layer, call(PATH, Some(&secret("ours")))).await, Ok(Peer::Mesh));
        assert_eq!(outcome(&layer, call(PATH, Some(&secret("theirs")))).await, Err(UNAUTHENTICATED.into()));
        assert_eq!(outcome(&layer, call(PATH, None)).await, Err(UNAUTHENTICATED.into()));
        let mut certified = call(PATH, None);
        certified.extensions_mut().insert(Peer::Mesh);
        assert_eq!(outcome(&layer, certified).await, Ok(Peer::Mesh));
        for open in ["/grpc.health.v1.Health/Check", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"] {
            assert_eq!(outcome(&layer, call(open, None)).await, Ok(Peer::Network), "{open}");
        }
    }

    #[tokio::test]
    async fn the_router_takes_callers_but_no_wrong_proofs() {
        let layer = AuthLayer::new(Callers::Anyone, Some(secret("ours")));
        assert_eq!(outcome(&layer, call(PATH, None)).await, Ok(Peer::Network));
        assert_eq!(outcome(&layer, call(PATH, Some(&secret("ours")))).await, Ok(Peer::Mesh));
        assert_eq!(outcome(&layer, call(PATH, Some(&secret("theirs")))).await, Err(UNAUTHENTICATED.into()));
    }
}
