//! Deterministic embeddings: hashed bags of words, so that texts that share words are near.

use crate::digest;

/// Most dimensions given.
pub(crate) const MAX_DIMENSIONS: usize = 4096;

/// Positions a word sets.
const SPREAD: usize = 8;

/// The unit vector of `text` in `dimensions` dimensions.
pub(crate) fn embed(text: &str, dimensions: usize) -> Vec<f32> {
    let dimensions = dimensions.clamp(1, MAX_DIMENSIONS);
    let mut vector = vec![0.0_f32; dimensions];
    let lower = text.to_lowercase();
    for word in lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        let mut state = digest::hash(word.as_bytes());
        for _ in 0..SPREAD {
            state = digest::mix(state);
            let size = u64::try_from(dimensions).unwrap_or(1);
            let at = usize::try_from((state >> 1) % size).unwrap_or_default();
            vector[at] += if state & 1 == 0 { 1.0 } else { -1.0 };
        }
    }
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    if length > 0.0 {
        for x in &mut vector {
            *x /= length;
        }
    } else {
        vector[0] = 1.0;
    }
    vector
}

#[cfg(test)]
mod tests {
    use super::embed;

    fn dot(a: &[f32], b: &[f32]) -> f32 {
        a.iter().zip(b).map(|(x, y)| x * y).sum()
    }

    #[test]
    fn vectors_have_unit_length_and_texts_with_common_words_are_near() {
        let a = embed("the cat sat on the mat", 256);
        assert!((dot(&a, &a) - 1.0).abs() < 1e-5);
        let near = dot(&a, &embed("a cat on a mat", 256));
        let far = dot(&a, &embed("quarterly revenue figures", 256));
        assert!(near > far + 0.2, "{near} {far}");
        assert_eq!(embed("", 3), [1.0, 0.0, 0.0]);
    }
}
