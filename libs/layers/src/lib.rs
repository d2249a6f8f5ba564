//! The mesh's own tower layers, one a file, and what they give to handlers.
//!
//! A server's stack is put together in `tutti_server::stack`, a client's in `tutti_client`.

mod call;
mod deadline;
mod log;
mod typed;

pub use call::{CallContext, CallLayer, CallService, PEER_HEADERS, Peer};
pub use deadline::{DeadlineBody, DeadlineLayer, DeadlineService, parse_grpc_timeout};
pub use log::{LogBody, LogLayer, LogService};
pub use typed::{TypedErrorsLayer, TypedErrorsService};

/// The largest message that any client or server of the mesh takes, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 32 * 1024 * 1024;
