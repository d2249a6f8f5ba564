//! Whether a failed call is tried again at the same backend, and when.

use std::time::Duration;

use tutti_config::RetryConfig;

/// What to do after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Try again after this time.
    Again(Duration),
    /// It might go well after this time, but that is too long to wait here: the caller is told.
    Later(Duration),
    /// The tries are used up.
    Enough,
}

/// What happens after try number `made` (from 1) failed in a way that may pass.
///
/// `most` bounds the tries of this call besides the configuration; `asked` is when the provider wants to be asked again;
/// `left` is the caller's time; `random` is from 0 to 1.
///
/// A wait that the provider names is never shortened, only prolonged by the jitter, so that not all of its callers come
/// back in the same moment. One above the configured maximum, or that leaves no time for the try itself, is not begun.
pub(crate) fn after_failure(
    config: &RetryConfig,
    (made, most): (u32, u32),
    asked: Option<Duration>,
    left: Duration,
    random: f64,
) -> Verdict {
    if made >= config.max_attempts.min(most) {
        return Verdict::Enough;
    }
    let wait = match asked {
        Some(asked) if asked > config.max_delay => return Verdict::Later(asked),
        Some(asked) => asked.mul_f64(1.0 + config.jitter * random),
        None => backoff(config, made).mul_f64(1.0 + config.jitter * (2.0 * random - 1.0)).min(config.max_delay),
    };
    if wait < left { Verdict::Again(wait) } else { Verdict::Later(asked.unwrap_or(wait)) }
}

/// The wait after try number `made`, without its jitter.
fn backoff(config: &RetryConfig, made: u32) -> Duration {
    let most = config.max_delay.as_secs_f64();
    let factor = config.factor.powi(i32::try_from(made.saturating_sub(1)).unwrap_or(i32::MAX));
    Duration::from_secs_f64((config.base_delay.as_secs_f64() * factor).min(most))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LONG: Duration = Duration::from_secs(1000);

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let config = RetryConfig { max_attempts: 20, ..RetryConfig::default() };
        let waits: Vec<_> = (1..=8).map(|made| after_failure(&config, (made, 20), None, LONG, 0.5)).collect();
        let expected = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0].map(|s| Verdict::Again(seconds(s)));
        assert_eq!(waits, expected);
    }

    #[test]
    fn jitter_goes_both_ways_save_where_the_provider_named_the_time() {
        let config = RetryConfig::default();
        let wait = |asked, random| after_failure(&config, (1, 10), asked, LONG, random);
        assert_eq!((wait(None, 0.0), wait(None, 1.0)), (Verdict::Again(seconds(0.75)), Verdict::Again(seconds(1.25))));
        let asked = Some(seconds(8.0));
        assert_eq!((wait(asked, 0.0), wait(asked, 1.0)), (Verdict::Again(seconds(8.0)), Verdict::Again(seconds(10.0))));
    }

    #[test]
    fn tries_end_at_the_nearer_of_both_bounds() {
        let config = RetryConfig::default();
        let after = |made, most| after_failure(&config, (made, most), None, LONG, 0.5);
        assert_eq!(after(2, 10), Verdict::Again(seconds(2.0)));
        assert_eq!((after(3, 10), after(1, 1), after(2, 2)), (Verdict::Enough, Verdict::Enough, Verdict::Enough));
    }

    #[test]
    fn a_wait_that_does_not_fit_is_told_and_not_begun() {
        let config = RetryConfig::default();
        let after = |asked, left| after_failure(&config, (1, 10), asked, left, 0.5);
        assert_eq!(after(Some(seconds(8.0)), seconds(7.0)), Verdict::Later(seconds(8.0)));
        assert_eq!(after(Some(seconds(61.0)), LONG), Verdict::Later(seconds(61.0)));
        assert_eq!(after(None, seconds(0.5)), Verdict::Later(seconds(1.0)));
    }

    proptest! {
        #[test]
        fn no_wait_is_longer_than_allowed_or_shorter_than_asked(
            made in 1u32..25, most in 1u32..25, asked in proptest::option::of(0u64..200_000),
            left in 0u64..400_000, random in 0.0f64..1.0, factor in 1.0f64..10.0, jitter in 0.0f64..1.0,
        ) {
            let config = RetryConfig { max_attempts: 10, factor, jitter, ..RetryConfig::default() };
            let (asked, left) = (asked.map(Duration::from_millis), Duration::from_millis(left));
            match after_failure(&config, (made, most), asked, left, random) {
                Verdict::Again(wait) => {
                    prop_assert!(made < 10 && made < most && wait < left);
                    prop_assert!(wait <= asked.map_or(config.max_delay, |asked| asked * 2));
                    prop_assert!(asked.is_none_or(|asked| wait >= asked));
                }
                Verdict::Later(wait) => prop_assert!(made < 10 && made < most && asked.is_none_or(|a| wait == a)),
                Verdict::Enough => prop_assert!(made >= 10 || made >= most),
            }
        }
    }
}
