//! What is limited: units, amounts and windows.

use std::time::Duration;

/// The longest window; the arithmetic is exact far beyond it.
const LONGEST: Duration = Duration::from_hours(24 * 366);

/// What a window counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Calls.
    Requests,
    /// Tokens, estimated before a call and corrected after it.
    Tokens,
}

/// How much a call costs, or how much is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Amount {
    /// Of windows in [`Unit::Requests`].
    pub requests: u64,
    /// Of windows in [`Unit::Tokens`].
    pub tokens: u64,
}

impl Amount {
    /// One call, of this many tokens by estimate.
    pub fn request(tokens: u64) -> Self {
        Self { requests: 1, tokens }
    }

    /// Its part in `unit`.
    pub fn of(self, unit: Unit) -> u64 {
        match unit {
            Unit::Requests => self.requests,
            Unit::Tokens => self.tokens,
        }
    }
}

/// What to add to an earlier charge; negative gives back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Correction {
    /// To windows in [`Unit::Requests`]: −1 for a call that was not made after all.
    pub requests: i64,
    /// To windows in [`Unit::Tokens`]: what was spent less what was estimated.
    pub tokens: i64,
}

impl Correction {
    /// A call that spent `actual` tokens where `estimate` were taken.
    pub fn tokens(actual: u64, estimate: u64) -> Self {
        let tokens = i128::from(actual) - i128::from(estimate);
        let limit = if tokens < 0 { i64::MIN } else { i64::MAX };
        Self { requests: 0, tokens: i64::try_from(tokens).unwrap_or(limit) }
    }

    /// Its part in `unit`.
    pub fn of(self, unit: Unit) -> i64 {
        match unit {
            Unit::Requests => self.requests,
            Unit::Tokens => self.tokens,
        }
    }
}

/// At most so much in so long: evenly spread, with a burst at once.
///
/// In any span of time shorter than `per`, wherever it begins, at most `limit + burst` is allowed, provided that no
/// single call costs more than `burst + 1`. A call that costs more is not refused for ever: it is allowed when nothing
/// is owed, and what it took beyond the burst is waited for by those after it; the bound is then
/// `limit + cost − 1`. Corrections upwards come on top, as they tell of what has happened already.
///
/// With a burst of 0 calls are spaced evenly: 60 a minute is one a second. A window in tokens wants a burst of at
/// least a usual call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Window {
    pub(crate) unit: Unit,
    pub(crate) limit: u64,
    pub(crate) per: Duration,
    pub(crate) burst: u64,
}

/// A window that could not be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidWindow {
    /// Nothing would ever be allowed.
    #[error("the limit of a window is at least 1")]
    Limit,
    /// No length, finer than the clock, or beyond all use.
    #[error("a window is from 1 ms to 366 days long")]
    Length,
}

impl Window {
    /// `limit` of `unit` in the time `per`, and `burst` more at once.
    ///
    /// # Errors
    /// A limit of 0, or a length under a millisecond or over 366 days.
    pub fn new(unit: Unit, limit: u64, per: Duration, burst: u64) -> Result<Self, InvalidWindow> {
        if limit == 0 {
            return Err(InvalidWindow::Limit);
        }
        if per < Duration::from_millis(1) || per > LONGEST {
            return Err(InvalidWindow::Length);
        }
        Ok(Self { unit, limit, per, burst })
    }

    /// What tells it from the other windows of its key: unit and length, for instance `requests/60000000`.
    pub(crate) fn name(&self) -> String {
        let unit = match self.unit {
            Unit::Requests => "requests",
            Unit::Tokens => "tokens",
        };
        format!("{unit}/{}", self.per.as_micros())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_that_cannot_be_kept_are_refused() {
        let second = Duration::from_secs(1);
        assert_eq!(Window::new(Unit::Requests, 0, second, 5), Err(InvalidWindow::Limit));
        for per in [Duration::ZERO, Duration::from_micros(999), LONGEST + second] {
            assert_eq!(Window::new(Unit::Tokens, 1, per, 0), Err(InvalidWindow::Length), "{per:?}");
        }
        assert!(Window::new(Unit::Tokens, u64::MAX, LONGEST, u64::MAX).is_ok());
    }

    #[test]
    fn units_and_lengths_tell_windows_apart() {
        let minute = Duration::from_mins(1);
        let name = |unit, per| Window::new(unit, 1, per, 0).unwrap().name();
        assert_eq!(name(Unit::Requests, minute), "requests/60000000");
        assert_ne!(name(Unit::Requests, minute), name(Unit::Tokens, minute));
        assert_ne!(name(Unit::Tokens, minute), name(Unit::Tokens, minute * 60));
    }

    #[test]
    fn a_correction_is_what_was_spent_less_what_was_taken() {
        assert_eq!(Correction::tokens(120, 100).of(Unit::Tokens), 20);
        assert_eq!(Correction::tokens(0, 100), Correction { requests: 0, tokens: -100 });
        assert_eq!(Correction::tokens(u64::MAX, 0).tokens, i64::MAX);
        assert_eq!(Correction::tokens(0, u64::MAX).tokens, i64::MIN);
    }
}
