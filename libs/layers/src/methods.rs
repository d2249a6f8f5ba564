//! The methods there are, by path, and how calls of them end: names for spans and labels that no caller can make more of.

use std::{collections::HashMap, sync::LazyLock};

use http::{HeaderMap, StatusCode, header::CONTENT_TYPE};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::Code;

/// What is asked for but isn't there.
pub(crate) const OTHER: &str = "other";

/// The routes for plain HTTP clients.
const HTTP: [&str; 4] = ["/v1/chat/completions", "/v1/embeddings", "/v1/models", ONE_MODEL];
/// The route whose last part is a caller's.
const ONE_MODEL: &str = "/v1/models/{id}";

/// A method that is known.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Method {
    /// `package.Service/Method`, or the route.
    pub(crate) name: String,
    /// `package.Service`, or `http`.
    pub(crate) service: String,
    /// `Method`, or the route.
    pub(crate) rpc: String,
    /// Whether it speaks gRPC.
    pub(crate) is_grpc: bool,
}

static METHODS: LazyLock<HashMap<String, Method>> = LazyLock::new(|| {
    // Generated with the messages themselves; a test reads it.
    let files = FileDescriptorSet::decode(tutti_proto::FILE_DESCRIPTOR_SET).unwrap_or_default().file;
    let mut methods = HashMap::new();
    for file in &files {
        for service in &file.service {
            let full = format!("{}.{}", file.package(), service.name());
            for method in &service.method {
                let name = format!("{full}/{}", method.name());
                let method = Method { name, service: full.clone(), rpc: method.name().to_owned(), is_grpc: true };
                methods.insert(format!("/{}", method.name), method);
            }
        }
    }
    for route in HTTP {
        let method = Method { name: route.into(), service: "http".into(), rpc: route.into(), is_grpc: false };
        methods.insert(route.to_owned(), method);
    }
    methods
});

/// The method of a path, if there is one.
pub(crate) fn find(path: &str) -> Option<&'static Method> {
    let path = if path.starts_with("/v1/models/") { ONE_MODEL } else { path };
    METHODS.get(path)
}

/// The status in the head or the trailers of a gRPC answer.
pub(crate) fn grpc_code(headers: &HeaderMap) -> Option<Code> {
    headers.get("grpc-status").map(|value| Code::from_bytes(value.as_bytes()))
}

/// Whether an answer speaks gRPC.
pub(crate) fn speaks_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// The code nearest to an HTTP status, for calls that don't speak gRPC.
pub(crate) fn of_http(status: StatusCode) -> Code {
    match status.as_u16() {
        200..=299 => Code::Ok,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::NotFound,
        408 | 504 => Code::DeadlineExceeded,
        409 => Code::Aborted,
        413 => Code::OutOfRange,
        429 => Code::ResourceExhausted,
        499 => Code::Cancelled,
        501 => Code::Unimplemented,
        502 | 503 => Code::Unavailable,
        400..=499 => Code::InvalidArgument,
        _ => Code::Internal,
    }
}

/// A code as gRPC writes it.
pub(crate) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_methods_of_the_protos_are_known_and_no_others() {
        let chat = find("/tutti.router.v1.RouterService/Chat").unwrap();
        assert_eq!((chat.name.as_str(), chat.rpc.as_str()), ("tutti.router.v1.RouterService/Chat", "Chat"));
        assert_eq!(find("/v1/models").map(|method| method.service.as_str()), Some("http"));
        assert_eq!(find("/v1/models/persona/architect").map(|method| method.name.as_str()), Some(ONE_MODEL));
        assert_eq!((find("/tutti.router.v1.RouterService/Guess"), find("/v1/guess")), (None, None));
    }
}
