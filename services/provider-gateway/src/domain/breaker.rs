//! A circuit breaker: who keeps failing is left alone for a while, and then asked carefully. Pure; the caller has the
//! clock.
//!
//! ```text
//!            failures in a row, or the error rate
//!  CLOSED ───────────────────────────────────────► OPEN ◄──┐
//!     ▲                                             │      │ one failure
//!     │ successes                  `open_for` later ▼      │
//!     └───────────────────────────────────────── HALF OPEN ┘   lets a few calls through at a time
//! ```

use std::time::{Duration, Instant};

use tutti_config::BreakerConfig;

/// The window of the error rate moves on in so many steps.
const SLOTS: usize = 10;

/// Where all tokens of a half-open breaker are out, one comes back soon.
const SOON: Duration = Duration::from_secs(1);

/// What a breaker does with calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Lets them through.
    Closed,
    /// Refuses them, for this time.
    Open(Duration),
    /// Lets a few through.
    HalfOpen,
}

/// How a call that was let through ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The backend did its work.
    Ok,
    /// It did not.
    Failed,
    /// It says nothing of the backend: cancelled, never sent, or refused for what was asked.
    Nothing,
}

/// A call that was let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Permit {
    /// The change of state that it came after: what began before the last one says nothing about the state now.
    epoch: u64,
}

/// Numbers since the start or the last reset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// Calls let through.
    pub(crate) total: u64,
    /// Those that went well.
    pub(crate) ok: u64,
    /// Those that failed.
    pub(crate) failed: u64,
    /// Calls refused.
    pub(crate) rejected: u64,
    pub(crate) last_failure: Option<Instant>,
    pub(crate) last_success: Option<Instant>,
}

/// The breaker of one backend and credential.
#[derive(Debug)]
pub(crate) struct Breaker {
    phase: Phase,
    epoch: u64,
    counters: Counters,
    window: Window,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Closed { in_a_row: u32 },
    Open { until: Instant },
    HalfOpen { out: u32, ok: u32 },
}

