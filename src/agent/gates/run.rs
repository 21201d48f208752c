//! What runs to an end for each measurement: made once, found again by its name, read when it ended, ended where nobody
//! waits for it any more.

use std::collections::HashSet;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DynamicObject, ListParams, Patch, PatchParams};
use serde_json::Value;

use crate::api::FIELD_MANAGER;
use crate::error::{Code, Result};
use crate::live::kube::{Check, Cluster, Propagation, translate};
use crate::model::{Gvk, Key};
use crate::rollout::provider::{About, Ending, Left, Reading, Run, Runs, State};
use crate::rollout::target::{ROLLOUT_LABEL, is_owned_by};

/// Pods of one object that are looked at.
const PODS: u32 = 50;

/// `None` while it runs.
pub(super) async fn ask(
    cluster: &Cluster,
    known: &Run,
    gate: &str,
    about: &About,
) -> std::result::Result<Option<Reading>, String> {
    let wanted = known.object(gate, about)?;
    let gvk = known.kind.gvk();
    let key = key(&gvk, &about.namespace, &wanted);
    let resource = cluster.resource(&gvk, false).await.map_err(|error| error.to_string())?;
    let Some(live) = cluster.get(&resource, &key).await.map_err(|error| error.to_string())? else {
        let body = wanted.to_string().into_bytes();
        cluster.create(&resource, &key, body, Check::Strict).await.map_err(|error| error.to_string())?;
        return Ok(None);
    };
    if !is_owned_by(&live, &about.uid) {
        let (kind, name) = (&gvk.kind, &key.name);
        return Err(format!("there is a {kind} {name} already, which is not of this policy"));
    }
    let state = known.kind.state(&live);
    let result = match (&state, known.kind.left(&live)) {
        (State::Succeeded, Left::InPods(labels)) if known.wants_result() => {
            message(cluster, &key.namespace, &labels).await?
        }
        (_, Left::Here(result)) => result,
        (_, Left::InPods(_)) => None,
    };
    Ok(known.reading(&key.name, &state, result.as_deref()))
}

/// Ends what runs for a policy and is not kept: so many were ended.
///
/// # Errors
/// Those of the API server, at the first that fails.
pub(super) async fn end(
    cluster: &Cluster,
    kind: &dyn Runs,
    namespace: &str,
    policy: (&str, &str),
    kept: &HashSet<String>,
) -> Result<usize> {
    let (name, uid) = policy;
    let gvk = kind.gvk();
    let all = match cluster.list_selected(&gvk, namespace, &format!("{ROLLOUT_LABEL}={name}")).await {
        // Where the kind is not served there is none.
        Err(error) if error.code == Code::KindUnknown => return Ok(0),
        all => all?,
    };
    let resource = cluster.resource(&gvk, false).await?;
    let runs = |live: &&Value| {
        let name = live["metadata"]["name"].as_str().unwrap_or_default();
        is_owned_by(live, uid) && !kept.contains(name) && kind.state(live) == State::Running
    };
    let mut count = 0;
    for live in all.iter().filter(runs) {
        let key = key(&gvk, namespace, live);
        match kind.ending() {
            Ending::Delete => {
                let uid = live["metadata"]["uid"].as_str().unwrap_or_default();
                cluster.delete(&resource, &key, uid, Propagation::Background).await?;
            }
            Ending::Patch(patch) => {
                let api: Api<DynamicObject> =
                    Api::namespaced_with(cluster.client(), namespace, &resource.api);
                let parameters =
                    PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
                api.patch(&key.name, &parameters, &Patch::Merge(patch))
                    .await
                    .map_err(|error| translate(&error).on_object(&key))?;
            }
        }
        count += 1;
    }
    Ok(count)
}

fn key(gvk: &Gvk, namespace: &str, object: &Value) -> Key {
    Key {
        group: gvk.group.clone(),
        kind: gvk.kind.clone(),
        namespace: namespace.to_owned(),
        name: object["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
    }
}

/// The termination message of the pod that succeeded.
async fn message(
    cluster: &Cluster,
    namespace: &str,
    labels: &str,
) -> std::result::Result<Option<String>, String> {
    let pods: Api<Pod> = Api::namespaced(cluster.client(), namespace);
    let its = ListParams::default().labels(labels).limit(PODS);
    let found = pods.list(&its).await.map_err(|error| translate(&error).to_string())?;
    let statuses = found.into_iter().filter_map(|pod| pod.status);
    let ended = statuses.filter(|status| status.phase.as_deref() == Some("Succeeded"));
    let containers = ended.flat_map(|status| status.container_statuses.unwrap_or_default());
    let mut messages = containers.filter_map(|container| container.state?.terminated?.message);
    Ok(messages.find(|message| !message.trim().is_empty()))
}
