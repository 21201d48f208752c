//! What may be deleted of what has left Git.
//!
//! Nothing while anything is unknown (I2), nothing that refuses it, and nothing without a word where the kind is
//! protected, where the object asks for one, or where it is suspiciously much: a wrong path in a merge must not empty
//! a cluster. The word is bound to exactly these objects.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::options::{Consent, is_protected};
use super::{Live, Owned, rank};
use crate::model::{Digest, Gvk, Key};

/// Objects below which no share counts: of three objects, two may go.
const FEW: usize = 10;

/// How much may go at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// At most so many objects; no limit where `None`.
    pub count: Option<usize>,
    /// At most this share of what the application owns, in percent, where it is more than ten objects.
    pub percent: u8,
}

impl Default for Budget {
    fn default() -> Self {
        Self { count: None, percent: 50 }
    }
}

/// What is known and allowed when it is decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
pub struct PrunePolicy {
    /// Whether every step before this one gave its whole result.
    pub complete: bool,
    /// Whether the application wants deletions.
    pub wanted: bool,
    /// How much may go.
    pub budget: Budget,
    /// Protected kinds may go without a word.
    pub protected: bool,
    /// That the application may lose everything is said (`allowEmpty`), and there is nothing left in Git.
    pub empty: bool,
    /// The word: [`Pruning::token`] of what it was given for.
    pub confirmed: String,
}

/// Why an object stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Held {
    /// The application does not prune.
    Off,
    /// This pass does not know everything.
    Incomplete,
    /// The object says so.
    Refused,
    /// The object asks for a confirmation.
    Asks,
    /// Its kind is protected.
    Protected,
    /// It is more than the budget.
    Budget,
    /// The Project does not allow it any more.
    Disallowed,
}

impl Held {
    /// Whether a confirmation lets it go.
    pub fn wants_word(self) -> bool {
        matches!(self, Self::Asks | Self::Protected | Self::Budget)
    }
}

/// The decision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruning {
    /// What is deleted now, with what is known of it.
    pub now: Vec<(Key, Owned)>,
    /// What was asked to go and is not gone yet.
    pub leaving: Vec<Key>,
    /// What is gone already, and the inventory may forget.
    pub gone: Vec<Key>,
    /// What stays, and why.
    pub held: Vec<(Key, Held)>,
    /// Whether something stays that makes the cluster differ from Git.
    pub differs: bool,
    /// What a confirmation must say: it stands for exactly the objects that want one.
    pub token: String,
}

/// Decides on everything that an inventory holds and Git does not.
pub(super) fn decide(gone: Vec<(Key, Owned, Live)>, owned: usize, policy: &PrunePolicy) -> Pruning {
    let mut result = Pruning::default();
    let mut candidates = Vec::new();
    for (key, entry, live) in gone {
        match live {
            Live::Present { deleting: true, uid, .. } if uid == entry.uid => result.leaving.push(key),
            Live::Absent if policy.complete => result.gone.push(key),
            _ => candidates.push((key, entry)),
        }
    }
    let much = !policy.empty && over(&policy.budget, candidates.len(), owned);
    let mut asking = Vec::new();
    for (key, entry) in candidates {
        let gvk = Gvk::parse(&entry.api_version, &key.kind);
        let held = if entry.prune == Consent::Refused {
            Some(Held::Refused)
        } else if !policy.wanted {
            Some(Held::Off)
        } else if !policy.complete {
            Some(Held::Incomplete)
        } else if entry.prune == Consent::Asked {
            Some(Held::Asks)
        } else if entry.prune == Consent::Unsaid && !policy.protected && is_protected(&gvk) {
            Some(Held::Protected)
        } else if much {
            Some(Held::Budget)
        } else {
            None
        };
        match held {
            None => result.now.push((key, entry)),
            Some(held) if held.wants_word() => asking.push((key, entry, held)),
            Some(held) => result.held.push((key, held)),
        }
    }
    if !asking.is_empty() {
        let parts = asking.iter().flat_map(|(key, entry, _)| [key.to_string(), entry.uid.clone()]);
        Digest::of_parts(parts).to_string()[..12].clone_into(&mut result.token);
        let confirmed = policy.confirmed == result.token;
        for (key, entry, held) in asking {
            if confirmed {
                result.now.push((key, entry));
            } else {
                result.differs |= !entry.extraneous;
                result.held.push((key, held));
            }
        }
    }
    // What a person can do something about comes first.
    result.held.sort_by_key(|(_, held)| std::cmp::Reverse(*held));
    result
}

