//! Randomness from a seed: the same seed gives the same bytes.

use chacha20::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

/// A cryptographic generator.
pub(super) struct Source(ChaCha20Rng);

impl Source {
    pub(super) fn new(seed: [u8; 32]) -> Self {
        Self(ChaCha20Rng::from_seed(seed))
    }

    /// The generator itself, for keys.
    pub(super) fn generator(&mut self) -> &mut ChaCha20Rng {
        &mut self.0
    }

    pub(super) fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }

    /// A number below another, each as likely.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        let bound = bound.max(1);
        // Numbers in the last, partial round of the bound would be likelier.
        let fair = u64::MAX - u64::MAX % bound;
        loop {
            let number = self.0.next_u64();
            if number < fair {
                return number % bound;
            }
        }
    }
}
