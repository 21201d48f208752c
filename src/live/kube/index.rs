//! What the watches last saw.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, RwLock};

use serde_json::Value;

use crate::live::kube::{Bodies, Following};
use crate::model::{Gvk, Key};

/// One live object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its uid.
    pub uid: Box<str>,
    /// resourceVersion, which only grows; 0 where it is no number.
    pub version: u64,
    /// metadata.generation; 0 for kinds without one.
    pub generation: i64,
    /// Fingerprint of our managedFields entry; 0 where we have none.
    pub ours: u64,
    /// The tracking label's value; empty where missing.
    pub label: Box<str>,
    /// The sync that made it, where it is a hook, or what is asked of a rollout; empty where neither.
    pub operation: Box<str>,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Its health; the reason is empty for healthy objects.
    pub health: crate::health::Health,
    /// The other manager that wrote last.
    pub last_writer: Option<Box<str>>,
}

impl Seen {
    /// Whether nothing that a plan or health looks at differs.
    pub fn same_facts(&self, other: &Self) -> bool {
        self.uid == other.uid
            && self.generation == other.generation
            && self.ours == other.ours
            && self.label == other.label
            && self.operation == other.operation
            && self.deleting == other.deleting
            && self.health == other.health
    }
}

/// All live objects with our label, of the kinds that are watched.
#[derive(Default)]
pub struct Index {
    inner: RwLock<Inner>,
    bodies: Arc<Bodies>,
}

#[derive(Default)]
struct Inner {
    objects: HashMap<Key, Seen>,
    /// Kinds whose first list is complete, and in which namespaces; an empty one for all of the cluster.
    synced: HashMap<Gvk, HashSet<Box<str>>>,
}

impl Index {
    fn read<T>(&self, look: impl FnOnce(&Inner) -> T) -> T {
        match self.inner.read() {
            Ok(inner) => look(&inner),
            Err(poisoned) => look(&poisoned.into_inner()),
        }
    }

    fn write<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        match self.inner.write() {
            Ok(mut inner) => change(&mut inner),
            Err(poisoned) => change(&mut poisoned.into_inner()),
        }
    }

    /// The object, if a watch sees it.
    pub fn get(&self, key: &Key) -> Option<Seen> {
        self.read(|inner| inner.objects.get(key).cloned())
    }

    /// Whole objects of what is followed.
    pub fn bodies(&self) -> &Bodies {
        &self.bodies
    }

    /// Keeps these objects whole, as they come by, until what this returns is dropped.
    pub fn follow(&self, keys: Vec<Key>) -> Following {
        self.bodies.follow(keys)
    }

    /// The object as it is, where it is followed and nothing newer of it is known.
    pub fn whole(&self, gvk: &Gvk, key: &Key) -> Option<Value> {
        let seen = self.get(key).filter(|_| self.is_synced(gvk, &key.namespace))?;
        self.bodies.get(key, &seen.uid, seen.version)
    }

    /// Whether the first list of this kind in this namespace is complete, so that absence means absence.
    pub fn is_synced(&self, gvk: &Gvk, namespace: &str) -> bool {
        self.read(|inner| {
            inner.synced.get(gvk).is_some_and(|places| places.contains("") || places.contains(namespace))
        })
    }

    /// How many objects are known.
    pub fn len(&self) -> usize {
        self.read(|inner| inner.objects.len())
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts an object, unless something newer is known; returns what was known before.
    ///
    /// The answer to our own apply is newer than the watch's events, which come later and in order:
    /// taking them would show our own write as somebody's edit for a moment.
    pub fn put(&self, key: Key, seen: Seen) -> Option<Seen> {
        self.write(|inner| {
            match inner.objects.get(&key) {
                Some(known) if known.uid == seen.uid && known.version > seen.version => {
                    return Some(known.clone());
                }
                _ => {}
            }
            inner.objects.insert(key, seen)
        })
    }

    /// Puts what an apply answered, keeping the health that is known: the answer is metadata only.
    pub fn put_applied(&self, key: Key, mut seen: Seen) {
        self.write(|inner| {
            if let Some(known) = inner.objects.get(&key).filter(|known| known.uid == seen.uid) {
                if known.version >= seen.version {
                    return;
                }
                if known.generation == seen.generation {
                    seen.health = known.health.clone();
                }
            }
            inner.objects.insert(key, seen);
        });
    }

    /// Removes an object, unless another one has its name by now; returns what was known.
    pub fn remove(&self, key: &Key, uid: &str) -> Option<Seen> {
        self.write(|inner| {
            if inner.objects.get(key).is_some_and(|known| &*known.uid != uid) {
                return None;
            }
            inner.objects.remove(key)
        })
    }

    /// What is known of a kind in this namespace (of all where it is empty) counts no more, until a list is complete.
    /// Returns the objects and their labels; nothing where it did not count before.
    pub fn lose(&self, gvk: &Gvk, namespace: &str) -> Vec<(Box<str>, Key)> {
        self.write(|inner| {
            if !inner.synced.get_mut(gvk).is_some_and(|places| places.remove(namespace)) {
                return Vec::new();
            }
            let of_it = |key: &Key| {
                gvk.is(&key.group, &key.kind) && (namespace.is_empty() || key.namespace == namespace)
            };
            let lost = inner.objects.iter().filter(|(key, _)| of_it(key));
            lost.map(|(key, seen)| (seen.label.clone(), key.clone())).collect()
        })
    }

    /// A list of one kind in a namespace, or in all where that is empty, is complete: everything there that was not in
    /// it is gone. Returns that.
    pub fn complete(&self, gvk: &Gvk, namespace: &str, listed: &HashSet<Key>) -> Vec<(Key, Seen)> {
        self.write(|inner| {
            inner.synced.entry(gvk.clone()).or_default().insert(namespace.into());
            let is_there = |key: &Key| namespace.is_empty() || key.namespace == namespace;
            let gone: Vec<Key> = inner
                .objects
                .keys()
                .filter(|key| gvk.is(&key.group, &key.kind) && is_there(key) && !listed.contains(*key))
                .cloned()
                .collect();
            gone.into_iter().filter_map(|key| inner.objects.remove(&key).map(|seen| (key, seen))).collect()
        })
    }
}
