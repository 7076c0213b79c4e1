//! Randomness as a dependency: tests repeat it.

use std::sync::Mutex;

/// A source of randomness that is fit for secrets, [`SeededRandom`] apart.
pub trait Random: Send + Sync + 'static {
    /// Fills `bytes`.
    fn fill(&self, bytes: &mut [u8]);
}

/// The machine's randomness.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    #[expect(clippy::panic, reason = "a machine without randomness can do nothing safely")]
    fn fill(&self, bytes: &mut [u8]) {
        if let Err(error) = getrandom::fill(bytes) {
            panic!("the operating system gives no randomness: {error}");
        }
    }
}

/// A sequence that its seed decides (SplitMix64), for tests and simulations only.
#[derive(Debug)]
pub struct SeededRandom(Mutex<u64>);

impl SeededRandom {
    /// The sequence of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(seed))
    }
}

impl Random for SeededRandom {
    fn fill(&self, bytes: &mut [u8]) {
        let mut state = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for chunk in bytes.chunks_mut(8) {
            *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = *state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^= z >> 31;
            for (byte, random) in chunk.iter_mut().zip(z.to_le_bytes()) {
                *byte = random;
            }
        }
    }
}

/// A string of `length` letters and digits, each with log2(62) = 5.95 bits of randomness.
#[must_use]
pub fn random_string(random: &dyn Random, length: usize) -> String {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut text = String::with_capacity(length);
    let mut bytes = [0_u8; 64];
    while text.len() < length {
        random.fill(&mut bytes);
        // 248 is the largest multiple of 62 in a byte: what lies above would favour some letters.
        let letters = bytes.iter().filter(|byte| **byte < 248);
        let letters = letters.filter_map(|byte| ALPHABET.get(usize::from(*byte % 62)));
        text.extend(letters.take(length - text.len()).map(|byte| char::from(*byte)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_string_has_the_length_asked_for() {
        for length in [0, 1, 63, 64, 200] {
            let text = random_string(&SeededRandom::new(7), length);
            assert_eq!(text.len(), length);
            assert!(text.bytes().all(|b| b.is_ascii_alphanumeric()));
        }
    }

    #[test]
    fn a_seed_repeats_its_sequence() {
        let draw = |seed| random_string(&SeededRandom::new(seed), 32);
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }
}
