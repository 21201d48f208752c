//! What an object is in a sync: an ordinary object, a hook of a phase, or nothing that a sync touches.
//!
//! Argo CD's annotations mean what they mean there, Helm's are mapped as Argo CD maps them, and where an object has
//! both, Argo CD's count. Our own are read first.

use std::fmt;

use crate::model::Object;

const HOOKS: [&str; 3] = ["driftless.dev/hook", "argocd.argoproj.io/hook", "helm.sh/hook"];
const WAVES: [&str; 2] = ["driftless.dev/sync-wave", "argocd.argoproj.io/sync-wave"];
const WEIGHT: &str = "helm.sh/hook-weight";
const POLICIES: [&str; 3] = [
    "driftless.dev/hook-delete-policy",
    "argocd.argoproj.io/hook-delete-policy",
    "helm.sh/hook-delete-policy",
];

/// When an object is applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Before everything else.
    PreSync,
    /// With the ordinary objects.
    #[default]
    Sync,
    /// After them.
    PostSync,
    /// After a sync that failed.
    SyncFail,
    /// Before the objects of a deleted application go.
    PreDelete,
    /// After they have gone.
    PostDelete,
}

impl Phase {
    /// The phase of this name.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "PreSync" => Self::PreSync,
            "Sync" => Self::Sync,
            "PostSync" => Self::PostSync,
            "SyncFail" => Self::SyncFail,
            "PreDelete" => Self::PreDelete,
            "PostDelete" => Self::PostDelete,
            _ => return None,
        })
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// When a hook's object is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cleanup {
    /// Before it is made anew.
    pub before: bool,
    /// When it has succeeded and its phase is over.
    pub succeeded: bool,
    /// When it has failed and its phase is over.
    pub failed: bool,
}

/// A hook: an object that is made for a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// The moments; never empty, each once, in their order.
    pub phases: Vec<Phase>,
    /// What becomes of it.
    pub cleanup: Cleanup,
}

/// What an object is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Applied, kept and pruned as usual.
    Object,
    /// Made for these phases.
    Hook(Hook),
    /// Left alone: for other moments (a rollback, a test), switched off, or misspelt. The text is the annotation's.
    Elsewhere(String),
}

/// The role of an object by its annotations.
pub(super) fn role(object: &Object) -> Role {
    let Some((key, text)) = HOOKS.iter().find_map(|key| object.annotation(key).map(|text| (*key, text)))
    else {
        return Role::Object;
    };
    let words = || text.split(',').map(str::trim).filter(|word| !word.is_empty());
    // The CRDs of Helm 2 are ordinary objects today.
    if words().next().is_none() || words().all(|word| word == "crd-install") {
        return Role::Object;
    }
    if words().any(|word| word == "Skip") {
        return Role::Elsewhere(text.to_owned());
    }
    let mut phases: Vec<Phase> = words().filter_map(|word| phase(key, word)).collect();
    phases.sort_unstable();
    phases.dedup();
    if phases.is_empty() {
        return Role::Elsewhere(text.to_owned());
    }
    Role::Hook(Hook { phases, cleanup: cleanup(object) })
}

/// What is stated first counts; what nobody understands is the default, deletion before it is made anew.
fn cleanup(object: &Object) -> Cleanup {
    let text = POLICIES.iter().find_map(|key| object.annotation(key)).unwrap_or_default();
    let says = |argo: &str, helm: &str| text.split(',').any(|word| [argo, helm].contains(&word.trim()));
    let mut cleanup = Cleanup {
        before: says("BeforeHookCreation", "before-hook-creation"),
        succeeded: says("HookSucceeded", "hook-succeeded"),
        failed: says("HookFailed", "hook-failed"),
    };
    cleanup.before |= !cleanup.succeeded && !cleanup.failed;
    cleanup
}

fn phase(key: &str, word: &str) -> Option<Phase> {
    if key != "helm.sh/hook" {
        return Phase::parse(word);
    }
    // `helm template` and with it a sync is install and upgrade in one.
    Some(match word {
        "pre-install" | "pre-upgrade" => Phase::PreSync,
        "post-install" | "post-upgrade" => Phase::PostSync,
        "pre-delete" => Phase::PreDelete,
        "post-delete" => Phase::PostDelete,
        _ => return None,
    })
}

