//! The mesh's own tower layers, one a file, and what they give to handlers.
//!
//! A server's stack is put together in `tutti_server::stack`, a client's in `tutti_client`.

mod attempts;
mod auth;
mod call;
mod deadline;
mod log;
mod mac;
mod methods;
mod metrics;
mod shed;
mod tls;
mod trace;
mod typed;

pub use attempts::{ATTEMPTS_HEADER, Attempts};
pub use auth::{AuthLayer, AuthService, Callers, UNAUTHENTICATED_CALLS};
pub use call::{CallContext, CallLayer, CallService, PEER_HEADERS, Peer};
pub use deadline::{DeadlineBody, DeadlineLayer, DeadlineService, parse_grpc_timeout};
pub use log::{LogBody, LogLayer, LogService};
pub use mac::{MAC_HEADER, MeshSecret, Proof};
pub use metrics::{MetricsBody, MetricsLayer, MetricsService};
pub use shed::{SHED_CALLS, ShedBody, ShedLayer, ShedService};
pub use tls::{ClientTls, ServerTls, TlsFiles};
pub use trace::{TraceBody, TraceLayer, TraceService, write_trace};
pub use typed::{TypedErrorsLayer, TypedErrorsService};

/// The largest message that any client or server of the mesh takes, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 32 * 1024 * 1024;
