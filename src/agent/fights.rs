//! Objects that somebody keeps changing back: repairs of them pause.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::model::Key;

/// Repairs of one object within a minute before it counts as a fight.
const FREE_REPAIRS: u32 = 3;

/// Repairs of one object, to notice somebody who undoes them.
#[derive(Clone, Debug)]
struct Fight {
    repairs: u32,
    last: Instant,
}

/// The repairs of one application that are not long ago.
#[derive(Clone, Debug, Default)]
pub struct Fights(HashMap<Key, Fight>);

impl Fights {
    /// How long to wait before repairing once more; `None` for at once. 2 s doubling to 5 min.
    pub(super) fn wait(&self, key: &Key, now: Instant) -> Option<Duration> {
        let fight = self.0.get(key).filter(|fight| fight.repairs >= FREE_REPAIRS)?;
        let pause =
            Duration::from_secs(2u64 << (fight.repairs - FREE_REPAIRS).min(8)).min(Duration::from_secs(300));
        (fight.last + pause).checked_duration_since(now).filter(|wait| !wait.is_zero())
    }

    pub(super) fn repaired(&mut self, key: &Key, now: Instant) {
        // Quiet for a minute, or for twice the last pause: a new quarrel, not the old one.
        self.0.retain(|_, fight| {
            let pause = Duration::from_secs(60u64 << fight.repairs.saturating_sub(FREE_REPAIRS).min(4));
            now.duration_since(fight.last) < pause
        });
        let fight = self.0.entry(key.clone()).or_insert(Fight { repairs: 0, last: now });
        fight.repairs += 1;
        fight.last = now;
    }

    /// Objects that somebody keeps changing.
    pub fn hot(&self) -> impl Iterator<Item = &Key> {
        self.0.iter().filter(|(_, fight)| fight.repairs >= FREE_REPAIRS).map(|(key, _)| key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fight_is_paused_longer_each_time() {
        let key =
            Key { group: String::new(), kind: "ConfigMap".into(), namespace: "n".into(), name: "a".into() };
        let mut fights = Fights::default();
        let mut now = Instant::now();
        let mut waits = Vec::new();
        for _ in 0..12 {
            waits.push(fights.wait(&key, now).map_or(0, |wait| wait.as_secs()));
            now += fights.wait(&key, now).unwrap_or_default();
            fights.repaired(&key, now);
        }
        assert_eq!(waits, [0, 0, 0, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        assert_eq!(fights.hot().count(), 1);
        assert_eq!(fights.wait(&key, now + Duration::from_secs(301)), None);
    }
}
