//! Calls over all replicas of a service, sent again when a replica is lost before it has answered.
//!
//! Our own, beside tonic's `balance_channel`: that one takes a dead replica for an idle one (all loads are 0, and a lazy
//! connection is always ready), and can't send a call again to another.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, request::Parts};
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt as _, Full};
use tokio::{sync::Notify, time::Instant};
use tokio_util::task::AbortOnDropHandle;
use tonic::{Status, body::Body};
use tower::{BoxError, ServiceExt as _};
use tutti_error::{Error, Reason};
use tutti_layers::{MeshSecret, parse_grpc_timeout};

use crate::{
    connector::Target,
    replicas::{Replica, Replicas, Running, pick},
    resend::{Budget, Failure, Resend, Share},
    resolve::Resolve,
};

/// How often names are looked up.
const LOOKUP_INTERVAL: Duration = Duration::from_secs(5);
/// How often at most, when calls fail.
const MIN_LOOKUP_INTERVAL: Duration = Duration::from_millis(500);
/// How long a call waits for the first lookup.
const LOOKUP_PATIENCE: Duration = Duration::from_secs(5);
/// Counts calls that were sent again. Label `cause`: `unreachable`, `unsent` or `lost`.
const RESENDS: &str = "tutti_client_resends_total";

/// The replicas of one service, kept up to date while somebody holds a channel to it.
#[derive(Debug)]
pub(crate) struct Balance {
    replicas: Arc<Replicas>,
    budget: Budget,
    secret: Option<MeshSecret>,
    /// Wakes the lookup.
    failed: Arc<Notify>,
    _lookup: AbortOnDropHandle<()>,
}

impl Balance {
    pub(crate) fn new(targets: Vec<Target>, resolver: Arc<dyn Resolve>, secret: Option<MeshSecret>) -> Arc<Self> {
        let (replicas, failed) = (Arc::new(Replicas::new()), Arc::new(Notify::new()));
        let lookup = keep_up(targets, resolver, Arc::clone(&replicas), Arc::clone(&failed));
        // Owned by the channel that it works for.
        #[allow(clippy::disallowed_methods)]
        let lookup = AbortOnDropHandle::new(tokio::spawn(lookup));
        Arc::new(Self { replicas, budget: Budget::default(), secret, failed, _lookup: lookup })
    }

    /// Makes a call at one replica, and again at another where that is safe.
    pub(crate) async fn call(self: Arc<Self>, request: Request<Body>) -> Result<Response<Body>, BoxError> {
        let policy = Resend::of(request.uri().path());
        let known = self.replicas.known(LOOKUP_PATIENCE).await.unwrap_or_default();
        let Some(replica) = pick(&known, &[]) else {
            self.failed.notify_one();
            return Err(BoxError::from(Status::from(no_replica())));
        };
        if policy == Resend::Never {
            return self.send(&replica, request, false).await.map_err(|(_, error)| error);
        }
        self.budget.deposit();
        let mut share = Share::of(&request);
        let call = Call::keep(request).await?;
        let mut tried = Vec::new();
        let mut replica = replica;
        loop {
            let request = call.request(!tried.is_empty(), &share);
            let (failure, error) = match self.send(&replica, request, policy == Resend::Lost).await {
                Ok(response) => return Ok(response),
                Err(failed) => failed,
            };
            tried.push(replica.address);
            // Whatever becomes of it: who made the call has to know what it may have cost.
            let may_cost_more = failure != Failure::Lost || share.lose();
            if !may_cost_more || !self.may_resend(policy, failure, tried.len(), known.len()) || call.is_over() {
                return Err(error);
            }
            match pick(&known, &tried) {
                Some(another) => replica = another,
                None => return Err(error),
            }
        }
    }

    /// What can't have been processed is tried at every replica, and twice at a single one, whose connection may just have
    /// ended; what may have been processed, once more, within the budget.
    fn may_resend(&self, policy: Resend, failure: Failure, tried: usize, known: usize) -> bool {
        let (cause, may) = match failure {
            Failure::Unreachable => ("unreachable", tried < known.max(2)),
            Failure::Unsent => ("unsent", tried < known.max(2)),
            Failure::Lost => ("lost", policy == Resend::Lost && tried < 2 && self.budget.withdraw()),
            Failure::Other => return false,
        };
        if may {
            metrics::counter!(RESENDS, "cause" => cause).increment(1);
            tracing::debug!(cause, tried, "sending the call again");
        }
        may
    }

