//! Money as integers, and tokens in classes that can't overlap.
//!
//! Amounts are nano US dollars; unit prices are nano US dollars *per million tokens*. A cost is summed in `i128` and
//! rounded once per attempt, half up.

use std::{
    fmt,
    ops::{Add, AddAssign},
};

use tutti_proto::{ledger::v1 as wire, llm::v1::Usage};

/// An amount in nano US dollars (1e-9 USD).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NanoUsd(pub i64);

impl NanoUsd {
    /// The sum, saturating.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl fmt::Display for NanoUsd {
    /// As dollars, with as many digits as it takes (at least two).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, abs) = (if self.0 < 0 { "-" } else { "" }, self.0.unsigned_abs());
        let fraction = format!("{:09}", abs % 1_000_000_000);
        let digits = fraction.trim_end_matches('0').len().max(2);
        write!(f, "{sign}${}.{}", abs / 1_000_000_000, &fraction[..digits])
    }
}

/// Tokens in disjoint classes: no token is counted in two of them, so none can be paid twice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct TokenCounts {
    /// Input neither read from nor written to a provider's cache.
    pub fresh_input: u64,
    /// Input read from the provider's cache.
    pub cache_read: u64,
    /// Input written to the provider's cache for 5 minutes (or for the provider's one lifetime).
    pub cache_write_5m: u64,
    /// Input written to the provider's cache for 1 hour.
    pub cache_write_1h: u64,
    /// Output that was shown.
    pub visible_output: u64,
    /// Output that was reasoning.
    pub reasoning: u64,
}

impl TokenCounts {
    /// All input.
    pub fn input(&self) -> u64 {
        self.fresh_input
            .saturating_add(self.cache_read)
            .saturating_add(self.cache_write_5m)
            .saturating_add(self.cache_write_1h)
    }

    /// All output.
    pub fn output(&self) -> u64 {
        self.visible_output.saturating_add(self.reasoning)
    }

    /// From totals as most providers tell them, where the cache counts are parts of the input and reasoning is part of
    /// the output. Parts larger than their whole are cut to it: seen in recorded answers.
    pub fn from_totals(input: u64, cache_read: u64, cache_write: u64, output: u64, reasoning: u64) -> Self {
        let cache_read = cache_read.min(input);
        let cache_write_5m = cache_write.min(input - cache_read);
        let reasoning = reasoning.min(output);
        Self {
            fresh_input: input - cache_read - cache_write_5m,
            cache_read,
            cache_write_5m,
            cache_write_1h: 0,
            visible_output: output - reasoning,
            reasoning,
        }
    }

    /// As callers see it.
    pub fn usage(&self, cost: NanoUsd, estimated: bool) -> Usage {
        Usage {
            input_tokens: signed(self.input()),
            cache_read_tokens: signed(self.cache_read),
            cache_write_tokens: signed(self.cache_write_5m.saturating_add(self.cache_write_1h)),
            output_tokens: signed(self.output()),
            reasoning_tokens: signed(self.reasoning),
            cost_nano_usd: cost.0,
            estimated,
        }
    }
}

impl AddAssign for TokenCounts {
    fn add_assign(&mut self, other: Self) {
        self.fresh_input = self.fresh_input.saturating_add(other.fresh_input);
        self.cache_read = self.cache_read.saturating_add(other.cache_read);
        self.cache_write_5m = self.cache_write_5m.saturating_add(other.cache_write_5m);
        self.cache_write_1h = self.cache_write_1h.saturating_add(other.cache_write_1h);
        self.visible_output = self.visible_output.saturating_add(other.visible_output);
        self.reasoning = self.reasoning.saturating_add(other.reasoning);
    }
}

impl Add for TokenCounts {
    type Output = Self;
    fn add(mut self, other: Self) -> Self {
        self += other;
        self
    }
}

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

impl From<TokenCounts> for wire::TokenCounts {
    fn from(t: TokenCounts) -> Self {
        Self {
            fresh_input: signed(t.fresh_input),
            cache_read: signed(t.cache_read),
            cache_write_5m: signed(t.cache_write_5m),
            cache_write_1h: signed(t.cache_write_1h),
            visible_output: signed(t.visible_output),
            reasoning: signed(t.reasoning),
        }
    }
}

impl From<&wire::TokenCounts> for TokenCounts {
    /// Negative counts are zero.
    fn from(t: &wire::TokenCounts) -> Self {
        Self {
            fresh_input: unsigned(t.fresh_input),
            cache_read: unsigned(t.cache_read),
            cache_write_5m: unsigned(t.cache_write_5m),
            cache_write_1h: unsigned(t.cache_write_1h),
            visible_output: unsigned(t.visible_output),
            reasoning: unsigned(t.reasoning),
        }
    }
}

