//! Desired x inventory x live to what must be done.
//!
//! 1. `prepare`: rendered objects become what will be applied: namespace, label, ignored fields taken out.
//! 2. `plan`: each desired object is compared by identity alone: digest, uid, fingerprint of our entry.
//! 3. What stands in the inventory and is no longer desired is pruned, unless anything is unknown.
//!
//! `operation` turns that into steps with gates between them, `prune` decides what may go, `window` when, `project` whether at all.
//!
//! Must not know how things are applied. Deletions come from the inventory only (I1) and only from a
//! pass that knows everything (I2).

mod desired;
mod hook;
mod operation;
mod options;
mod order;
mod project;
mod prune;
mod window;

use std::collections::{BTreeMap, HashSet};

pub use desired::{Desired, Prepared, Settings, place, prepare};
pub use hook::{Cleanup, Hook, Phase, Role};
pub use operation::{Gate, Retry, Run, Step, awaited, gate, hook_name, steps};
pub use options::{Consent, ObjectOptions};
pub use order::rank;
pub use project::{Address, Asker, DestinationRule, Glob, Intent, KindGlob, ProjectRules, RepositoryPattern};
pub use prune::{Budget, Held, PrunePolicy, Pruning, waves};
pub use window::{Opening, Window, WindowKind, Windows};

use crate::model::{Digest, Gvk, Key};

/// What is recorded of an owned object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owned {
    /// `group/version` as applied.
    pub api_version: String,
    /// The uid that the API server gave.
    pub uid: String,
    /// Digest of what was applied.
    pub digest: Digest,
    /// Fingerprint of our managedFields entry after the apply.
    pub ours: u64,
    /// metadata.generation after the apply.
    pub generation: i64,
    /// Its wave, for the order of deletions.
    pub wave: i64,
    /// Whether it may be pruned.
    pub prune: Consent,
    /// Whether it may be deleted with the application.
    pub delete: Consent,
    /// Whether it is pruned last of all.
    pub prune_last: bool,
    /// Whether it makes no difference when it has left Git and stays.
    pub extraneous: bool,
}

impl Default for Owned {
    fn default() -> Self {
        Self {
            api_version: String::new(),
            uid: String::new(),
            digest: Digest::of(b""),
            ours: 0,
            generation: 0,
            wave: 0,
            prune: Consent::default(),
            delete: Consent::default(),
            prune_last: false,
            extraneous: false,
        }
    }
}

/// What an application owns.
pub type Inventory = BTreeMap<Key, Owned>;

/// What is live, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Live {
    /// The object is there.
    Present {
        /// Its uid.
        uid: String,
        /// Fingerprint of our managedFields entry; 0 where there is none.
        ours: u64,
        /// Its generation.
        generation: i64,
        /// Whether it is being deleted.
        deleting: bool,
        /// The tracking label's value.
        label: String,
    },
    /// A complete list says that it is not there (or lost our label).
    Absent,
    /// The kind is not watched.
    Unknown,
}

/// Why an object is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// It is not in the inventory.
    New,
    /// Git states something else than was applied.
    Changed,
    /// Somebody deleted it, or took our label away.
    Missing,
    /// Another object has its name.
    Recreated,
    /// Somebody changed fields that we own.
    Edited,
    /// Its generation moved while our entry stayed: fields of others, or a write under our name.
    Moved,
}

impl Why {
    /// Whether the cluster moved, not Git.
    pub fn is_drift(self) -> bool {
        matches!(self, Self::Missing | Self::Recreated | Self::Edited)
    }
}

/// What to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What must be applied, by its place among the desired objects, with the reason.
    pub todo: BTreeMap<usize, Why>,
    /// What is deleted and what is held back.
    pub pruning: Pruning,
    /// Objects that are being deleted and will be made again when they are gone.
    pub leaving: Vec<Key>,
    /// What an inventory still holds, and Git tells to leave alone or another application has or wants: forgotten, not
    /// deleted.
    pub released: Vec<Key>,
    /// How many objects need nothing.
    pub unchanged: usize,
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.todo.is_empty() && self.pruning.now.is_empty() && self.released.is_empty()
    }
}