/// The wave within the phase: 0 where nothing is said or what is said is no number. Helm's weight counts for Helm's
/// hooks only.
pub(super) fn wave(object: &Object) -> i64 {
    let stated = WAVES.iter().find_map(|key| object.annotation(key));
    let weight = || object.annotation("helm.sh/hook").and_then(|_| object.annotation(WEIGHT));
    stated.or_else(weight).and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::Origin;

    fn check(annotations: &[(&str, &str)], expected: &str) {
        let annotations: serde_json::Map<_, _> =
            annotations.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        let value = json!({"apiVersion": "batch/v1", "kind": "Job",
            "metadata": {"name": "j", "annotations": annotations}});
        let object = Object::new(value, Origin::default()).unwrap();
        let found = match role(&object) {
            Role::Object => format!("object {}", wave(&object)),
            Role::Hook(hook) => format!("{:?} {}", hook.phases, wave(&object)),
            Role::Elsewhere(text) => format!("elsewhere {text}"),
        };
        assert_eq!(found, expected, "{annotations:?}");
    }

    #[test]
    fn annotations_say_when_an_object_is_applied() {
        let (argo, helm) = ("argocd.argoproj.io/hook", "helm.sh/hook");
        let wave = "argocd.argoproj.io/sync-wave";
        check(&[], "object 0");
        check(&[(wave, "-3")], "object -3");
        check(&[(wave, "x")], "object 0");
        check(&[(wave, "1"), ("driftless.dev/sync-wave", "2")], "object 2");
        check(&[(argo, "PreSync")], "[PreSync] 0");
        check(&[(argo, "PostSync, PreSync,PreSync")], "[PreSync, PostSync] 0");
        check(&[(argo, "Sync"), (helm, "pre-install")], "[Sync] 0");
        check(&[(argo, "Skip")], "elsewhere Skip");
        check(&[(argo, "PreSync,Skip")], "elsewhere PreSync,Skip");
        check(&[(argo, "presync")], "elsewhere presync");
        check(&[(argo, "SyncFail")], "[SyncFail] 0");
        check(&[(argo, "PreDelete,PostDelete")], "[PreDelete, PostDelete] 0");
        check(&[(argo, "")], "object 0");
        check(&[(helm, "pre-install,pre-upgrade"), (WEIGHT, "-5")], "[PreSync] -5");
        check(&[(helm, "post-upgrade"), (WEIGHT, "7"), (wave, "2")], "[PostSync] 2");
        check(&[(helm, "crd-install")], "object 0");
        check(&[(helm, "test")], "elsewhere test");
        check(&[(helm, "pre-delete,post-delete")], "[PreDelete, PostDelete] 0");
        check(&[(helm, "post-delete,post-install")], "[PostSync, PostDelete] 0");
        check(&[(helm, "pre-rollback")], "elsewhere pre-rollback");
        check(&[(WEIGHT, "7")], "object 0");
        check(&[("driftless.dev/hook", "PostSync"), (argo, "PreSync")], "[PostSync] 0");
    }

    #[test]
    fn policies_say_what_becomes_of_a_hook() {
        let argo = "argocd.argoproj.io/hook-delete-policy";
        for (key, text, expected) in [
            (argo, "", (true, false, false)),
            (argo, "HookSucceeded", (false, true, false)),
            (argo, "HookSucceeded, HookFailed", (false, true, true)),
            (argo, "BeforeHookCreation,HookFailed", (true, false, true)),
            (argo, "nonsense", (true, false, false)),
            ("helm.sh/hook-delete-policy", "before-hook-creation,hook-succeeded", (true, true, false)),
        ] {
            let value = json!({"apiVersion": "batch/v1", "kind": "Job",
                "metadata": {"name": "j", "annotations": {key: text}}});
            let found = cleanup(&Object::new(value, Origin::default()).unwrap());
            assert_eq!((found.before, found.succeeded, found.failed), expected, "{text}");
        }
    }
}
