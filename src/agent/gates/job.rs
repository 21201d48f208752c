//! A Job for each measurement: made once, found again by its name, read when it ended.

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;

use crate::live::kube::{Check, Cluster, translate};
use crate::model::{Gvk, Key};
use crate::rollout::provider::{About, Job, Reading, Run};

/// Pods of one Job that are looked at.
const PODS: u32 = 50;

/// `None` while it runs.
pub(super) async fn ask(
    cluster: &Cluster,
    known: &Job,
    gate: &str,
    about: &About,
) -> Result<Option<Reading>, String> {
    let wanted = known.object(gate, about)?;
    let name = wanted["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let gvk = Gvk::parse("batch/v1", "Job");
    let resource = cluster.resource(&gvk, false).await.map_err(|error| error.to_string())?;
    let key = Key {
        group: gvk.group.clone(),
        kind: gvk.kind.clone(),
        namespace: about.namespace.clone(),
        name: name.clone(),
    };
    let Some(live) = cluster.get(&resource, &key).await.map_err(|error| error.to_string())? else {
        let body = wanted.to_string().into_bytes();
        cluster.create(&resource, &key, body, Check::Strict).await.map_err(|error| error.to_string())?;
        return Ok(None);
    };
    let owners = live.pointer("/metadata/ownerReferences").and_then(|owners| owners.as_array());
    if !owners.into_iter().flatten().any(|owner| owner["uid"] == *about.uid) {
        return Err(format!("there is a Job {name} already, which is not of this policy"));
    }
    let run = Job::run(&live);
    let result = match run {
        Run::Succeeded if known.wants_result() => result(cluster, &key).await?,
        _ => None,
    };
    Ok(known.reading(&name, &run, result.as_deref()))
}

/// The termination message of the pod that succeeded.
async fn result(cluster: &Cluster, job: &Key) -> Result<Option<String>, String> {
    let pods: Api<Pod> = Api::namespaced(cluster.client(), &job.namespace);
    let its = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={}", job.name)).limit(PODS);
    let found = pods.list(&its).await.map_err(|error| translate(&error).to_string())?;
    let statuses = found.into_iter().filter_map(|pod| pod.status);
    let ended = statuses.filter(|status| status.phase.as_deref() == Some("Succeeded"));
    let containers = ended.flat_map(|status| status.container_statuses.unwrap_or_default());
    let mut messages = containers.filter_map(|container| container.state?.terminated?.message);
    Ok(messages.find(|message| !message.trim().is_empty()))
}
