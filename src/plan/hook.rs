//! What an object is in a sync: an ordinary object, a hook of a phase, or nothing that a sync touches.
//!
//! Argo CD's annotations mean what they mean there, Helm's are mapped as Argo CD maps them, and where an object has
//! both, Argo CD's count. Our own are read first.

use crate::model::Object;

const HOOKS: [&str; 3] = ["driftless.dev/hook", "argocd.argoproj.io/hook", "helm.sh/hook"];
const WAVES: [&str; 2] = ["driftless.dev/sync-wave", "argocd.argoproj.io/sync-wave"];
const WEIGHT: &str = "helm.sh/hook-weight";

/// When in a sync an object is applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Before everything else.
    PreSync,
    /// With the ordinary objects.
    #[default]
    Sync,
    /// After them.
    PostSync,
}

/// What an object is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Applied, kept and pruned as usual.
    Object,
    /// Applied in these phases; never empty, each once, in their order.
    Hook(Vec<Phase>),
    /// Left out of a sync: for other moments (a failed sync, a deletion, a rollback, a test), switched off, or
    /// misspelt. The text is the annotation's.
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
    if phases.is_empty() { Role::Elsewhere(text.to_owned()) } else { Role::Hook(phases) }
}

fn phase(key: &str, word: &str) -> Option<Phase> {
    // `helm template` and with it a sync is install and upgrade in one.
    Some(match (key == "helm.sh/hook", word) {
        (false, "PreSync") | (true, "pre-install" | "pre-upgrade") => Phase::PreSync,
        (false, "Sync") => Phase::Sync,
        (false, "PostSync") | (true, "post-install" | "post-upgrade") => Phase::PostSync,
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
            Role::Hook(phases) => format!("{phases:?} {}", wave(&object)),
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
        check(&[(argo, "SyncFail")], "elsewhere SyncFail");
        check(&[(argo, "")], "object 0");
        check(&[(helm, "pre-install,pre-upgrade"), (WEIGHT, "-5")], "[PreSync] -5");
        check(&[(helm, "post-upgrade"), (WEIGHT, "7"), (wave, "2")], "[PostSync] 2");
        check(&[(helm, "crd-install")], "object 0");
        check(&[(helm, "test")], "elsewhere test");
        check(&[(helm, "pre-delete,post-delete")], "elsewhere pre-delete,post-delete");
        check(&[(helm, "post-delete,post-install")], "[PostSync] 0");
        check(&[(WEIGHT, "7")], "object 0");
        check(&[("driftless.dev/hook", "PostSync"), (argo, "PreSync")], "[PostSync] 0");
    }
}
