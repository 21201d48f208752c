//! Whose rules of health an object is judged by.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use crate::health::{self, Health, Rules};
use crate::model::Gvk;
use serde_json::Value;

/// Rules of applications, by the value of their tracking label, and those of all others.
#[derive(Default)]
pub struct Judges {
    inner: RwLock<Inner>,
}

#[derive(Default)]
struct Inner {
    common: Option<Arc<Rules>>,
    own: HashMap<Box<str>, Arc<Rules>>,
}

impl Judges {
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

    /// Judges an object of the application with this label: its own rules, those of all, what is known of the kind.
    pub fn assess(&self, label: &str, gvk: &Gvk, object: &Value) -> Health {
        let (own, common) = self.read(|inner| (inner.own.get(label).cloned(), inner.common.clone()));
        let mut layers = [own, common].into_iter().flatten();
        layers.find_map(|rules| rules.judge(gvk, object)).unwrap_or_else(|| health::assess(gvk, object))
    }

    /// Whether somebody has a rule of this kind.
    pub fn covers(&self, gvk: &Gvk) -> bool {
        self.read(|inner| inner.own.values().chain(&inner.common).any(|rules| rules.covers(gvk)))
    }

    /// Sets the rules of one application, or with an empty label those of all; returns what they were.
    pub(super) fn set(&self, label: &str, rules: Option<Arc<Rules>>) -> Option<Arc<Rules>> {
        self.write(|inner| match (label, rules) {
            ("", rules) => std::mem::replace(&mut inner.common, rules),
            (label, Some(rules)) => inner.own.insert(label.into(), rules),
            (label, None) => inner.own.remove(label),
        })
    }
}
