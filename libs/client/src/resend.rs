//! Which calls may be sent a second time, and after which failures.

use std::{
    error::Error as StdError,
    io,
    sync::atomic::{AtomicI64, Ordering},
};

/// What a failed call may be sent again after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Resend {
    /// Never: its requests are a stream, which can't be repeated.
    Never,
    /// Only what provably was not processed.
    Unsent,
    /// Also what may have been processed, when the connection was lost before the first piece of the answer.
    Lost,
}

/// Calls whose repetition changes nothing: those that only read, and those that are idempotent by the ids they carry.
///
/// `Generate` and `GenerateStream` are here because a caller must not lose an answer to the end of a replica. What the
/// lost attempt cost is on its own hold, which lapses into a record marked as assumed; the second attempt has a hold of
/// its own.
const IDEMPOTENT: &[&str] = &[
    "/grpc.health.v1.Health/Check",
    "/tutti.gateway.v1.GatewayService/CheckBackends",
    "/tutti.gateway.v1.GatewayService/Embed",
    "/tutti.gateway.v1.GatewayService/Generate",
    "/tutti.gateway.v1.GatewayService/GenerateStream",
    "/tutti.gateway.v1.GatewayService/ListModels",
    "/tutti.ledger.v1.LedgerService/GetUsage",
    "/tutti.ledger.v1.LedgerService/ListUsage",
    "/tutti.ledger.v1.LedgerService/Release",
    "/tutti.ledger.v1.LedgerService/Reserve",
    "/tutti.ledger.v1.LedgerService/Settle",
    "/tutti.memory.v1.SessionService/AppendMessages",
    "/tutti.memory.v1.SessionService/BuildContext",
    "/tutti.memory.v1.SessionService/GetHistory",
    "/tutti.memory.v1.SessionService/ListSessions",
    "/tutti.router.v1.PersonaService/GetPersona",
    "/tutti.router.v1.PersonaService/ListPersonas",
    "/tutti.router.v1.RouterService/ListBackends",
    "/tutti.router.v1.RouterService/Route",
    "/tutti.sandbox.v1.AuditService/QueryAudit",
    "/tutti.sandbox.v1.ToolService/ListTools",
];

/// Calls that do something each time they are made.
const EFFECTIVE: &[&str] = &[
    "/tutti.memory.v1.SessionService/DeleteSession",
    "/tutti.memory.v1.SessionService/ResetContext",
    "/tutti.router.v1.RouterService/Cancel",
    "/tutti.router.v1.RouterService/Chat",
    "/tutti.router.v1.RouterService/ChatStream",
    "/tutti.sandbox.v1.ToolService/Execute",
];

impl Resend {
    /// By the path of a call. Calls that nobody thought about are never repeated.
    pub(crate) fn of(path: &str) -> Self {
        if IDEMPOTENT.binary_search(&path).is_ok() {
            Self::Lost
        } else if EFFECTIVE.binary_search(&path).is_ok() {
            Self::Unsent
        } else {
            Self::Never
        }
    }
}

/// How a call failed, as far as sending it again is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// There was no connection to be had.
    Unreachable,
    /// The connection ended before the call was processed.
    Unsent,
    /// The connection ended, and the call may have been processed.
    Lost,
    /// Something else, which would happen again.
    Other,
}

impl Failure {
    /// Reads the chain of causes of a transport's error.
    pub(crate) fn of(error: &(dyn StdError + 'static)) -> Self {
        let mut cause = Some(error);
        let mut found = Self::Other;
        while let Some(error) = cause {
            match Self::of_one(error) {
                Self::Other => {}
                // hyper knows that a call was never sent; what lies below it only knows that the connection ended.
                Self::Lost => found = Self::Lost,
                certain => return certain,
            }
            cause = error.source();
        }
        found
    }

    fn of_one(error: &(dyn StdError + 'static)) -> Self {
        if error.is::<tonic::ConnectError>() {
            return Self::Unreachable;
        }
        if let Some(error) = error.downcast_ref::<hyper::Error>() {
            if error.is_canceled() || error.is_closed() {
                return Self::Unsent;
            }
            return if error.is_incomplete_message() || error.is_timeout() { Self::Lost } else { Self::Other };
        }
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return of_h2(error);
        }
        match error.downcast_ref::<io::Error>().map(io::Error::kind) {
            Some(
                io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::NotConnected
                | io::ErrorKind::UnexpectedEof,
            ) => Self::Lost,
            _ => Self::Other,
        }
    }
}

fn of_h2(error: &h2::Error) -> Failure {
    let reason = error.reason();
    if error.is_remote() && error.is_reset() && reason == Some(h2::Reason::REFUSED_STREAM) {
        // What the server says of calls that it has not begun.
        return Failure::Unsent;
    }
    if error.is_go_away() && error.is_remote() && reason == Some(h2::Reason::NO_ERROR) {
        // h2 ends only the calls above the last one that the server says it processed.
        return Failure::Unsent;
    }
    if error.is_io() || error.is_go_away() { Failure::Lost } else { Failure::Other }
}

/// Bounds repetitions of calls that may have been processed, so that a mesh in trouble doesn't get its load twice: each
/// call pays in a fifth of one, and a burst of [`Budget::BURST`] is allowed for, as when a replica with many calls dies.
#[derive(Debug)]
pub(crate) struct Budget {
    fifths: AtomicI64,
}

impl Default for Budget {
    fn default() -> Self {
        Self { fifths: AtomicI64::new(Self::FULL) }
    }
}

impl Budget {
    const BURST: i64 = 2000;
    const FULL: i64 = Self::BURST * 5;

    /// A call is made.
    pub(crate) fn deposit(&self) {
        // A race may go over by as many as race: harmless.
        if self.fifths.load(Ordering::Relaxed) < Self::FULL {
            self.fifths.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether a call may be repeated.
    pub(crate) fn withdraw(&self) -> bool {
        self.fifths
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |fifths| (fifths >= 5).then_some(fifths - 5))
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;

    #[test]
    fn every_call_of_the_mesh_is_decided() {
        assert!(IDEMPOTENT.is_sorted() && EFFECTIVE.is_sorted());
        let set = FileDescriptorSet::decode(tutti_proto::FILE_DESCRIPTOR_SET).unwrap();
        let mut count = 0;
        for file in set.file.iter().filter(|file| file.package().starts_with("tutti.")) {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    let is_repeatable = Resend::of(&path) != Resend::Never;
                    assert_eq!(is_repeatable, !method.client_streaming(), "{path}: idempotent or effective?");
                    count += 1;
                }
            }
        }
        assert!(count > 20);
        assert_eq!(Resend::of("/tutti.sandbox.v1.ToolService/Execute"), Resend::Unsent);
        assert_eq!(Resend::of("/tutti.ledger.v1.LedgerService/Settle"), Resend::Lost);
    }

    #[test]
    fn the_budget_ends_and_comes_back_with_calls() {
        let budget = Budget::default();
        for _ in 0..Budget::BURST {
            assert!(budget.withdraw());
        }
        assert!(!budget.withdraw());
        for _ in 0..5 {
            budget.deposit();
        }
        assert!(budget.withdraw() && !budget.withdraw());
    }
}
