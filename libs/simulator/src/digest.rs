//! Deterministic digests: signatures of reasoning, identifiers, embedding seeds.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// FNV-1a with a final mix: stable over versions, which `std`'s hasher does not promise.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let mut state = OFFSET;
    for byte in bytes {
        state = (state ^ u64::from(*byte)).wrapping_mul(PRIME);
    }
    mix(state)
}

/// One step of SplitMix64; also a cheap generator of further numbers from a seed.
pub(crate) fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The base64 signature the simulator puts on `content`, as opaque as a real one.
pub(crate) fn sign(content: &str) -> String {
    STANDARD.encode(format!("tutti-sim:{:016x}", hash(content.as_bytes())))
}

/// Whether `signature` is [`sign`]`(content)`, in either base64 alphabet: Google's Python
/// SDK sends bytes back in the URL-safe one.
pub(crate) fn signed(content: &str, signature: &str) -> bool {
    let decoded = STANDARD.decode(signature).or_else(|_| URL_SAFE.decode(signature));
    let expected = format!("tutti-sim:{:016x}", hash(content.as_bytes()));
    decoded.is_ok_and(|bytes| bytes == expected.as_bytes())
}

/// An alphanumeric text of `len` characters derived from `seed`.
pub(crate) fn token(seed: u64, len: usize) -> String {
    const ALPHABET: &[u8; 62] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let mut state = mix(seed);
    let mut text = String::with_capacity(len);
    for _ in 0..len {
        let at = usize::try_from(state % 62).unwrap_or_default();
        text.push(char::from(ALPHABET[at]));
        state = mix(state);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{sign, signed, token};

    #[test]
    fn a_signature_belongs_to_its_content_only() {
        let signature = sign("a thought");
        assert!(signed("a thought", &signature));
        assert!(!signed("another thought", &signature));
        assert!(!signed("a thought", "bm9uc2Vuc2U="));
    }

    #[test]
    fn tokens_differ_by_seed_and_have_the_length_asked_for() {
        assert_eq!(token(1, 9).len(), 9);
        assert_ne!(token(1, 9), token(2, 9));
        assert!(token(7, 24).chars().all(|c| c.is_ascii_alphanumeric()));
    }
}
