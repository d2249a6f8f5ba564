//! What a Claude model can do, read from its name.

/// The generation in a model's name, e.g. `(4, 6)` for `claude-sonnet-4-6`; names without
/// one (and so unknown models) count as the newest.
pub(crate) fn generation(model: &str) -> (u32, u32) {
    // Dates (`20250514`) are numbers too, but no version has three digits.
    let numbers: Vec<u32> = model.split('-').filter_map(|part| part.parse().ok()).filter(|n| *n < 100).collect();
    match numbers.as_slice() {
        [] => (u32::MAX, 0),
        [major] => (*major, 0),
        [major, minor, ..] => (*major, *minor),
    }
}

/// Newer than 4.6: no sampling parameters, adaptive thinking only.
pub(crate) fn is_new(model: &str) -> bool {
    generation(model) > (4, 6)
}

#[cfg(test)]
mod tests {
    use super::{generation, is_new};

    #[test]
    fn generations_are_read_from_names() {
        assert_eq!(generation("claude-sonnet-4-20250514"), (4, 0));
        assert_eq!(generation("claude-opus-5-5"), (5, 5));
        assert_eq!(generation("claude-3-5-sonnet-20241022"), (3, 5));
        assert!(is_new("claude-fable-5-1") && !is_new("claude-sonnet-4-6"));
    }
}
