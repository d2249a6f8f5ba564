//! Which calls may be sent a second time, and after which failures.

use std::{
    error::Error as StdError,
    io,
    sync::atomic::{AtomicI64, Ordering},
};

use http::{HeaderMap, Request};
use tonic::body::Body;
use tutti_layers::Attempts;

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
/// its own. `ChatStream` too: the router sends its first event before it does anything.
const IDEMPOTENT: &[&str] = &[
    "/grpc.health.v1.Health/Check",
    "/tutti.gateway.v1.GatewayService/CheckBackends",
    "/tutti.gateway.v1.GatewayService/Embed",
    "/tutti.gateway.v1.GatewayService/Generate",
    "/tutti.gateway.v1.GatewayService/GenerateStream",
    "/tutti.gateway.v1.GatewayService/ListModels",
    "/tutti.gateway.v1.GatewayService/ResetBackend",
    "/tutti.gateway.v1.GatewayService/WatchBackends",
    "/tutti.ledger.v1.LedgerService/GetUsage",
    "/tutti.ledger.v1.LedgerService/ListUsage",
    "/tutti.ledger.v1.LedgerService/Release",
    "/tutti.ledger.v1.LedgerService/Reserve",
    "/tutti.ledger.v1.LedgerService/Settle",
    "/tutti.ledger.v1.LedgerService/SettleMany",
    "/tutti.memory.v1.SessionService/AppendMessages",
    "/tutti.memory.v1.SessionService/BuildContext",
    "/tutti.memory.v1.SessionService/GetHistory",
    "/tutti.memory.v1.SessionService/ListSessions",
    "/tutti.router.v1.PersonaService/GetPersona",
    "/tutti.router.v1.PersonaService/ListPersonas",
    "/tutti.router.v1.RouterService/Attach",
    "/tutti.router.v1.RouterService/ChatStream",
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
    "/tutti.sandbox.v1.ToolService/Execute",
];

/// Those of them that call providers, for money: each counts its tries against the [`Attempts`] of its run.
const PAID: &[&str] = &[
    "/tutti.gateway.v1.GatewayService/Embed",
    "/tutti.gateway.v1.GatewayService/Generate",
    "/tutti.gateway.v1.GatewayService/GenerateStream",
];

/// The attempts that a try of a call may cause at most: a share of what its run has left, so that what is sent again
/// after a loss, when nobody knows how many the lost try has made, keeps within the cap.
#[derive(Debug, Default)]
pub(crate) struct Share {
    run: Attempts,
    granted: u32,
}

impl Share {
    /// The share of the first try.
    pub(crate) fn of(request: &Request<Body>) -> Self {
        let is_paid = PAID.contains(&request.uri().path());
        let run = request.extensions().get::<Attempts>().filter(|_| is_paid).cloned().unwrap_or_default();
        Self { granted: Self::next(&run), run }
    }

    /// The larger half of what is left, so that there is something to try again with; all of it where that is forbidden.
    fn next(run: &Attempts) -> u32 {
        let left = run.left().unwrap_or_default();
        if run.repeats_lost() { left.div_ceil(2) } else { left }
    }

    /// Tells the peer its share.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        if self.run.left().is_some() {
            Attempts::at_most(self.granted).write(headers);
        }
    }

    /// A try was lost, and with it all that it may have done. Whether there is something left for another.
    pub(crate) fn lose(&mut self) -> bool {
        self.run.spend(self.granted);
        self.granted = Self::next(&self.run);
        self.run.repeats_lost() && self.run.left() != Some(0)
    }
}

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
        assert!(PAID.iter().all(|path| Resend::of(path) == Resend::Lost));
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

    fn share(path: &str, run: &Attempts) -> Share {
        let mut request = Request::builder().uri(path).body(Body::empty()).unwrap();
        request.extensions_mut().insert(run.clone());
        Share::of(&request)
    }

    #[test]
    fn a_lost_try_has_spent_its_share() {
        let run = Attempts::at_most(5);
        let mut of_run = share(PAID[1], &run);
        assert_eq!(of_run.granted, 3);
        assert!(of_run.lose());
        assert_eq!((of_run.granted, run.left()), (1, Some(2)));
        assert!(of_run.lose() && of_run.granted == 1);
        assert!(!of_run.lose(), "nothing is left");
        // The last one is not for two.
        let last = Attempts::at_most(1);
        let mut of_last = share(PAID[1], &last);
        assert_eq!(of_last.granted, 1);
        assert!(!of_last.lose() && last.left() == Some(0));
        // What costs nothing spends nothing.
        assert!(share("/tutti.ledger.v1.LedgerService/Reserve", &last).lose());
        // Nor is a call with a capped cost sent again.
        let costly = Attempts::at_most(5).never_after_loss();
        let mut of_costly = share(PAID[1], &costly);
        assert_eq!(of_costly.granted, 5);
        assert!(!of_costly.lose());
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
