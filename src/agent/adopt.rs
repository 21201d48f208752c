//! Adoption: an object that Argo CD, Flux, Helm or kubectl made becomes ours as it stands.
//!
//! 1. The first apply takes the values over, by force. Its answer says whether a tool owned the object before; only then
//!    anything more is asked.
//! 2. The tool's entries of managedFields are folded into ours, and its marks are taken off.
//! 3. One more apply takes away what only the tool wanted. What the server does not let go, because the field cannot be
//!    changed, stays and is nobody's.
//!
//! An agent that is killed in between finds the object outside of its inventory, and begins again.

use serde_json::Value;

use super::Engine;
use super::engine::{Pass, scrubbed};
use crate::api::FIELD_MANAGER;
use crate::diff::{Adoption, RESET, Step, adopt, relinquish};
use crate::error::{Code, Error, Result};
use crate::live::kube::{Applied, Check, Force, Lean, Resource};
use crate::plan::{Desired, Why};

/// Writes of others between a read and our write, until the next pass tries again.
const ATTEMPTS: usize = 4;

/// What tells a tool that an object is its own, or what it applied last.
const ANNOTATIONS: [&str; 5] = [
    "argocd.argoproj.io/tracking-id",
    "argocd.argoproj.io/installation-id",
    "kubectl.kubernetes.io/last-applied-configuration",
    "meta.helm.sh/release-name",
    "meta.helm.sh/release-namespace",
];
const LABELS: [&str; 4] = [
    "kustomize.toolkit.fluxcd.io/name",
    "kustomize.toolkit.fluxcd.io/namespace",
    "helm.toolkit.fluxcd.io/name",
    "helm.toolkit.fluxcd.io/namespace",
];

/// The marks that an object has and Git does not state, as pointers.
fn marks(metadata: &Value, body: &Value) -> Vec<String> {
    let of = |part: &str, names: &[&str]| {
        let found = names
            .iter()
            .filter(|name| metadata[part].get(name).is_some() && body["metadata"][part].get(name).is_none());
        found.map(|name| format!("/metadata/{part}/{}", name.replace('/', "~1"))).collect::<Vec<_>>()
    };
    [of("annotations", &ANNOTATIONS), of("labels", &LABELS)].concat()
}

/// Whose an object is, by its marks or by who wrote it, for people.
fn holder(metadata: &Value) -> String {
    let text = |part: &str, name: &str| metadata[part][name].as_str().unwrap_or_default();
    if let Some((app, _)) = text("annotations", ANNOTATIONS[0]).split_once(':') {
        return format!("Argo CD's Application {app}");
    }
    for (kind, prefix) in [("Kustomization", "kustomize"), ("HelmRelease", "helm")] {
        let label = |part: &str| text("labels", &format!("{prefix}.toolkit.fluxcd.io/{part}"));
        if !label("name").is_empty() {
            return format!("Flux's {kind} {}/{}", label("namespace"), label("name"));
        }
    }
    let release = |part: &str| text("annotations", &format!("meta.helm.sh/release-{part}"));
    if !release("name").is_empty() {
        return format!("Helm's release {}/{}", release("namespace"), release("name"));
    }
    let mut entries = metadata["managedFields"].as_array().into_iter().flatten();
    let name = |entry: &Value| entry["manager"].as_str().map(str::to_owned);
    entries.find_map(name).map_or_else(|| "somebody".to_owned(), |manager| format!("{manager:?}"))
}

impl Engine {
    /// Refuses an object that is there already and belongs to no Application, where it is not to be taken over.
    pub(super) async fn refuse_stranger(
        &self,
        pass: &Pass<'_>,
        object: &Desired,
        resource: &Resource,
    ) -> Result<()> {
        if object.options.adopt.unwrap_or(pass.policy.adopt) {
            return Ok(());
        }
        let Some(metadata) = self.cluster.metadata(resource, &object.key).await? else { return Ok(()) };
        if metadata["labels"].get(crate::api::LABEL).is_some() {
            return Ok(());
        }
        let why = format!("it is there already, made by {}, and spec.sync.adopt is false", holder(&metadata));
        let hint =
            "set spec.sync.adopt or annotate the object in Git with driftless.dev/sync-options: Adopt=true";
        Err(Error::new(Code::OwnedByAnother, why).hint(hint).on_object(&object.key))
    }