    /// One try. With `until_first`, it has failed also when the connection is lost after the head of the answer, but before
    /// its first message.
    async fn send(
        &self,
        replica: &Arc<Replica>,
        mut request: Request<Body>,
        until_first: bool,
    ) -> Result<Response<Body>, (Failure, BoxError)> {
        if let Some(secret) = &self.secret {
            let path = request.uri().path().to_owned();
            secret.sign(&path, request.headers_mut());
        }
        let running = replica.begin();
        let response = replica.channel.clone().oneshot(request).await.map_err(|error| {
            let failure = Failure::of(&error);
            if failure == Failure::Unreachable {
                replica.failed();
            }
            if failure != Failure::Other {
                self.failed.notify_one();
            }
            (failure, BoxError::from(error))
        })?;
        replica.answered();
        let (head, mut rest) = response.into_parts();
        let mut first = None;
        if until_first && !head.headers.contains_key("grpc-status") {
            first = rest.frame().await.transpose().map_err(|status| {
                self.failed.notify_one();
                (Failure::of(&status), BoxError::from(status))
            })?;
        }
        Ok(Response::from_parts(head, Body::new(Answer { first, rest, _running: running })))
    }
}

fn no_replica() -> Error {
    Error::new(Reason::ServiceUnavailable, "the name of the service stands for no address at the moment")
}

/// Looks all names up, now and again. A name that can't be looked up keeps the replicas that it had.
async fn keep_up(targets: Vec<Target>, resolver: Arc<dyn Resolve>, replicas: Arc<Replicas>, failed: Arc<Notify>) {
    let mut found = vec![Vec::new(); targets.len()];
    loop {
        for (target, found) in targets.iter().zip(&mut found) {
            match resolver.resolve(&target.host, target.port).await {
                Ok(addresses) => *found = addresses,
                Err(error) => tracing::warn!(host = target.host, "can't be looked up: {error}"),
            }
        }
        let make = |address| {
            let named = targets.iter().zip(&found).find(|(_, found)| found.contains(&address));
            named.map(|(target, _)| target.replica(address))
        };
        replicas.set(found.concat(), make);
        tokio::time::sleep(MIN_LOOKUP_INTERVAL).await;
        let next = tokio::time::timeout(LOOKUP_INTERVAL.saturating_sub(MIN_LOOKUP_INTERVAL), failed.notified());
        // Whichever comes first: time, or a failure.
        let _ = next.await;
    }
}

/// A call with its whole request, to be made more than once.
struct Call {
    parts: Parts,
    body: Bytes,
    ends_at: Option<Instant>,
}

impl Call {
    async fn keep(request: Request<Body>) -> Result<Self, BoxError> {
        let (parts, body) = request.into_parts();
        let ends_at = parse_grpc_timeout(&parts.headers).map(|timeout| Instant::now() + timeout);
        Ok(Self { parts, body: body.collect().await?.to_bytes(), ends_at })
    }

    fn is_over(&self) -> bool {
        self.ends_at.is_some_and(|end| end <= Instant::now())
    }

    /// The request with its share of the attempts; `again` with the time that is left.
    fn request(&self, again: bool, share: &Share) -> Request<Body> {
        let mut parts = self.parts.clone();
        share.write(&mut parts.headers);
        if let Some(end) = self.ends_at.filter(|_| again) {
            // At most eight digits.
            let left = end.saturating_duration_since(Instant::now()).as_millis().clamp(1, 99_999_999);
            if let Ok(value) = HeaderValue::from_str(&format!("{left}m")) {
                parts.headers.insert("grpc-timeout", value);
            }
        }
        Request::from_parts(parts, Body::new(Full::new(self.body.clone())))
    }
}

/// The body of an answer, with the piece of it that was waited for, counted as running until it is dropped.
struct Answer {
    first: Option<Frame<Bytes>>,
    rest: Body,
    _running: Running,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(Ok(first))),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.first.is_some() { SizeHint::default() } else { self.rest.size_hint() }
    }
}
