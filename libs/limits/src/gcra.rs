//! The generic cell rate algorithm, pure: what both adapters compute.
//!
//! A window stores one moment: when all that was charged will have been paid for at the rate of the window. A charge
//! moves it on by the time that the cost is worth; it is allowed if the moment is then no further ahead of now than
//! the window is deep. All in whole microseconds, rounded so that never too much is allowed.

use crate::{Amount, Correction, Unit, Window};

/// No debt is longer, in µs (31 years): all sums stay exact in the doubles of Redis' Lua.
pub(crate) const HORIZON: u64 = 1_000_000_000_000_000;

/// What a call does to one window, in µs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Charge {
    /// By how much the moment moves.
    pub(crate) time: i64,
    /// How far ahead of now it may then be; `None`: as far as it comes.
    pub(crate) depth: Option<u64>,
}

impl Charge {
    /// Of a call that costs `cost`, by one of `replicas` that each keep to an equal share.
    pub(crate) fn take(window: &Window, cost: Amount, replicas: u64) -> Self {
        let time = worth(window, cost.of(window.unit), replicas);
        // A cost beyond the burst is allowed when nothing is owed.
        let depth = depth(window, replicas).max(time);
        Self { time: i64::try_from(time).unwrap_or(i64::MAX), depth: Some(depth) }
    }

    /// Of a correction, which is never refused.
    pub(crate) fn correct(window: &Window, correction: Correction, replicas: u64) -> Self {
        let amount = correction.of(window.unit);
        let time = i64::try_from(worth(window, amount.unsigned_abs(), replicas)).unwrap_or(i64::MAX);
        Self { time: time * amount.signum(), depth: None }
    }

    /// The moment after the charge, or for how long it has to wait. `paid` is the moment stored, or 0.
    pub(crate) fn apply(&self, now: u64, paid: u64) -> Result<u64, u64> {
        let next = paid.max(now).saturating_add_signed(self.time).clamp(now, now.saturating_add(HORIZON));
        match self.depth {
            Some(depth) if next - now > depth => Err(next - now - depth),
            _ => Ok(next),
        }
    }
}

/// What could still be taken at once where `debt` µs are owed.
pub(crate) fn remaining(windows: &[Window], debts: &[u64], replicas: u64) -> Amount {
    let least = |unit| {
        let of_unit = windows.iter().zip(debts).filter(|(window, _)| window.unit == unit);
        let left = of_unit.map(|(window, debt)| {
            let time = depth(window, replicas).saturating_sub(*debt);
            let amount =
                u128::from(time) * u128::from(window.limit) / (window.per.as_micros() * u128::from(replicas.max(1)));
            u64::try_from(amount).unwrap_or(u64::MAX)
        });
        left.min().unwrap_or(u64::MAX)
    };
    Amount { requests: least(Unit::Requests), tokens: least(Unit::Tokens) }
}

/// The µs in which the rate gives `amount`, rounded up: what is charged is never too little.
fn worth(window: &Window, amount: u64, replicas: u64) -> u64 {
    let time = u128::from(amount)
        .saturating_mul(window.per.as_micros())
        .saturating_mul(u128::from(replicas.max(1)))
        .div_ceil(u128::from(window.limit));
    u64::try_from(time).unwrap_or(HORIZON).min(HORIZON)
}

/// The burst and the one call that is always allowed, in µs.
fn depth(window: &Window, replicas: u64) -> u64 {
    worth(window, (window.burst / replicas.max(1)).saturating_add(1), replicas)
}

#[cfg(test)]
mod tests;
