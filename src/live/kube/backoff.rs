//! Pauses between tries.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// Doubling pauses, each with a random part: agents that lost a server together do not come back together.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    /// From the first pause to the longest.
    pub fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, next: first }
    }

    /// It went well: the next pause is the first again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }

    /// The next pause: from three quarters of it to five.
    pub fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.most);
        pause * 3 / 4 + spread(pause / 2)
    }
}

/// Anything below this, by chance.
pub fn spread(most: Duration) -> Duration {
    // The standard library's own seed, another each time.
    let share = RandomState::new().build_hasher().finish() % 1024;
    most / 1024 * u32::try_from(share).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_within_bounds() {
        let mut backoff = Backoff::new(Duration::from_millis(400), Duration::from_secs(1));
        for (least, most) in [(300, 500), (600, 1000), (750, 1250), (750, 1250)] {
            let pause = backoff.pause().as_millis();
            assert!((least..=most).contains(&pause), "{pause}");
        }
        backoff.reset();
        assert!(backoff.pause().as_millis() <= 500);
        let all: std::collections::HashSet<_> = (0..20).map(|_| spread(Duration::from_secs(1))).collect();
        assert!(all.len() > 5, "they differ");
    }
}
