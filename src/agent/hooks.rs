//! Hooks: objects that a sync makes for a moment.
//!
//! A hook carries the sync that made it (annotation) and a finalizer, so that an agent that was killed finds what it
//! made and makes no second one, and no controller takes the result away before it is read. The order of writes
//! is: make; write down how it ended; let go. Nothing is let go that is not written down.

use serde_json::Value;

use super::Engine;
use super::engine::Pass;
use crate::api::{HOOK_FINALIZER, HookState, HookStatus, OPERATION, OperationStatus};
use crate::error::Result;
use crate::health::Status;
use crate::live::kube::{Check, Propagation, Resource};
use crate::model::{Gvk, Key};
use crate::plan::{Cleanup, Desired, Phase, Run, hook_name};

/// What came of the attempt to make a hook.
pub(super) enum Begun {
    /// It is made, by this pass or one before.
    Made(HookStatus),
    /// An older one of its name is in the way and was asked to go.
    InTheWay(String),
}

/// What a hook carries of its sync: the same hook may run in two phases.
fn mark(operation: &OperationStatus, phase: Phase) -> String {
    format!("{}.{phase}", operation.id)
}

/// The key of the object that a hook makes.
fn made_key(object: &Desired, phase: Phase, operation: &OperationStatus) -> (Key, bool) {
    let value: Value = serde_json::from_slice(&object.body).unwrap_or_default();
    if value.pointer("/metadata/name").is_some() {
        return (object.key.clone(), false);
    }
    let name = hook_name(&object.key.name, phase, &operation.id);
    (Key { name, ..object.key.clone() }, true)
}

pub(super) fn key_of(hook: &HookStatus) -> (Gvk, Key) {
    let gvk = Gvk::parse(&hook.api_version, &hook.kind);
    let name = if hook.generated_name.is_empty() { &hook.name } else { &hook.generated_name };
    let key = Key {
        group: gvk.group.clone(),
        kind: hook.kind.clone(),
        namespace: hook.namespace.clone(),
        name: name.clone(),
    };
    (gvk, key)
}

/// The record of a hook in this phase.
pub(super) fn record<'a>(
    operation: &'a OperationStatus,
    object: &Desired,
    phase: Phase,
) -> Option<&'a HookStatus> {
    operation.hooks.iter().find(|hook| hook.phase == phase.to_string() && is_of(hook, object))
}

/// Whether this is the record of a run of this object.
fn is_of(hook: &HookStatus, object: &Desired) -> bool {
    hook.kind == object.key.kind
        && hook.namespace == object.key.namespace
        && hook.name == object.key.name
        && hook.api_version == object.gvk.api_version()
}

/// How a hook stands by its record.
pub(super) fn run(operation: &OperationStatus, object: &Desired, phase: Phase) -> Run {
    match record(operation, object, phase) {
        None => Run::Pending,
        Some(hook) => match hook.state {
            HookState::Running => Run::Running(hook.message.clone()),
            HookState::Succeeded => Run::Succeeded,
            HookState::Failed => Run::Failed(hook.message.clone()),
        },
    }
}

impl Engine {
    /// Makes a hook, unless that was done.
    pub(super) async fn begin_hook(
        &self,
        pass: &Pass<'_>,
        object: &Desired,
        phase: Phase,
        operation: &OperationStatus,
    ) -> Result<Begun> {
        let (key, generated) = made_key(object, phase, operation);
        let fail = |error: crate::error::Error| error.on_object(&key);
        let new_kinds = pass.new_kinds.load(std::sync::atomic::Ordering::Relaxed);
        let resource = self.cluster.resource(&object.gvk, new_kinds).await.map_err(fail)?;
        self.watches.ensure(&object.gvk, &resource, &key.namespace).await.map_err(fail)?;
        let mark = mark(operation, phase);
        let made = |uid: String| {
            Begun::Made(HookStatus {
                phase: phase.to_string(),
                api_version: object.gvk.api_version(),
                kind: object.key.kind.clone(),
                namespace: object.key.namespace.clone(),
                name: object.key.name.clone(),
                generated_name: if generated { key.name.clone() } else { String::new() },
                uid,
                ..HookStatus::default()
            })
        };
        let body = marked(object, &key, &mark);
        let created = self.cluster.create(&resource, &key, body, Check::lax(object.options.lax)).await;
        let created = created.map_err(|error| super::engine::scrubbed(error, object))?;
        if let Some(lean) = created {
            let uid = lean.metadata.uid.clone().unwrap_or_default();
            self.saw(&object.gvk, &key, lean);
            return Ok(made(uid));
        }
        let Some(live) = self.cluster.look(&resource, &key).await? else {
            return Ok(Begun::InTheWay(format!("{key} to be gone")));
        };
        let uid = live.metadata.uid.clone().unwrap_or_default();
        if live.operation == mark {
            return Ok(made(uid));
        }
        if live.label != pass.label {
            let why =
                format!("an object of this name is there already and is no hook of this application: {key}");
            return Err(crate::error::Error::new(crate::error::Code::OwnedByAnother, why).on_object(&key));
        }
        self.let_go(&resource, &key, &uid, true).await?;
        let held = live.metadata.finalizers.unwrap_or_default();
        let held: Vec<&str> =
            held.iter().map(String::as_str).filter(|name| *name != HOOK_FINALIZER).collect();
        let held =
            if held.is_empty() { String::new() } else { format!(", which waits for {}", held.join(", ")) };
        Ok(Begun::InTheWay(format!("the {key} of an earlier sync to be gone{held}")))
    }

