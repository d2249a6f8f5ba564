//! How a service calls another: one channel type, in process or over the network, and one way to hand on the caller,
//! the deadline and the tenant.

mod balance;
mod channel;
mod connector;
mod replicas;
mod resend;
mod resolve;

use std::time::Duration;

pub use channel::Channel;
pub use connector::Connector;
pub use resolve::{Dns, Resolve};
use tonic::{Request, Status};
use tutti_error::{Error, Reason};
use tutti_layers::CallContext;

/// A request that carries on the context of the call it is made for: who asked, how much time and how many
/// attempts are left, and, from the running span, which trace it belongs to.
pub fn request<T>(message: T, context: &CallContext) -> Request<T> {
    let mut request = Request::new(message);
    let mut headers = http::HeaderMap::new();
    context.write_headers(&mut headers);
    tutti_layers::write_trace(&mut headers);
    *request.metadata_mut() = tonic::metadata::MetadataMap::from_headers(headers);
    // For the balance, which takes from it.
    request.extensions_mut().insert(context.attempts.clone());
    // A little less than is left, so that the nearer side notices first and can say what it was doing.
    request.set_timeout(context.deadline.remaining().max(Duration::from_millis(1)));
    request
}

/// The error behind a status of another service. A deadline that ran out on the way is DEADLINE_EXCEEDED, however the
/// transport called it.
pub fn error(status: &Status, peer: &str, context: &CallContext) -> Error {
    let error = tutti_error::from_status(status, peer);
    if error.reason() == Reason::Cancelled && context.deadline.is_past() {
        return Error::new(Reason::DeadlineExceeded, "the deadline passed").context(error);
    }
    error
}