/// Decides by identity alone. `elsewhere` says which objects another application wants: those move, they do not go.
pub fn plan(
    prepared: &Prepared,
    inventory: &Inventory,
    label: &str,
    live: impl Fn(&Gvk, &Key) -> Live,
    elsewhere: impl Fn(&Key) -> bool,
    policy: &PrunePolicy,
) -> Plan {
    let mut result = Plan::default();
    let mut wanted: HashSet<&Key> = HashSet::with_capacity(prepared.desired.len());
    let mut alone: HashSet<&Key> = prepared.released.iter().collect();
    for (index, object) in prepared.desired.iter().enumerate() {
        if object.hook.is_some() {
            alone.insert(&object.key);
            continue;
        }
        wanted.insert(&object.key);
        let live = live(&object.gvk, &object.key);
        if matches!(live, Live::Present { deleting: true, .. }) {
            // An apply would be lost with it; that it has gone is an event of its own.
            result.leaving.push(object.key.clone());
            continue;
        }
        match reason(object, inventory.get(&object.key), label, &live) {
            Some(why) => {
                result.todo.insert(index, why);
            }
            None => result.unchanged += 1,
        }
    }
    let mut gone = Vec::new();
    for (key, owned) in inventory.iter().filter(|(key, _)| !wanted.contains(key)) {
        let live = live(&Gvk::parse(&owned.api_version, &key.kind), key);
        let moved =
            matches!(&live, Live::Present { label: found, .. } if !found.is_empty() && found != label);
        if alone.contains(key) || moved || elsewhere(key) {
            result.released.push(key.clone());
        } else {
            gone.push((key.clone(), owned.clone(), live));
        }
    }
    result.pruning = prune::decide(gone, inventory.len(), policy);
    result
}

