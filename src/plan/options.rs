//! How one object wants to be treated, by its annotations.
//!
//! Argo CD's `sync-options` and `compare-options` and Flux's `ssa`, `prune`, `reconcile` and `force` mean what they
//! mean there; ours are `driftless.dev/sync-options`, with Argo CD's words, `CreateOnly` and `Adopt`. The object's own word
//! stands over the application's.

use crate::model::{Gvk, Object};

const OPTIONS: [&str; 2] = ["driftless.dev/sync-options", "argocd.argoproj.io/sync-options"];
const COMPARE: [&str; 2] = ["driftless.dev/compare-options", "argocd.argoproj.io/compare-options"];
const FLUX: &str = "kustomize.toolkit.fluxcd.io/";

/// Whether an object may be deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Consent {
    /// Nothing is said: it may, unless its kind is protected.
    #[default]
    Unsaid,
    /// It may.
    Given,
    /// Only when somebody confirms it.
    Asked,
    /// Never.
    Refused,
}

/// The options of an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent words, as users know them")]
pub struct ObjectOptions {
    /// Deletion when it leaves Git (`Prune=false|confirm`).
    pub prune: Consent,
    /// Deletion with the application (`Delete=false|confirm`, Helm's `resource-policy: keep`).
    pub delete: Consent,
    /// It is replaced as a whole, not merged (`Replace=true`).
    pub replace: bool,
    /// It is deleted and made again where a field cannot be changed (`Force=true`).
    pub force: bool,
    /// Fields that the API server does not know are no error (`Validate=false`).
    pub lax: bool,
    /// It is deleted after everything else is healthy (`PruneLast=true`).
    pub prune_last: bool,
    /// It is made once and never changed afterwards (`CreateOnly=true`, Flux's `IfNotPresent`).
    pub create_only: bool,
    /// Whether it is taken over where it is there already (`Adopt=true|false`); the application's word where `None`.
    pub adopt: Option<bool>,
    /// It makes no difference while it is there and not in Git (`IgnoreExtraneous`).
    pub extraneous: bool,
    /// It is left alone altogether (Flux's `ssa: Ignore` and `reconcile: disabled`).
    pub ignored: bool,
}

impl Consent {
    /// As an inventory writes it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unsaid => "",
            Self::Given => "true",
            Self::Asked => "confirm",
            Self::Refused => "false",
        }
    }

    /// Reads [`Consent::word`]; what nobody knows is a refusal.
    pub fn parse(word: &str) -> Self {
        match word {
            "" => Self::Unsaid,
            "true" => Self::Given,
            "confirm" => Self::Asked,
            _ => Self::Refused,
        }
    }
}

impl ObjectOptions {
    /// Reads the annotations.
    pub fn of(object: &Object) -> Self {
        let mut options = Self::read(object.gvk(), |name| object.annotation(name));
        // An Application that leaves its objects alone takes nothing with it.
        let orphans = object.gvk().is(crate::model::GROUP, "Application")
            && object.value()["spec"]["deletion"] != "Cascade";
        if orphans && options.prune == Consent::Unsaid {
            options.prune = Consent::Given;
        }
        if object.gvk().is(crate::model::GROUP, "RolloutPolicy") {
            // Nothing is lost with it. What stands beside its target goes too, and serves until the target does.
            options.prune_last = true;
            if options.prune == Consent::Unsaid {
                options.prune = Consent::Given;
            }
        }
        options
    }

    /// As [`ObjectOptions::of`], for annotations that are at hand without their object.
    pub fn read<'a>(gvk: &Gvk, annotation: impl Fn(&str) -> Option<&'a str>) -> Self {
        let mut options = Self::default();
        // Ours last, so that they win.
        for name in OPTIONS.iter().rev() {
            for word in annotation(name).unwrap_or_default().split(',') {
                let Some((option, value)) = word.trim().split_once('=') else { continue };
                options.set(option.trim(), value.trim());
            }
        }
        // The words beside it say how Argo CD compares, which is always on the server here.
        options.extraneous = COMPARE
            .iter()
            .filter_map(|name| annotation(name))
            .any(|words| words.split(',').any(|word| word.trim() == "IgnoreExtraneous"));
        let flux = |name: &str| annotation(&format!("{FLUX}{name}")).unwrap_or_default().to_lowercase();
        match flux("ssa").as_str() {
            "ifnotpresent" => options.create_only = true,
            "ignore" => options.ignored = true,
            _ => {}
        }
        options.ignored |= flux("reconcile") == "disabled";
        options.force |= flux("force") == "enabled";
        if flux("prune") == "disabled" {
            options.prune = Consent::Refused;
        }
        if annotation("helm.sh/resource-policy") == Some("keep") {
            (options.prune, options.delete) = (Consent::Refused, Consent::Refused);
        }
        // All objects of the kind would go with it, those of other applications too.
        let is_crd = gvk.is("apiextensions.k8s.io", "CustomResourceDefinition");
        if is_crd && options.delete == Consent::Unsaid {
            options.delete = Consent::Refused;
        }
        options
    }

    fn set(&mut self, option: &str, value: &str) {
        let yes = value.eq_ignore_ascii_case("true");
        let consent = match value.to_lowercase().as_str() {
            "false" => Consent::Refused,
            "confirm" => Consent::Asked,
            "true" => Consent::Given,
            _ => Consent::Unsaid,
        };
        match option {
            "Prune" => self.prune = consent,
            "Delete" => self.delete = consent,
            "Replace" => self.replace = yes,
            "Force" => self.force = yes,
            "Validate" => self.lax = consent == Consent::Refused,
            "PruneLast" => self.prune_last = yes,
            "CreateOnly" => self.create_only = yes,
            "Adopt" => {
                self.adopt = match consent {
                    Consent::Given => Some(true),
                    Consent::Refused => Some(false),
                    _ => None,
                }
            }
            // ServerSideApply, SkipDryRunOnMissingResource, ApplyOutOfSyncOnly, RespectIgnoreDifferences and
            // FailOnSharedResource say what is done here in any case.
            _ => {}
        }
    }
}