    /// Takes an object over that was just applied for the first time. `None` where there is nothing to take.
    pub(super) async fn adopt(
        &self,
        object: &Desired,
        resource: &Resource,
        why: Why,
        applied: &Lean,
    ) -> Result<Option<Lean>> {
        // After that, what a tool brings is an edit: Git does not state it, so it is not ours. But nobody means the
        // owner that stands for lost managedFields.
        let is_first = matches!(why, Why::New | Why::Recreated);
        if !(is_first && applied.former || applied.reset) {
            return Ok(None);
        }
        let body: Value = serde_json::from_slice(&object.body).unwrap_or_default();
        let mut spared = object.spared.as_deref().cloned().unwrap_or_default();
        // Whatever scales it decides, where Git does not.
        if body.pointer("/spec/replicas").is_none() {
            spared.paths.push(["spec", "replicas"].map(|name| Step::Field(name.to_owned())).to_vec());
        }
        let takes = |manager: &str| is_first || manager == RESET;
        for _ in 0..ATTEMPTS {
            let Some(metadata) = self.cluster.metadata(resource, &object.key).await? else {
                return Err(moved(object));
            };
            let entries = metadata["managedFields"].as_array().cloned().unwrap_or_default();
            let marks = if is_first { marks(&metadata, &body) } else { Vec::new() };
            let folded = adopt(&entries, FIELD_MANAGER, &spared, takes);
            if folded.is_none() && marks.is_empty() {
                return Ok(None);
            }
            let Adoption { managed_fields, sheds } =
                folded.unwrap_or(Adoption { managed_fields: entries, sheds: false });
            let version = metadata["resourceVersion"].as_str().unwrap_or_default();
            let reassigned =
                self.cluster.reassign(resource, &object.key, version, managed_fields, &marks).await?;
            return match reassigned {
                None => continue,
                Some(lean) if !sheds => Ok(Some(lean)),
                Some(_) => match self.apply_once(object, resource).await {
                    Err(error) if is_refusal(error.code) => {
                        self.let_fields_go(object, resource).await?;
                        self.apply_once(object, resource).await.map(Some)
                    }
                    applied => applied.map(Some),
                },
            };
        }
        Err(moved(object))
    }

    async fn apply_once(&self, object: &Desired, resource: &Resource) -> Result<Lean> {
        let check = Check::lax(object.options.lax);
        match self.cluster.apply(resource, &object.key, object.body.clone(), Force::Yes, check).await {
            Ok(Applied::Done(lean)) => Ok(*lean),
            Ok(Applied::Conflict(_)) => Err(moved(object)),
            Err(error) => Err(scrubbed(error, object)),
        }
    }

    /// Gives up fields that we own and do not state, because the server does not let them go. `false` where there are
    /// none.
    pub(super) async fn let_fields_go(&self, object: &Desired, resource: &Resource) -> Result<bool> {
        let body: Value = serde_json::from_slice(&object.body).unwrap_or_default();
        for _ in 0..ATTEMPTS {
            let Some(metadata) = self.cluster.metadata(resource, &object.key).await? else {
                return Ok(false);
            };
            let entries = metadata["managedFields"].as_array().cloned().unwrap_or_default();
            let Some(entries) = relinquish(&entries, FIELD_MANAGER, &body) else { return Ok(false) };
            let version = metadata["resourceVersion"].as_str().unwrap_or_default();
            if self.cluster.reassign(resource, &object.key, version, entries, &[]).await?.is_some() {
                return Ok(true);
            }
        }
        Err(moved(object))
    }
}

/// What the server says of a change that it will never take.
pub(super) fn is_refusal(code: Code) -> bool {
    matches!(code, Code::FieldImmutable | Code::ObjectRejected | Code::AdmissionDenied)
}

fn moved(object: &Desired) -> Error {
    let why = "it was changed again and again while it was taken over";
    Error::new(Code::ConflictRefused, why).on_object(&object.key)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn marks_go_unless_git_states_them() {
        let metadata = json!({"annotations": {"argocd.argoproj.io/tracking-id": "a:apps/Deployment:n/d", "team": "ml"},
            "labels": {"kustomize.toolkit.fluxcd.io/name": "apps", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"}});
        let body = json!({"metadata": {"labels": {"kustomize.toolkit.fluxcd.io/name": "apps"}}});
        assert_eq!(
            marks(&metadata, &body),
            [
                "/metadata/annotations/argocd.argoproj.io~1tracking-id",
                "/metadata/labels/kustomize.toolkit.fluxcd.io~1namespace"
            ]
        );
    }

    #[test]
    fn the_holder_is_named() {
        let check = |metadata: Value, expected: &str| assert_eq!(holder(&metadata), expected);
        let argo = json!({"annotations": {"argocd.argoproj.io/tracking-id": "fraud:apps/Deployment:n/d"}});
        check(argo, "Argo CD's Application fraud");
        let flux = json!({"labels": {"kustomize.toolkit.fluxcd.io/name": "apps", "kustomize.toolkit.fluxcd.io/namespace": "f"}});
        check(flux, "Flux's Kustomization f/apps");
        let helm =
            json!({"annotations": {"meta.helm.sh/release-name": "r", "meta.helm.sh/release-namespace": "n"}});
        check(helm, "Helm's release n/r");
        check(json!({"managedFields": [{"manager": "terraform"}]}), "\"terraform\"");
        check(json!({}), "somebody");
    }
}