/// Objects in the order in which they are deleted: the last wave first, in it what others need last.
pub fn waves(objects: Vec<(Key, Owned)>) -> Vec<Vec<(Key, Owned)>> {
    let mut waves: BTreeMap<Reverse<i64>, Vec<(Key, Owned)>> = BTreeMap::new();
    for (key, owned) in objects {
        waves.entry(Reverse(owned.wave)).or_default().push((key, owned));
    }
    for wave in waves.values_mut() {
        wave.sort_by_key(|(key, owned)| Reverse(rank(&Gvk::parse(&owned.api_version, &key.kind))));
    }
    waves.into_values().collect()
}

fn over(budget: &Budget, going: usize, owned: usize) -> bool {
    let share = owned > FEW && going * 100 > owned * usize::from(budget.percent.min(100));
    share || budget.count.is_some_and(|count| going > count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(kind: &str, name: usize, prune: Consent) -> (Key, Owned, Live) {
        let group = if kind == "StatefulSet" { "apps" } else { "" };
        let key =
            Key { group: group.into(), kind: kind.into(), namespace: "n".into(), name: name.to_string() };
        let version = if group.is_empty() { "v1".to_owned() } else { format!("{group}/v1") };
        let owned = Owned { api_version: version, uid: format!("u{name}"), prune, ..Owned::default() };
        (key, owned, Live::Unknown)
    }

    fn policy() -> PrunePolicy {
        PrunePolicy { complete: true, wanted: true, ..PrunePolicy::default() }
    }

    fn check(gone: &[(Key, Owned, Live)], owned: usize, policy: &PrunePolicy, expected: &[Option<Held>]) {
        let found = decide(gone.to_vec(), owned, policy);
        let verdicts: Vec<Option<Held>> = gone
            .iter()
            .map(|(key, ..)| found.held.iter().find(|(held, _)| held == key).map(|(_, why)| *why))
            .collect();
        assert_eq!(verdicts, expected);
        assert_eq!(found.now.len(), expected.iter().filter(|held| held.is_none()).count());
    }

    #[test]
    fn what_may_go_goes() {
        let maps =
            |count: usize| (0..count).map(|n| one("ConfigMap", n, Consent::Unsaid)).collect::<Vec<_>>();
        check(&maps(2), 3, &policy(), &[None, None]);
        check(&maps(1), 3, &PrunePolicy { wanted: false, ..policy() }, &[Some(Held::Off)]);
        check(&maps(1), 3, &PrunePolicy { complete: false, ..policy() }, &[Some(Held::Incomplete)]);
        check(&maps(11), 20, &policy(), &[Some(Held::Budget); 11]);
        check(&maps(10), 20, &policy(), &[None; 10]);
        check(&maps(20), 20, &PrunePolicy { empty: true, ..policy() }, &[None; 20]);
        let budget = Budget { count: Some(1), percent: 100 };
        check(&maps(2), 3, &PrunePolicy { budget, ..policy() }, &[Some(Held::Budget); 2]);
    }

    #[test]
    fn a_word_is_needed_and_counts_for_these_objects_only() {
        let all = vec![
            one("PersistentVolumeClaim", 0, Consent::Unsaid),
            one("StatefulSet", 1, Consent::Given),
            one("ConfigMap", 2, Consent::Asked),
            one("ConfigMap", 3, Consent::Refused),
            one("ConfigMap", 4, Consent::Unsaid),
        ];
        let held = [Some(Held::Protected), None, Some(Held::Asks), Some(Held::Refused), None];
        check(&all, 9, &policy(), &held);
        let token = decide(all.clone(), 9, &policy()).token;
        let confirmed = PrunePolicy { confirmed: token, ..policy() };
        check(&all, 9, &confirmed, &[None, None, None, Some(Held::Refused), None]);
        check(&all[2..], 9, &confirmed, &[Some(Held::Asks), Some(Held::Refused), None]);
        check(&all[..1], 9, &PrunePolicy { protected: true, ..policy() }, &[None]);
    }

    #[test]
    fn what_makes_no_difference_is_held_all_the_same() {
        let mut claim = one("PersistentVolumeClaim", 0, Consent::Unsaid);
        assert!(decide(vec![claim.clone()], 9, &policy()).differs);
        claim.1.extraneous = true;
        let found = decide(vec![claim], 9, &policy());
        assert_eq!((found.differs, found.held.len(), found.token.is_empty()), (false, 1, false));
    }

    #[test]
    fn what_is_on_its_way_out_is_not_deleted_again() {
        let (key, owned, _) = one("ConfigMap", 0, Consent::Unsaid);
        let live = |uid: &str, deleting| Live::Present {
            uid: uid.into(),
            ours: 1,
            generation: 1,
            deleting,
            label: "l".into(),
        };
        let decided = |live| decide(vec![(key.clone(), owned.clone(), live)], 3, &policy());
        assert_eq!(decided(live("u0", true)).leaving, std::slice::from_ref(&key));
        assert_eq!(decided(live("other", true)).now.len(), 1);
        assert_eq!(decided(Live::Absent).gone, std::slice::from_ref(&key));
    }
}