/// Kinds whose loss is the loss of data, of what others need or of traffic: a prune of them needs a word.
pub(super) fn is_protected(gvk: &Gvk) -> bool {
    matches!(
        (gvk.group.as_str(), gvk.kind.as_str()),
        ("", "PersistentVolumeClaim" | "PersistentVolume" | "Namespace")
            | ("apps", "StatefulSet")
            | ("apiextensions.k8s.io", "CustomResourceDefinition")
            | ("serving.kserve.io", "InferenceService" | "InferenceGraph" | "LLMInferenceService")
            | (crate::model::GROUP, _)
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::Origin;

    fn options(kind: &str, annotations: &[(&str, &str)]) -> ObjectOptions {
        let annotations: serde_json::Map<_, _> =
            annotations.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        let version = if kind == "CustomResourceDefinition" { "apiextensions.k8s.io/v1" } else { "v1" };
        let value = json!({"apiVersion": version, "kind": kind, "metadata": {"name": "x", "annotations": annotations}});
        ObjectOptions::of(&Object::new(value, Origin::default()).unwrap())
    }

    #[test]
    fn annotations_of_all_three_houses_are_read() {
        let argo = "argocd.argoproj.io/sync-options";
        let none = ObjectOptions::default();
        for (annotations, expected) in [
            (vec![], none),
            (vec![(argo, "Prune=false")], ObjectOptions { prune: Consent::Refused, ..none }),
            (
                vec![(argo, "Prune=confirm, Delete=confirm")],
                ObjectOptions { prune: Consent::Asked, delete: Consent::Asked, ..none },
            ),
            (
                vec![(argo, "Replace=true,Force=true,Validate=false,PruneLast=true")],
                ObjectOptions { replace: true, force: true, lax: true, prune_last: true, ..none },
            ),
            (vec![(argo, "ServerSideApply=true,Nonsense=true,x")], none),
            (
                vec![(argo, "Prune=false"), ("driftless.dev/sync-options", "Prune=true,CreateOnly=true")],
                ObjectOptions { prune: Consent::Given, create_only: true, ..none },
            ),
            (
                vec![(argo, "Adopt=true"), ("driftless.dev/sync-options", "Adopt=false")],
                ObjectOptions { adopt: Some(false), ..none },
            ),
            (
                vec![("argocd.argoproj.io/compare-options", "ServerSideDiff=true, IgnoreExtraneous")],
                ObjectOptions { extraneous: true, ..none },
            ),
            (vec![("argocd.argoproj.io/compare-options", "IncludeMutationWebhook=true")], none),
            (
                vec![("kustomize.toolkit.fluxcd.io/ssa", "IfNotPresent")],
                ObjectOptions { create_only: true, ..none },
            ),
            (
                vec![("kustomize.toolkit.fluxcd.io/reconcile", "Disabled")],
                ObjectOptions { ignored: true, ..none },
            ),
            (
                vec![("kustomize.toolkit.fluxcd.io/prune", "disabled")],
                ObjectOptions { prune: Consent::Refused, ..none },
            ),
            (
                vec![("helm.sh/resource-policy", "keep")],
                ObjectOptions { prune: Consent::Refused, delete: Consent::Refused, ..none },
            ),
        ] {
            assert_eq!(options("ConfigMap", &annotations), expected, "{annotations:?}");
        }
        assert_eq!(options("CustomResourceDefinition", &[]).delete, Consent::Refused);
    }
}