/// What a token costs, in nano US dollars per million tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitPrices {
    /// Fresh input.
    pub input: i64,
    /// Cache read.
    pub cache_read: i64,
    /// Cache write, 5 minutes.
    pub cache_write_5m: i64,
    /// Cache write, 1 hour.
    pub cache_write_1h: i64,
    /// Output, reasoning included.
    pub output: i64,
    /// Version of the catalogue they come from.
    pub catalogue_version: String,
    /// The model is unknown and the default price was taken.
    pub estimated: bool,
}

impl UnitPrices {
    /// The cost of one attempt: summed exactly, rounded once, half up; saturates at `i64::MAX`.
    pub fn cost(&self, tokens: &TokenCounts) -> NanoUsd {
        let classes = [
            (tokens.fresh_input, self.input),
            (tokens.cache_read, self.cache_read),
            (tokens.cache_write_5m, self.cache_write_5m),
            (tokens.cache_write_1h, self.cache_write_1h),
            (tokens.visible_output, self.output),
            (tokens.reasoning, self.output),
        ];
        let sum = classes.iter().fold(0i128, |sum, (count, price)| {
            sum.saturating_add(i128::from(*count).saturating_mul(i128::from((*price).max(0))))
        });
        NanoUsd(i64::try_from(sum.saturating_add(500_000) / 1_000_000).unwrap_or(i64::MAX))
    }
}

impl From<UnitPrices> for wire::UnitPrices {
    fn from(p: UnitPrices) -> Self {
        Self {
            input_nano_usd: p.input,
            cache_read_nano_usd: p.cache_read,
            cache_write_5m_nano_usd: p.cache_write_5m,
            cache_write_1h_nano_usd: p.cache_write_1h,
            output_nano_usd: p.output,
            catalogue_version: p.catalogue_version,
            estimated: p.estimated,
        }
    }
}

impl From<wire::UnitPrices> for UnitPrices {
    fn from(p: wire::UnitPrices) -> Self {
        Self {
            input: p.input_nano_usd,
            cache_read: p.cache_read_nano_usd,
            cache_write_5m: p.cache_write_5m_nano_usd,
            cache_write_1h: p.cache_write_1h_nano_usd,
            output: p.output_nano_usd,
            catalogue_version: p.catalogue_version,
            estimated: p.estimated,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_class_is_paid_once_at_its_own_price() {
        let prices = UnitPrices {
            input: 3_000_000_000,
            cache_read: 300_000_000,
            cache_write_5m: 3_750_000_000,
            cache_write_1h: 6_000_000_000,
            output: 15_000_000_000,
            ..Default::default()
        };
        let tokens = TokenCounts {
            fresh_input: 100,
            cache_read: 1000,
            cache_write_5m: 10,
            cache_write_1h: 1,
            visible_output: 20,
            reasoning: 5,
        };
        assert_eq!(prices.cost(&tokens), NanoUsd(300_000 + 300_000 + 37_500 + 6_000 + 375_000));
    }

    #[test]
    fn a_cost_is_rounded_once_half_up() {
        let prices = UnitPrices { input: 250_000, output: 250_000, ..Default::default() };
        let one = TokenCounts { fresh_input: 1, visible_output: 1, ..Default::default() };
        // 0.25 + 0.25 nano-dollars: rounding each class first would give 0.
        assert_eq!(prices.cost(&one), NanoUsd(1));
    }

    #[test]
    fn parts_above_their_whole_never_go_negative() {
        // Recorded: completion_tokens 10 with reasoning_tokens 11.
        let counts = TokenCounts::from_totals(5, 9, 3, 10, 11);
        assert_eq!((counts.input(), counts.output(), counts.reasoning), (5, 10, 10));
    }

    #[test]
    fn amounts_are_shown_as_dollars() {
        assert_eq!(NanoUsd(1_250_000_000).to_string(), "$1.25");
        assert_eq!(NanoUsd(37_500).to_string(), "$0.0000375");
        assert_eq!(NanoUsd(-5).to_string(), "-$0.000000005");
    }

    proptest! {
        #[test]
        fn totals_are_kept(input in 0u64..1 << 40, read: u32, write: u32, output in 0u64..1 << 40, reasoning: u32) {
            let counts = TokenCounts::from_totals(input, read.into(), write.into(), output, reasoning.into());
            prop_assert_eq!(counts.input(), input);
            prop_assert_eq!(counts.output(), output);
        }

        #[test]
        fn a_cost_never_overflows_or_goes_negative(count: u64, price: i64) {
            let prices = UnitPrices { input: price, output: price, ..Default::default() };
            let tokens = TokenCounts { fresh_input: count, reasoning: count, ..Default::default() };
            prop_assert!(prices.cost(&tokens) >= NanoUsd(0));
        }
    }
}
