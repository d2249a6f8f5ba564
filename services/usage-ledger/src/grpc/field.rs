//! Checks of single fields. Every error is INVALID_REQUEST and names the field.

use prost_types::{Duration as WireDuration, Timestamp};
use tutti_error::{Error, Result};
use tutti_proto::{ledger::v1 as wire, llm::v1::Attribution};
use tutti_types::{TokenCounts, UnitPrices, time};

use crate::domain::Micros;

/// Bound of every text, in bytes.
const MAX_TEXT: usize = 256;
/// Bound of each class of tokens of one attempt: far above every window.
const MAX_TOKENS: i64 = 1_000_000_000;
/// Bound of a unit price: $10 000 per million tokens. With the bound of the tokens it keeps sums within 64 bits.
const MAX_PRICE: i64 = 10_000_000_000_000;
const MAX_TAGS: usize = 16;
const NANOS: std::ops::Range<i32> = 0..1_000_000_000;

/// A text of at most 256 bytes without control characters; may be empty.
pub(super) fn text(field: &str, value: String) -> Result<String> {
    at_most(field, value, MAX_TEXT)
}

/// A text of at most `max` bytes without control characters; may be empty.
pub(super) fn at_most(field: &str, value: String, max: usize) -> Result<String> {
    if value.len() > max {
        return Err(Error::invalid(field, format!("must be at most {max} bytes long")));
    }
    if value.chars().any(char::is_control) {
        return Err(Error::invalid(field, "must not contain control characters"));
    }
    Ok(value)
}

/// A text that must not be empty.
pub(super) fn required(field: &str, value: String, max: usize) -> Result<String> {
    if value.is_empty() {
        return Err(Error::invalid(field, "is required"));
    }
    at_most(field, value, max)
}

/// An enum's value that this version knows.
pub(super) fn known<E: TryFrom<i32>>(field: &str, number: i32) -> Result<E> {
    E::try_from(number).map_err(|_| Error::invalid(field, format!("{number} is not a known value")))
}

/// A moment of the years 1 to 9999, in microseconds since 1970.
pub(super) fn moment(field: &str, moment: &Timestamp) -> Result<Micros> {
    const YEARS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
    if !YEARS.contains(&moment.seconds) || !NANOS.contains(&moment.nanos) {
        return Err(Error::invalid(field, "is not a moment of the years 1 to 9999"));
    }
    Ok(time::to_unix_micros(moment))
}

/// A duration that is not negative.
pub(super) fn duration(field: &str, duration: &WireDuration) -> Result<std::time::Duration> {
    if duration.seconds < 0 || !NANOS.contains(&duration.nanos) {
        return Err(Error::invalid(field, "must be a duration of 0 or more"));
    }
    Ok(time::from_wire(duration))
}

/// Tokens by class; none when absent.
pub(super) fn tokens(field: &str, tokens: Option<wire::TokenCounts>) -> Result<TokenCounts> {
    let tokens = tokens.unwrap_or_default();
    let classes = [
        ("fresh_input", tokens.fresh_input),
        ("cache_read", tokens.cache_read),
        ("cache_write_5m", tokens.cache_write_5m),
        ("cache_write_1h", tokens.cache_write_1h),
        ("visible_output", tokens.visible_output),
        ("reasoning", tokens.reasoning),
    ];
    within(field, &classes, MAX_TOKENS)?;
    Ok(TokenCounts::from(&tokens))
}

/// Unit prices.
pub(super) fn prices(field: &str, prices: wire::UnitPrices) -> Result<UnitPrices> {
    let classes = [
        ("input_nano_usd", prices.input_nano_usd),
        ("cache_read_nano_usd", prices.cache_read_nano_usd),
        ("cache_write_5m_nano_usd", prices.cache_write_5m_nano_usd),
        ("cache_write_1h_nano_usd", prices.cache_write_1h_nano_usd),
        ("output_nano_usd", prices.output_nano_usd),
    ];
    within(field, &classes, MAX_PRICE)?;
    let mut prices = UnitPrices::from(prices);
    prices.catalogue_version = text(&format!("{field}.catalogue_version"), prices.catalogue_version)?;
    Ok(prices)
}

fn within(field: &str, values: &[(&str, i64)], max: i64) -> Result<()> {
    match values.iter().find(|(_, value)| !(0..=max).contains(value)) {
        Some((name, value)) => {
            Err(Error::invalid(format!("{field}.{name}"), format!("must be from 0 to {max}, not {value}")))
        }
        None => Ok(()),
    }
}

/// On whose behalf; nobody's when absent.
pub(super) fn attribution(of: Option<Attribution>) -> Result<Attribution> {
    let of = of.unwrap_or_default();
    if of.tags.len() > MAX_TAGS {
        return Err(Error::invalid("attribution.tags", format!("must be at most {MAX_TAGS}")));
    }
    let tag = |(name, value)| {
        let name = text("attribution.tags", name)?;
        let value = text(&format!("attribution.tags[{name}]"), value)?;
        Ok((name, value))
    };
    Ok(Attribution {
        team: text("attribution.team", of.team)?,
        project: text("attribution.project", of.project)?,
        job: text("attribution.job", of.job)?,
        node: text("attribution.node", of.node)?,
        run_id: text("attribution.run_id", of.run_id)?,
        agent: text("attribution.agent", of.agent)?,
        session_id: text("attribution.session_id", of.session_id)?,
        task_id: text("attribution.task_id", of.task_id)?,
        phase: text("attribution.phase", of.phase)?,
        tags: of.tags.into_iter().map(tag).collect::<Result<_>>()?,
    })
}