fn reason(object: &Desired, owned: Option<&Owned>, label: &str, live: &Live) -> Option<Why> {
    let Some(owned) = owned else { return Some(Why::New) };
    if object.options.create_only {
        // Made once: only its loss matters.
        let lost =
            matches!(live, Live::Absent) || matches!(live, Live::Present { uid, .. } if *uid != owned.uid);
        return lost.then_some(Why::Missing);
    }
    if owned.digest != object.digest {
        return Some(Why::Changed);
    }
    match live {
        Live::Unknown => None,
        Live::Absent => Some(Why::Missing),
        Live::Present { uid, ours, generation, label: found, .. } => {
            if *uid != owned.uid {
                Some(Why::Recreated)
            } else if *ours != owned.ours || found != label {
                Some(Why::Edited)
            } else if *generation != owned.generation {
                Some(Why::Moved)
            } else {
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Gvk;

    fn key(number: u8) -> Key {
        let kind = if number.is_multiple_of(2) { "ConfigMap" } else { "Namespace" };
        Key { group: String::new(), kind: kind.into(), namespace: "n".into(), name: number.to_string() }
    }

    fn desired(number: u8, version: u8) -> Desired {
        let key = key(number);
        let gvk = Gvk { group: String::new(), version: "v1".into(), kind: key.kind.clone() };
        Desired { digest: Digest::of(&[number, version]), key, gvk, ..Desired::default() }
    }

    fn owned(number: u8, version: u8) -> Owned {
        Owned {
            api_version: "v1".into(),
            uid: number.to_string(),
            digest: Digest::of(&[number, version]),
            ours: u64::from(version) + 1,
            generation: 1,
            ..Owned::default()
        }
    }

    fn prepared(desired: Vec<Desired>) -> Prepared {
        Prepared { desired, released: Vec::new() }
    }

    /// Without a budget, which has tests of its own.
    fn policy(complete: bool, wanted: bool) -> PrunePolicy {
        PrunePolicy { complete, wanted, protected: true, ..PrunePolicy::default() }
    }

    fn present(number: u8, version: u8) -> Live {
        Live::Present {
            uid: number.to_string(),
            ours: u64::from(version) + 1,
            generation: 1,
            deleting: false,
            label: "l".into(),
        }
    }

    fn any_live() -> impl Strategy<Value = Live> {
        prop_oneof![
            Just(Live::Absent),
            Just(Live::Unknown),
            (0u8..4, 0u8..3, 0i64..3, any::<bool>(), prop::bool::ANY).prop_map(
                |(uid, ours, generation, deleting, label)| {
                    let label = if label { "l" } else { "other" };
                    Live::Present {
                        uid: uid.to_string(),
                        ours: u64::from(ours),
                        generation,
                        deleting,
                        label: label.into(),
                    }
                }
            ),
        ]
    }

    proptest! {
        #[test]
        fn invariants(
            wanted in prop::collection::btree_map(0u8..6, 0u8..3, 0..6),
            have in prop::collection::btree_map(0u8..6, 0u8..3, 0..6),
            lives in prop::collection::vec(any_live(), 6),
            complete: bool,
            prune: bool,
        ) {
            let desired: Vec<Desired> = wanted.iter().map(|(number, version)| desired(*number, *version)).collect();
            let inventory: Inventory = have.iter().map(|(number, version)| (key(*number), owned(*number, *version))).collect();
            let live = |_: &Gvk, wanted: &Key| lives[wanted.name.parse::<usize>().unwrap()].clone();
            let all = prepared(desired.clone());
            let result = plan(&all, &inventory, "l", live, |_| false, &policy(complete, prune));
            for (pruned, owned) in &result.pruning.now {
                // I1: only what the inventory holds, with its uid, and never what is wanted.
                prop_assert_eq!(inventory.get(pruned), Some(owned));
                prop_assert!(!desired.iter().any(|object| object.key == *pruned));
            }
            // I2: nothing is deleted on partial knowledge, nor against the application's word.
            prop_assert!(complete && prune || result.pruning.now.is_empty());
            prop_assert_eq!(result.todo.len() + result.leaving.len() + result.unchanged, desired.len());
            // Namespaces come before what lives in them, and go after it.
            let steps = steps(&desired, &result.todo, &[Phase::Sync]);
            let applied = steps.iter().flat_map(|step| step.stages.iter().flatten());
            let ranks: Vec<u8> = applied.map(|(index, _)| rank(&desired[*index].gvk)).collect();
            prop_assert_eq!(ranks.len(), result.todo.len());
            prop_assert!(ranks.is_sorted());
        }

        #[test]
        fn steady_state_does_nothing(wanted in prop::collection::btree_map(0u8..6, 0u8..3, 0..6)) {
            // I4: what was applied and is live as it was applied needs nothing.
            let desired: Vec<Desired> = wanted.iter().map(|(number, version)| desired(*number, *version)).collect();
            let inventory: Inventory = wanted.iter().map(|(number, version)| (key(*number), owned(*number, *version))).collect();
            let live = |_: &Gvk, key: &Key| { let number = key.name.parse().unwrap(); present(number, wanted[&number]) };
            prop_assert!(plan(&prepared(desired), &inventory, "l", live, |_| false, &policy(true, true)).is_empty());
        }
    }

    /// What can happen between two passes, and in one.
    #[derive(Clone, Debug)]
    enum Event {
        /// The branch moves to these objects.
        Commit(BTreeMap<u8, u8>),
        /// A pass in which some applies fail; a crash loses its inventory.
        Pass {
            failing: u8,
            crash: bool,
        },
        /// Somebody edits, deletes or replaces an object.
        Edit(u8),
        Delete(u8),
        Replace(u8),
    }

    fn any_event() -> impl Strategy<Value = Event> {
        prop_oneof![
            prop::collection::btree_map(0u8..6, 0u8..4, 1..6).prop_map(Event::Commit),
            (any::<u8>(), prop::bool::weighted(0.3))
                .prop_map(|(failing, crash)| Event::Pass { failing, crash }),
            Just(Event::Pass { failing: 0, crash: false }),
            (0u8..6).prop_map(Event::Edit),
            (0u8..6).prop_map(Event::Delete),
            (0u8..6).prop_map(Event::Replace),
        ]
    }

    /// A cluster and an application as the engine treats them.
    #[derive(Default)]
    struct World {
        head: BTreeMap<u8, u8>,
        /// Uid, version, and whether somebody edited it.
        live: BTreeMap<u8, (u32, u8, bool)>,
        inventory: Inventory,
        /// Uids that were ever in an inventory, even one that a crash lost.
        ours: HashSet<u32>,
        uids: u32,
    }

    impl World {
        fn look(&self, key: &Key) -> Live {
            let number: u8 = key.name.parse().unwrap();
            self.live.get(&number).map_or(Live::Absent, |(uid, version, edited)| Live::Present {
                uid: uid.to_string(),
                ours: if *edited { 0 } else { u64::from(*version) + 1 },
                generation: 1,
                deleting: false,
                label: "l".into(),
            })
        }

        fn make(&mut self, number: u8, version: u8) -> u32 {
            let uids = &mut self.uids;
            let entry = self.live.entry(number).or_insert_with(|| {
                *uids += 1;
                (*uids, version, false)
            });
            (entry.1, entry.2) = (version, false);
            entry.0
        }

        fn pass(&mut self, failing: u8, crash: bool) {
            let wanted: Vec<Desired> =
                self.head.iter().map(|(number, version)| desired(*number, *version)).collect();
            let wanted = prepared(wanted);
            let todo =
                plan(&wanted, &self.inventory, "l", |_, key| self.look(key), |_| false, &policy(true, true));
            let wanted = wanted.desired;
            let before = self.inventory.clone();
            let mut failed = false;
            for index in todo.todo.keys() {
                let number: u8 = wanted[*index].key.name.parse().unwrap();
                if failing & (1 << number) != 0 {
                    failed = true;
                    continue;
                }
                // I5: what is written is what the branch holds now, never what it held before.
                let version = self.head[&number];
                let uid = self.make(number, version);
                self.ours.insert(uid);
                let entry = Owned { uid: uid.to_string(), ..owned(number, version) };
                self.inventory.insert(key(number), entry);
            }
            if !failed {
                for key in &todo.pruning.gone {
                    self.inventory.remove(key);
                }
                for (key, owned) in &todo.pruning.now {
                    let number: u8 = key.name.parse().unwrap();
                    // The uid is a precondition of the deletion.
                    if self.live.get(&number).is_some_and(|(uid, ..)| uid.to_string() == owned.uid) {
                        let (uid, ..) = self.live.remove(&number).unwrap();
                        assert!(self.ours.contains(&uid), "I1: only what was ours is deleted");
                    }
                    self.inventory.remove(key);
                }
            }
            if crash {
                self.inventory = before;
            }
        }
    }

    proptest! {
        /// I3, I5, I9: whatever failed before, one good pass brings the newest commit; I4: the next does nothing.
        #[test]
        fn faults_end_and_the_head_is_reached(events in prop::collection::vec(any_event(), 0..30)) {
            let mut world = World::default();
            let mut strangers = HashSet::new();
            for event in events {
                match event {
                    Event::Commit(head) => world.head = head,
                    Event::Pass { failing, crash } => world.pass(failing, crash),
                    Event::Edit(number) => if let Some(object) = world.live.get_mut(&number) { object.2 = true },
                    Event::Delete(number) => { world.live.remove(&number); }
                    Event::Replace(number) => {
                        world.live.remove(&number);
                        strangers.insert(world.make(number, 9));
                    }
                }
            }
            let before = world.live.clone();
            world.pass(0, false);
            for (number, version) in &world.head {
                let found = world.live.get(number).map(|(_, version, edited)| (*version, *edited));
                prop_assert_eq!(found, Some((*version, false)));
            }
            for (number, (uid, ..)) in &before {
                // A stranger's object goes only after the application has taken its name over.
                let kept = world.live.get(number).is_some_and(|(now, ..)| now == uid);
                prop_assert!(kept || world.ours.contains(uid));
            }
            let wanted: Vec<Desired> = world.head.iter().map(|(number, version)| desired(*number, *version)).collect();
            let wanted = prepared(wanted);
            prop_assert!(plan(&wanted, &world.inventory, "l", |_, key| world.look(key), |_| false, &policy(true, true)).is_empty());
        }
    }

    #[test]
    fn every_kind_of_drift_has_its_reason() {
        let with = |change: fn(&mut Live)| {
            let mut live = present(0, 1);
            change(&mut live);
            let inventory = [(key(0), owned(0, 1))].into();
            let wanted = prepared(vec![desired(0, 1)]);
            let todo = plan(&wanted, &inventory, "l", |_, _| live.clone(), |_| false, &policy(true, true));
            todo.todo.values().next().copied()
        };
        assert_eq!(with(|_| ()), None);
        assert_eq!(with(|live| *live = Live::Absent), Some(Why::Missing));
        assert_eq!(
            with(|live| if let Live::Present { uid, .. } = live {
                *uid = "x".into();
            }),
            Some(Why::Recreated)
        );
        assert_eq!(
            with(|live| if let Live::Present { ours, .. } = live {
                *ours = 0;
            }),
            Some(Why::Edited)
        );
        assert_eq!(
            with(|live| if let Live::Present { label, .. } = live {
                label.clear();
            }),
            Some(Why::Edited)
        );
        assert_eq!(
            with(|live| if let Live::Present { generation, .. } = live {
                *generation = 7;
            }),
            Some(Why::Moved)
        );
        assert_eq!(
            with(|live| if let Live::Present { deleting, .. } = live {
                *deleting = true;
            }),
            None
        );
    }
}
