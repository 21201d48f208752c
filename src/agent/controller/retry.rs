//! When a failed pass is tried again.

use std::time::{Duration, Instant};

use crate::live::kube::spread;

/// Passes of one application that failed in a row.
#[derive(Debug, Default)]
pub(super) struct Retry {
    failures: u32,
    /// When the next one is, if nothing happens before.
    due: Option<Instant>,
}

impl Retry {
    /// It went well.
    pub(super) fn passed(&mut self) {
        *self = Self::default();
    }

    /// How long to wait after a failure: 2 s, doubling to `most`, and a quarter by chance.
    ///
    /// A pass that an event began before its time and that fails too counts for nothing: seven events in 0.2 s were a
    /// pause of two minutes.
    pub(super) fn failed(&mut self, now: Instant, most: Duration) -> Duration {
        if let Some(due) = self.due.filter(|due| *due > now) {
            return (due - now).min(most);
        }
        self.failures += 1;
        let wait = Duration::from_secs(1 << self.failures.min(9)).min(most);
        let wait = wait + spread(wait / 4);
        self.due = Some(now + wait);
        wait
    }

    /// It ended in a panic: the pause is long at once.
    pub(super) fn broke(&mut self, now: Instant, most: Duration) -> Duration {
        self.failures = self.failures.max(7);
        self.due = None;
        self.failed(now, most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Duration = Duration::from_secs(300);

    #[test]
    fn events_before_its_time_make_no_pause_longer() {
        let (begin, mut retry) = (Instant::now(), Retry::default());
        let at = |milliseconds: u64| begin + Duration::from_millis(milliseconds);
        let within = |wait: Duration, least: u64| {
            let (least, most) = (Duration::from_secs(least), Duration::from_secs(least) * 5 / 4);
            assert!(wait >= least && wait <= most, "{wait:?}");
        };
        let first = retry.failed(at(0), MOST);
        within(first, 2);
        for event in 1..10 {
            assert_eq!(at(event * 20) + retry.failed(at(event * 20), MOST), begin + first);
        }
        within(retry.failed(at(2_500), MOST), 4);
        within(retry.failed(at(8_000), MOST), 8);
        retry.passed();
        within(retry.failed(at(20_000), MOST), 2);
        for turn in 1..12_u64 {
            retry.failed(at(1_000_000 * turn), MOST);
        }
        within(retry.failed(at(20_000_000), MOST), 300);
        assert!(retry.failed(at(20_000_100), Duration::from_secs(15)) <= Duration::from_secs(15));
        retry.passed();
        within(retry.broke(at(30_000_000), MOST), 256);
    }
}
