//! How many paid calls of providers one call may cause, all layers below it together.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use http::{HeaderMap, HeaderName, HeaderValue};

/// The metadata that carries the cap from peer to peer: a decimal number.
pub const ATTEMPTS_HEADER: HeaderName = HeaderName::from_static("x-tutti-attempts-left");

/// The attempts that a call has left. Every layer that tries something again takes from it, so that retries of several
/// layers never multiply: who is about to call a provider asks [`Attempts::take`], the client library spends on calls
/// whose fate it does not know, and what is left travels on to the peers that are called.
///
/// Clones share what is left. The default has no cap.
#[derive(Debug, Clone, Default)]
pub struct Attempts(Option<Arc<Cap>>);

#[derive(Debug)]
struct Cap {
    left: AtomicU32,
    spent: AtomicU32,
    repeats_lost: bool,
}

impl PartialEq for Attempts {
    fn eq(&self, other: &Self) -> bool {
        self.left() == other.left()
    }
}

impl Eq for Attempts {}

impl Attempts {
    /// At most so many.
    pub fn at_most(most: u32) -> Self {
        Self::new(most, true)
    }

    fn new(most: u32, repeats_lost: bool) -> Self {
        Self(Some(Arc::new(Cap { left: AtomicU32::new(most), spent: AtomicU32::new(0), repeats_lost })))
    }

    /// A count of its own that begins with what is left here, and with no more than `most`.
    #[must_use]
    pub fn no_more_than(&self, most: u32) -> Self {
        Self::new(self.left().map_or(most, |left| left.min(most)), self.repeats_lost())
    }

    /// A count of its own for a call that must not be sent again when nobody knows how far it came: its cost is capped,
    /// and the lost try may have spent all of it.
    #[must_use]
    pub fn never_after_loss(&self) -> Self {
        Self::new(self.left().unwrap_or(u32::MAX), false)
    }

    /// How many are left; `None` without a cap.
    pub fn left(&self) -> Option<u32> {
        self.0.as_ref().map(|cap| cap.left.load(Ordering::Relaxed))
    }

    /// Takes one. False when none is left: then don't try.
    pub fn take(&self) -> bool {
        let Some(cap) = &self.0 else { return true };
        cap.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }

    /// Takes as many as may have been made by a call that nobody heard of again.
    pub fn spend(&self, count: u32) {
        if let Some(cap) = &self.0 {
            let spent = |left: u32| Some(left.saturating_sub(count));
            // Never fails: there is always a next value.
            let _ = cap.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spent);
            cap.spent.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// How many were taken by [`Attempts::spend`].
    pub fn spent(&self) -> u32 {
        self.0.as_ref().map_or(0, |cap| cap.spent.load(Ordering::Relaxed))
    }

    /// Whether a call may be sent again when nobody knows how far it came.
    pub fn repeats_lost(&self) -> bool {
        self.0.as_ref().is_none_or(|cap| cap.repeats_lost)
    }

    /// Reads a peer's cap.
    pub(crate) fn read(value: Option<&HeaderValue>) -> Self {
        value.and_then(|value| value.to_str().ok()?.parse().ok()).map_or_else(Self::default, Self::at_most)
    }

    /// Writes what is left where a peer reads it.
    pub fn write(&self, headers: &mut HeaderMap) {
        if let Some(left) = self.left() {
            headers.insert(ATTEMPTS_HEADER, HeaderValue::from(left));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_shared_and_never_grows() {
        let run = Attempts::at_most(3);
        let same = run.clone();
        assert!(run.take() && same.take());
        assert_eq!(run.left(), Some(1));
        let call = run.no_more_than(5);
        assert!(call.take() && !call.take());
        assert_eq!((run.left(), call.left()), (Some(1), Some(0)));
        run.spend(7);
        assert!(!same.take());
        assert_eq!((same.spent(), call.spent()), (7, 0));
    }

    #[test]
    fn without_a_cap_there_is_no_end() {
        let free = Attempts::default();
        free.spend(9);
        assert!(free.take() && free.left().is_none() && free.repeats_lost());
        assert_eq!(free.no_more_than(2).left(), Some(2));
        let costly = free.never_after_loss();
        assert!(!costly.repeats_lost() && !costly.no_more_than(4).repeats_lost());
    }

    #[test]
    fn what_is_left_travels() {
        let mut headers = HeaderMap::new();
        Attempts::default().write(&mut headers);
        assert!(headers.is_empty());
        Attempts::at_most(4).write(&mut headers);
        assert_eq!(Attempts::read(headers.get(ATTEMPTS_HEADER)).left(), Some(4));
        assert_eq!(Attempts::read(Some(&HeaderValue::from_static("many"))), Attempts::default());
    }
}
