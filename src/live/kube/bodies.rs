//! Whole objects, kept while somebody follows them.
//!
//! A rollout looks at all of its objects in every pass. What the watch has brought since its last look need not be asked
//! for again: nine looks at three objects were 27 requests, and 2 kB for each object are kept instead.

use std::collections::HashMap;
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

use serde_json::{Value, json};

use crate::live::kube::Lean;
use crate::live::kube::lean::Form;
use crate::model::{Gvk, Key};

/// An object as the API server said it, without its managedFields.
struct Body {
    uid: Box<str>,
    version: u64,
    text: Box<str>,
}

/// The bodies of all that is followed.
#[derive(Default)]
pub struct Bodies {
    all: RwLock<HashMap<Key, Option<Body>>>,
}

/// Objects that are followed until this is dropped.
pub struct Following {
    bodies: Arc<Bodies>,
    keys: Vec<Key>,
}

impl Drop for Following {
    fn drop(&mut self) {
        let mut all = self.bodies.write();
        for key in &self.keys {
            all.remove(key);
        }
    }
}

impl Bodies {
    fn read(&self) -> RwLockReadGuard<'_, HashMap<Key, Option<Body>>> {
        self.all.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<Key, Option<Body>>> {
        self.all.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(super) fn follow(self: &Arc<Self>, keys: Vec<Key>) -> Following {
        let mut all = self.write();
        for key in &keys {
            all.entry(key.clone()).or_default();
        }
        Following { bodies: self.clone(), keys }
    }

    fn is_followed(&self, key: &Key) -> bool {
        self.read().contains_key(key)
    }

    /// Keeps what a watch brought, or forgets what was there where it brings metadata only; whether somebody follows it.
    pub(super) fn keep_lean<F: Form>(&self, gvk: &Gvk, key: &Key, lean: &Lean<F>) -> bool {
        if !self.is_followed(key) {
            return false;
        }
        let part = |raw: &Option<Box<serde_json::value::RawValue>>| {
            raw.as_ref().and_then(|raw| serde_json::from_str::<Value>(raw.get()).ok())
        };
        let spec = part(&lean.spec);
        let body = spec.map(|spec| {
            let mut whole = json!({
                "apiVersion": gvk.api_version(), "kind": gvk.kind, "metadata": lean.metadata, "spec": spec,
            });
            if let Some(status) = part(&lean.status) {
                whole["status"] = status;
            }
            whole
        });
        self.put(key, body);
        true
    }

    /// Keeps what was asked for.
    pub fn keep(&self, key: &Key, whole: &Value) {
        if !self.is_followed(key) {
            return;
        }
        let mut whole = whole.clone();
        if let Some(metadata) = whole["metadata"].as_object_mut() {
            metadata.remove("managedFields");
        }
        self.put(key, Some(whole));
    }

    fn put(&self, key: &Key, whole: Option<Value>) {
        let body = whole.map(|whole| {
            let text = |field: &str| whole["metadata"][field].as_str().unwrap_or_default();
            Body {
                uid: text("uid").into(),
                version: text("resourceVersion").parse().unwrap_or_default(),
                text: whole.to_string().into(),
            }
        });
        let mut all = self.write();
        let Some(place) = all.get_mut(key) else { return };
        let is_older = |body: &Body| {
            place.as_ref().is_some_and(|known| known.uid == body.uid && known.version > body.version)
        };
        if !body.as_ref().is_some_and(is_older) {
            *place = body;
        }
    }

    /// What is kept of an object counts no more.
    pub fn forget(&self, key: &Key) {
        if let Some(place) = self.write().get_mut(key) {
            *place = None;
        }
    }

    /// The same for a kind whose watch was interrupted.
    pub(super) fn forget_kind(&self, gvk: &Gvk) {
        let mut all = self.write();
        all.iter_mut().filter(|(key, _)| gvk.is(&key.group, &key.kind)).for_each(|(_, body)| *body = None);
    }

    /// The object with this uid, as it was in this version or later.
    pub(super) fn get(&self, key: &Key, uid: &str, version: u64) -> Option<Value> {
        let all = self.read();
        let body = all.get(key)?.as_ref()?;
        let is_it = version > 0 && &*body.uid == uid && body.version >= version;
        is_it.then(|| serde_json::from_str(&body.text).ok()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment(version: u64) -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "fraud", "namespace": "ml", "uid": "a", "resourceVersion": version.to_string(),
                "labels": {"app": "fraud"}, "annotations": {"b": "c"}, "generation": 2},
            "spec": {"replicas": version}, "status": {"replicas": 1},
        })
    }

    fn key() -> Key {
        Key { group: "apps".into(), kind: "Deployment".into(), namespace: "ml".into(), name: "fraud".into() }
    }

    #[test]
    fn only_what_is_followed_is_kept_and_never_older_than_what_is_known() {
        let (bodies, key, gvk) = (Arc::new(Bodies::default()), key(), Gvk::parse("apps/v1", "Deployment"));
        bodies.keep(&key, &deployment(5));
        assert!(bodies.get(&key, "a", 5).is_none(), "nobody follows it");

        let following = bodies.follow(vec![key.clone()]);
        let mut stated = deployment(5);
        stated["metadata"]["managedFields"] = json!([{"manager": "driftless"}]);
        bodies.keep(&key, &stated);
        assert_eq!(bodies.get(&key, "a", 5), Some(deployment(5)));
        assert!(bodies.get(&key, "a", 6).is_none(), "a newer one is known");
        assert!(bodies.get(&key, "b", 5).is_none(), "another one has its name");
        assert!(bodies.get(&key, "a", 0).is_none(), "a version that is no number");

        // As the watch brings it, it is the same.
        let lean: Lean = serde_json::from_value(deployment(6)).unwrap();
        bodies.keep_lean(&gvk, &key, &lean);
        assert_eq!(bodies.get(&key, "a", 6), Some(deployment(6)));
        bodies.keep(&key, &deployment(5));
        assert_eq!(bodies.get(&key, "a", 5), Some(deployment(6)), "an answer that came late");

        bodies.forget_kind(&Gvk::parse("v1", "Service"));
        assert!(bodies.get(&key, "a", 6).is_some());
        bodies.forget_kind(&gvk);
        assert!(bodies.get(&key, "a", 6).is_none());

        bodies.keep(&key, &deployment(7));
        let metadata: Lean = serde_json::from_value(json!({"metadata": {"name": "fraud"}})).unwrap();
        bodies.keep_lean(&gvk, &key, &metadata);
        assert!(bodies.get(&key, "a", 7).is_none(), "metadata alone is no body");

        drop(following);
        assert!(bodies.all.read().unwrap().is_empty());
    }
}
