//! Durations as config files write them.

use std::time::Duration;

use crate::value::Value;

/// A number is seconds; a string is a number with one of the units ms, s, m, h, d.
/// `None` for anything else: negative, not finite, too large, no unit.
pub(crate) fn read(value: &Value) -> Option<Duration> {
    match value {
        Value::Integer(seconds) => u64::try_from(*seconds).ok().map(Duration::from_secs),
        Value::Float(seconds) => Duration::try_from_secs_f64(*seconds).ok(),
        Value::String(text) => with_unit(text.trim()),
        _ => None,
    }
}

fn with_unit(text: &str) -> Option<Duration> {
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(unit_at);
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        _ => return None,
    };
    let number: f64 = number.trim().parse().ok()?;
    Duration::try_from_secs_f64(number * seconds).ok()
}

/// The shortest way to write it that reads back as the same duration (to the millisecond).
pub(crate) fn write(duration: Duration) -> Value {
    match i64::try_from(duration.as_secs()) {
        Ok(seconds) if duration.subsec_nanos() == 0 => Value::Integer(seconds),
        _ => Value::String(format!("{}ms", duration.as_millis())),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{read, write};
    use crate::value::Value;

    #[test]
    fn numbers_are_seconds_and_strings_carry_a_unit() {
        let text = |text: &str| read(&Value::String(text.to_owned()));
        assert_eq!(read(&Value::Integer(30)), Some(Duration::from_secs(30)));
        assert_eq!(read(&Value::Float(0.5)), Some(Duration::from_millis(500)));
        assert_eq!(text("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(text("1.5 s"), Some(Duration::from_millis(1500)));
        assert_eq!(text("5m"), Some(Duration::from_secs(300)));
        assert_eq!(text("1h"), Some(Duration::from_secs(3600)));
        assert_eq!(text("2d"), Some(Duration::from_secs(172_800)));
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        let text = |text: &str| read(&Value::String(text.to_owned()));
        for bad in ["", "30", "s", "-1s", "1 week", "inf s", "1e400s", "1ss", "ms5"] {
            assert_eq!(text(bad), None, "{bad}");
        }
        for bad in [Value::Integer(-1), Value::Float(f64::NAN), Value::Boolean(true)] {
            assert_eq!(read(&bad), None, "{bad:?}");
        }
    }

    #[test]
    fn written_durations_read_back() {
        for millis in [0, 1, 500, 1_000, 90_500, 3_600_000] {
            let duration = Duration::from_millis(millis);
            assert_eq!(read(&write(duration)), Some(duration));
        }
    }
}
