//! Policies of the cluster.

use kube::api::ListParams;
use kube::{Api, ResourceExt};

use crate::api::RolloutPolicy;
use crate::cli::Global;
use crate::error::{Code, Error, Result};
use crate::live::kube::{Cluster, translate};

/// One policy, and where it is.
pub(super) struct Found {
    pub(super) api: Api<RolloutPolicy>,
    pub(super) policy: RolloutPolicy,
}

fn failed(error: &kube::Error) -> Error {
    let translated = translate(error);
    if translated.code == Code::KindUnknown {
        return translated
            .hint("the CRDs are not installed: driftless crds | kubectl apply --server-side -f -");
    }
    translated
}

/// What is said where it is not there.
pub(super) fn missing(title: &str) -> Error {
    Error::new(Code::Usage, format!("there is no RolloutPolicy {title}"))
        .hint("driftless rollout get -A lists all of them")
}

/// The one with this name, `name` or `namespace/name`.
pub(super) async fn find(cluster: &Cluster, global: &Global, name: &str) -> Result<Found> {
    let own = global.namespace.clone().unwrap_or_else(|| cluster.namespace().to_owned());
    // What kubectl prints is what people type.
    let kinds = ["rolloutpolicy/", "rolloutpolicy.driftless.dev/"];
    let name = kinds.iter().find_map(|kind| name.strip_prefix(kind)).unwrap_or(name);
    let (namespace, name) = name.split_once('/').unwrap_or((&own, name));
    let api: Api<RolloutPolicy> = Api::namespaced(cluster.client(), namespace);
    let policy = api.get_opt(name).await.map_err(|error| failed(&error))?;
    let policy = policy.ok_or_else(|| missing(&format!("{namespace}/{name}")))?;
    Ok(Found { api, policy })
}

/// All of a namespace, or of all.
pub(super) async fn all(cluster: &Cluster, global: &Global, everywhere: bool) -> Result<Vec<RolloutPolicy>> {
    let namespace = global.namespace.clone().unwrap_or_else(|| cluster.namespace().to_owned());
    let api: Api<RolloutPolicy> =
        if everywhere { Api::all(cluster.client()) } else { Api::namespaced(cluster.client(), &namespace) };
    let listed = api.list(&ListParams::default()).await.map_err(|error| failed(&error))?;
    Ok(listed.items)
}

/// `namespace/name`.
pub(super) fn title(policy: &RolloutPolicy) -> String {
    format!("{}/{}", policy.namespace().unwrap_or_default(), policy.name_any())
}
