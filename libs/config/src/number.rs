//! Integers of any width out of TOML's 64 bits.

use std::ops::RangeInclusive;

mod sealed {
    pub trait Sealed {}
}

/// An integer type a key can be read as.
pub trait Integer: Copy + PartialOrd + sealed::Sealed {
    #[doc(hidden)]
    fn from_i64(number: i64) -> Option<Self>;
    #[doc(hidden)]
    fn saturating(self) -> i64;
    #[doc(hidden)]
    fn describe(range: &RangeInclusive<Self>) -> String;
}

macro_rules! integer {
    ($($type:ty)*) => {$(
        impl sealed::Sealed for $type {}

        impl Integer for $type {
            fn from_i64(number: i64) -> Option<Self> {
                Self::try_from(number).ok()
            }

            fn saturating(self) -> i64 {
                i64::try_from(self).unwrap_or(i64::MAX)
            }

            fn describe(range: &RangeInclusive<Self>) -> String {
                let bounded_below = *range.start() > Self::MIN || Self::MIN == 0;
                let low = bounded_below.then(|| range.start().to_string());
                let high = (range.end().saturating() < i64::MAX).then(|| range.end().to_string());
                at_least_at_most("an integer", low, high)
            }
        }
    )*};
}

integer!(i32 i64 u16 u32 u64 usize);

/// `what`, with the bounds it has.
pub(crate) fn at_least_at_most(what: &str, low: Option<String>, high: Option<String>) -> String {
    match (low, high) {
        (None, None) => what.to_owned(),
        (Some(low), None) => format!("{what} of at least {low}"),
        (None, Some(high)) => format!("{what} of at most {high}"),
        (Some(low), Some(high)) => format!("{what} from {low} to {high}"),
    }
}
