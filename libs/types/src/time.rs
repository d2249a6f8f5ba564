//! Conversions between the wire's `Timestamp` and `Duration` and Rust's times.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost_types::{Duration as WireDuration, Timestamp};

/// A wire duration; longer than 292 years saturates.
pub fn to_wire(duration: Duration) -> WireDuration {
    WireDuration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}

/// A duration from the wire; negative ones are zero.
pub fn from_wire(duration: &WireDuration) -> Duration {
    let seconds = u64::try_from(duration.seconds).unwrap_or(0);
    let nanos = u32::try_from(duration.nanos).unwrap_or(0);
    Duration::new(seconds, nanos.min(999_999_999))
}

/// The current time as the wire has it.
pub fn now() -> Timestamp {
    timestamp(SystemTime::now())
}

/// A moment as the wire has it.
pub fn timestamp(moment: SystemTime) -> Timestamp {
    from_unix_micros(unix_micros(moment))
}

/// Microseconds since 1970: how stores keep a moment.
pub fn unix_micros(moment: SystemTime) -> i64 {
    match moment.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_micros()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |m| -m),
    }
}

/// A wire moment from a store's microseconds.
pub fn from_unix_micros(micros: i64) -> Timestamp {
    let nanos = i32::try_from(micros.rem_euclid(1_000_000) * 1000).unwrap_or(0);
    Timestamp { seconds: micros.div_euclid(1_000_000), nanos }
}

/// A store's microseconds from a wire moment.
pub fn to_unix_micros(moment: &Timestamp) -> i64 {
    moment.seconds.saturating_mul(1_000_000).saturating_add(i64::from(moment.nanos) / 1000)
}