    /// Looks how hooks stand that have not ended.
    pub(super) fn observe_hooks(&self, operation: &mut OperationStatus) {
        for hook in operation.hooks.iter_mut().filter(|hook| hook.state == HookState::Running) {
            let (gvk, key) = key_of(hook);
            let seen = self.index.get(&key).filter(|seen| *seen.uid == *hook.uid);
            let (state, message) = match seen {
                Some(seen) => match seen.health.status {
                    Status::Healthy => (HookState::Succeeded, String::new()),
                    Status::Degraded => (HookState::Failed, seen.health.reason.to_string()),
                    _ => (HookState::Running, seen.health.reason.to_string()),
                },
                None if self.index.is_synced(&gvk, &key.namespace) => {
                    (HookState::Failed, "somebody deleted it before it ended".to_owned())
                }
                None => continue,
            };
            (hook.state, hook.message) = (state, message);
        }
    }

    /// Lets hooks go whose phase is over: deletes those whose policy says so. Only what `written`, the status in the
    /// cluster, knows the end of.
    pub(super) async fn release_hooks(
        &self,
        desired: &[Desired],
        operation: &mut OperationStatus,
        written: Option<&OperationStatus>,
        is_over: impl Fn(&str) -> bool,
    ) -> Result<bool> {
        let mut later = false;
        let known = written.filter(|written| written.id == operation.id);
        for at in 0..operation.hooks.len() {
            let hook = &operation.hooks[at];
            if hook.released || hook.state == HookState::Running || !is_over(&hook.phase) {
                continue;
            }
            let is_written = known.is_some_and(|known| {
                known.hooks.iter().any(|old| old.uid == hook.uid && old.state == hook.state)
            });
            if !is_written {
                later = true;
                continue;
            }
            let stated = desired.iter().filter(|object| is_of(hook, object));
            let cleanup = stated.filter_map(|object| object.hook.as_ref()).map(|hook| hook.cleanup).next();
            let deletes = cleanup.is_some_and(|cleanup| ends(cleanup, hook.state));
            let ((gvk, key), uid) = (key_of(hook), hook.uid.clone());
            let resource = self.cluster.resource(&gvk, false).await?;
            self.let_go(&resource, &key, &uid, deletes).await?;
            operation.hooks[at].released = true;
        }
        Ok(later)
    }

    /// Takes away what a superseded sync left running.
    pub(super) async fn abandon_hooks(&self, operation: &OperationStatus) -> Result<()> {
        for hook in operation.hooks.iter().filter(|hook| !hook.released) {
            let (gvk, key) = key_of(hook);
            let resource = match self.cluster.resource(&gvk, false).await {
                Ok(resource) => resource,
                Err(error) if error.code == crate::error::Code::KindUnknown => continue,
                Err(error) => return Err(error.on_object(&key)),
            };
            self.let_go(&resource, &key, &hook.uid, hook.state == HookState::Running).await?;
        }
        Ok(())
    }

    /// Takes our finalizer off, after the deletion where there is one: then it is gone at once.
    pub(super) async fn let_go(
        &self,
        resource: &Resource,
        key: &Key,
        uid: &str,
        deletes: bool,
    ) -> Result<()> {
        if deletes {
            self.cluster.delete(resource, key, uid, Propagation::Background).await?;
        }
        self.cluster.take_finalizer(resource, key, uid, HOOK_FINALIZER).await
    }
}

fn ends(cleanup: Cleanup, state: HookState) -> bool {
    match state {
        HookState::Succeeded => cleanup.succeeded,
        HookState::Failed => cleanup.failed,
        HookState::Running => false,
    }
}

/// The hook's object with its name, the sync's mark and the finalizer.
fn marked(object: &Desired, key: &Key, mark: &str) -> Vec<u8> {
    let mut value: Value = serde_json::from_slice(&object.body).unwrap_or_default();
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("generateName");
        metadata.insert("name".into(), key.name.clone().into());
        let annotations =
            metadata.entry("annotations").or_insert_with(|| Value::Object(serde_json::Map::new()));
        if let Some(annotations) = annotations.as_object_mut() {
            annotations.insert(OPERATION.into(), mark.into());
        }
        let finalizers = metadata.entry("finalizers").or_insert_with(|| Value::Array(Vec::new()));
        if let Some(finalizers) = finalizers.as_array_mut() {
            finalizers.push(HOOK_FINALIZER.into());
        }
    }
    value.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_carries_its_sync() {
        let body = br#"{"apiVersion":"batch/v1","kind":"Job","metadata":{"generateName":"migrate-","namespace":"n"}}"#;
        let key =
            Key { group: "batch".into(), kind: "Job".into(), namespace: "n".into(), name: "migrate-".into() };
        let object = Desired { body: body.to_vec(), key, ..Desired::default() };
        let operation = OperationStatus { id: "0a1b".into(), ..OperationStatus::default() };
        let (key, generated) = made_key(&object, Phase::PreSync, &operation);
        assert!(generated);
        let value: Value =
            serde_json::from_slice(&marked(&object, &key, &mark(&operation, Phase::PreSync))).unwrap();
        assert_eq!(value["metadata"]["name"], "migrate-presync-0a1b");
        assert_eq!(value["metadata"]["annotations"]["driftless.dev/operation"], "0a1b.PreSync");
        assert_eq!(value["metadata"]["finalizers"][0], "driftless.dev/hook");
        assert!(value["metadata"].get("generateName").is_none());
    }
}
