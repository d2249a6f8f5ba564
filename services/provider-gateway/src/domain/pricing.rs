//! Prices by date and size of the prompt.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::{civil, tz::TimeZone};
use serde::Deserialize;
use tutti_types::UnitPrices;

use super::catalogue::{CATALOGUE_VERSION, CONFIGURED_VERSION, Model};

/// For models that the catalogue doesn't know: $1.00 in and $3.00 out per million tokens.
const DEFAULT_INPUT: i64 = 1_000_000_000;
const DEFAULT_OUTPUT: i64 = 3_000_000_000;

/// A price list and when it holds. Prices in nano US dollars per million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price {
    /// From when it holds, in seconds since 1970; `None` is always.
    pub effective_from: Option<i64>,
    /// Holds for prompts of more than this many tokens.
    pub above_input_tokens: u64,
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
}

/// A price as the catalogue writes it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PriceRow {
    effective_from: Option<toml::value::Datetime>,
    #[serde(default)]
    above_input_tokens: u64,
    input: i64,
    cache_read: Option<i64>,
    cache_write_5m: Option<i64>,
    cache_write_1h: Option<i64>,
    output: i64,
}

impl Price {
    /// # Errors
    /// A day that does not exist, or a price below nothing, in words.
    pub(super) fn of(row: &PriceRow) -> Result<Self, String> {
        let no_day = || "effective_from is no day".to_owned();
        let effective_from = row.effective_from.as_ref().map(|day| seconds(day).ok_or_else(no_day)).transpose()?;
        let cache_write_5m = row.cache_write_5m.unwrap_or(row.input);
        let price = Self {
            effective_from,
            above_input_tokens: row.above_input_tokens,
            input: row.input,
            cache_read: row.cache_read.unwrap_or(row.input / 10),
            cache_write_5m,
            cache_write_1h: row.cache_write_1h.unwrap_or(cache_write_5m),
            output: row.output,
        };
        let all = [price.input, price.cache_read, price.cache_write_5m, price.cache_write_1h, price.output];
        if all.iter().any(|nano_usd| *nano_usd < 0) {
            return Err("a price is below nothing".to_owned());
        }
        Ok(price)
    }

    /// For all days and prompts.
    #[cfg(test)]
    pub(super) fn holds_always(&self) -> bool {
        self.effective_from.is_none() && self.above_input_tokens == 0
    }
}

fn seconds(day: &toml::value::Datetime) -> Option<i64> {
    let date = day.date?;
    let date = civil::Date::new(i16::try_from(date.year).ok()?, date.month.try_into().ok()?, date.day.try_into().ok()?);
    Some(date.ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second())
}

/// What a token of this model costs at that moment, for a prompt of so many tokens. `None` is an unknown model.
pub fn unit_prices(model: Option<&Model>, at: SystemTime, input_tokens: u64) -> UnitPrices {
    let now = at.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
    let prices = model.map(|model| model.prices.as_slice()).unwrap_or_default();
    let begun = |price: &&Price| price.effective_from.is_none_or(|from| from <= now);
    // The latest list that has begun, and of its tiers the highest that the prompt is above.
    let latest = prices.iter().filter(begun).map(|price| price.effective_from).max();
    let tier = prices
        .iter()
        .filter(|price| Some(price.effective_from) == latest)
        .filter(|price| price.above_input_tokens == 0 || input_tokens > price.above_input_tokens)
        .max_by_key(|price| price.above_input_tokens);
    let version =
        if model.is_some_and(|model| model.configured_prices) { CONFIGURED_VERSION } else { CATALOGUE_VERSION };
    tier.map_or_else(default_prices, |price| UnitPrices {
        input: price.input,
        cache_read: price.cache_read,
        cache_write_5m: price.cache_write_5m,
        cache_write_1h: price.cache_write_1h,
        output: price.output,
        catalogue_version: version.to_owned(),
        estimated: false,
    })
}

fn default_prices() -> UnitPrices {
    UnitPrices {
        input: DEFAULT_INPUT,
        cache_read: DEFAULT_INPUT / 10,
        cache_write_5m: DEFAULT_INPUT,
        cache_write_1h: DEFAULT_INPUT,
        output: DEFAULT_OUTPUT,
        catalogue_version: CATALOGUE_VERSION.to_owned(),
        estimated: true,
    }
}

/// What a token costs where nothing is paid: on the own machine and at the simulator.
pub fn free() -> UnitPrices {
    UnitPrices { catalogue_version: CATALOGUE_VERSION.to_owned(), ..UnitPrices::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::catalogue::Catalogue;

    fn day(text: &str) -> SystemTime {
        let date: civil::Date = text.parse().unwrap();
        date.to_zoned(TimeZone::UTC).unwrap().timestamp().into()
    }

    fn price(provider: &str, name: &str, at: &str, input: u64) -> UnitPrices {
        let catalogue = Catalogue::built_in().unwrap();
        unit_prices(Some(catalogue.named(provider, name).unwrap()), day(at), input)
    }

    #[test]
    fn a_price_changes_on_its_day() {
        assert_eq!(price("anthropic", "sonnet", "2026-10-06", 10).cache_read, 200_000_000);
        assert_eq!(price("anthropic", "sonnet", "2026-10-07", 10).cache_read, 100_000_000);
        assert_eq!(price("gemini", "gemini-3.8-flash", "2026-12-31", 10).output, 3_750_000_000);
        assert_eq!(price("gemini", "gemini-3.8-flash", "2027-01-01", 10).output, 7_500_000_000);
    }

    #[test]
    fn the_tier_begins_above_its_limit() {
        let at = |input| price("openai", "gpt-5.4", "2026-11-20", input);
        assert_eq!((at(272_000).input, at(272_001).input), (2_500_000_000, 5_000_000_000));
        assert_eq!(at(272_001).output, 22_500_000_000);
        assert_eq!(at(272_001).cache_read, 500_000_000);
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let flash = price("gemini", "gemini-3.8-flash", "2026-11-20", 1);
        assert_eq!(flash.cache_read, flash.input / 10);
        assert_eq!(flash.cache_write_1h, flash.input);
    }

    #[test]
    fn an_unknown_model_has_an_estimated_price() {
        let prices = unit_prices(None, SystemTime::now(), 5);
        assert_eq!((prices.input, prices.output, prices.estimated), (1_000_000_000, 3_000_000_000, true));
    }
}