impl Breaker {
    /// Closed.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            phase: Phase::Closed { in_a_row: 0 },
            epoch: 0,
            counters: Counters::default(),
            window: Window { origin: now, slots: [Slot::default(); SLOTS] },
        }
    }

    /// Lets a call through, or says how long it will refuse.
    ///
    /// # Errors
    /// The time after which it is worth asking again.
    pub(crate) fn admit(&mut self, config: &BreakerConfig, now: Instant) -> Result<Permit, Duration> {
        match self.admitted(config, now) {
            Ok(()) => {
                self.counters.total += 1;
                Ok(Permit { epoch: self.epoch })
            }
            Err(wait) => {
                self.counters.rejected += 1;
                Err(wait)
            }
        }
    }

    fn admitted(&mut self, config: &BreakerConfig, now: Instant) -> Result<(), Duration> {
        if !config.enabled {
            return Ok(());
        }
        if let Phase::Open { until } = self.phase {
            if now < until {
                return Err(until - now);
            }
            self.enter(Phase::HalfOpen { out: 0, ok: 0 });
        }
        if let Phase::HalfOpen { out, ok } = &mut self.phase {
            // Those that went well are counted too: never more are asked than the configuration says.
            if *out + *ok >= config.half_open_calls {
                return Err(SOON.min(config.open_for));
            }
            *out += 1;
        }
        Ok(())
    }

    /// A call that was let through has ended. Each permit is given back once. True when the state has changed.
    pub(crate) fn ended(&mut self, config: &BreakerConfig, permit: Permit, ending: Ending, now: Instant) -> bool {
        match ending {
            Ending::Ok => {
                self.counters.ok += 1;
                self.counters.last_success = Some(now);
            }
            Ending::Failed => {
                self.counters.failed += 1;
                self.counters.last_failure = Some(now);
            }
            Ending::Nothing => {}
        }
        if !config.enabled || permit.epoch != self.epoch {
            return false;
        }
        match &mut self.phase {
            Phase::Closed { in_a_row } => {
                match ending {
                    Ending::Ok => *in_a_row = 0,
                    Ending::Failed => *in_a_row += 1,
                    Ending::Nothing => return false,
                }
                let many = *in_a_row >= config.failures;
                self.window.count(ending == Ending::Failed, config.window, now);
                let often = || ending == Ending::Failed && self.window.is_bad(config, now);
                if many || often() {
                    self.enter(Phase::Open { until: now + config.open_for });
                    return true;
                }
            }
            Phase::HalfOpen { out, ok } => {
                *out = out.saturating_sub(1);
                match ending {
                    Ending::Failed => {
                        self.enter(Phase::Open { until: now + config.open_for });
                        return true;
                    }
                    Ending::Ok => *ok += 1,
                    Ending::Nothing => {}
                }
                if *ok >= config.successes {
                    self.close();
                    return true;
                }
            }
            // A permit of this epoch can't be of an open breaker.
            Phase::Open { .. } => {}
        }
        false
    }

    /// What it does with calls now.
    pub(crate) fn state(&self, now: Instant) -> State {
        match self.phase {
            Phase::Closed { .. } => State::Closed,
            Phase::Open { until } if now < until => State::Open(until - now),
            Phase::Open { .. } | Phase::HalfOpen { .. } => State::HalfOpen,
        }
    }

    /// What it has counted.
    pub(crate) fn counters(&self) -> Counters {
        self.counters
    }

    /// The part of the calls in the window that failed, 0 to 1.
    pub(crate) fn error_rate(&self, config: &BreakerConfig, now: Instant) -> f64 {
        let (ok, failed) = self.window.sums(config.window, now);
        if failed == 0 { 0.0 } else { f64::from(failed) / f64::from(ok.saturating_add(failed)) }
    }

    /// Closed again, nothing counted. Calls that are still out say nothing any more.
    pub(crate) fn reset(&mut self) {
        self.close();
        self.counters = Counters::default();
    }

    fn close(&mut self) {
        self.window.slots = [Slot::default(); SLOTS];
        self.enter(Phase::Closed { in_a_row: 0 });
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.epoch += 1;
    }
}

/// Calls of the last while, in slots that are used again and again.
#[derive(Debug)]
struct Window {
    origin: Instant,
    slots: [Slot; SLOTS],
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    /// Which stretch of time it counts.
    number: u128,
    ok: u32,
    failed: u32,
}

impl Window {
    fn count(&mut self, failed: bool, length: Duration, now: Instant) {
        let number = self.number(length, now);
        let slot = &mut self.slots[usize::try_from(number % SLOTS as u128).unwrap_or(0)];
        if slot.number != number {
            *slot = Slot { number, ..Slot::default() };
        }
        let counter = if failed { &mut slot.failed } else { &mut slot.ok };
        *counter = counter.saturating_add(1);
    }

    fn sums(&self, length: Duration, now: Instant) -> (u32, u32) {
        let number = self.number(length, now);
        let recent = self.slots.iter().filter(|slot| slot.number + SLOTS as u128 > number);
        recent.fold((0, 0), |(ok, failed), slot| (slot.ok.saturating_add(ok), slot.failed.saturating_add(failed)))
    }

    fn is_bad(&self, config: &BreakerConfig, now: Instant) -> bool {
        let (ok, failed) = self.sums(config.window, now);
        let calls = ok.saturating_add(failed);
        config.error_rate > 0.0
            && calls >= config.min_calls
            && f64::from(failed) >= config.error_rate * f64::from(calls)
    }

    fn number(&self, length: Duration, now: Instant) -> u128 {
        let slot = (length.as_nanos() / SLOTS as u128).max(1);
        now.saturating_duration_since(self.origin).as_nanos() / slot
    }
}

#[cfg(test)]
#[path = "breaker_tests.rs"]
mod tests;
