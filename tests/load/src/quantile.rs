//! Order statistics of measured values.

/// Measured values of one kind, in order of size.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sorted(Vec<f64>);

impl Sorted {
    /// Sorts them.
    pub(crate) fn new(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    /// The value that `share` (0 to 1) of all are not above: nearest rank. None of nothing.
    pub(crate) fn quantile(&self, share: f64) -> Option<f64> {
        let last = self.0.len().checked_sub(1)?;
        // Shares are within 0..=1, so that the rank is a small non-negative number.
        let rank = (share * self.0.len() as f64).ceil() as usize;
        self.0.get(rank.saturating_sub(1).min(last)).copied()
    }
}

/// The middle value; of an even number the lower one of the two in the middle. None of nothing.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    Sorted::new(values.into_iter().collect()).quantile(0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_nearest_rank() {
        let values = Sorted::new((1..=100).rev().map(f64::from).collect());
        assert_eq!([0.0, 0.5, 0.99, 1.0].map(|q| values.quantile(q).unwrap()), [1.0, 50.0, 99.0, 100.0]);
        assert_eq!(Sorted::new(vec![7.0]).quantile(0.99), Some(7.0));
        assert_eq!(Sorted::default().quantile(0.5), None);
    }

    #[test]
    fn the_median_is_a_value_that_was_measured() {
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0]), Some(1.0));
        assert_eq!(median([]), None);
    }
}
