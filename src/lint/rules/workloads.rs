//! Workloads, their selectors, scalers and budgets.

use serde_json::Value;

use super::containers::selects;
use crate::lint::pods::{Purpose, pods};
use crate::lint::rule::{Out, rules};
use crate::lint::set::{Set, Subject, same_namespace};
use crate::render::explain::below;

rules! { "Workloads":
    SELECTOR_MISMATCH "selector-mismatch" Error Certain
        "a selector that does not take the workload's own pods"
        "The API server refuses it: every label of spec.selector.matchLabels must be on spec.template.metadata.labels with the same value."
    RESTART_POLICY "restart-policy" Error Certain
        "a restart policy that the kind does not allow"
        "Jobs and CronJobs need restartPolicy: OnFailure or Never (the default, Always, is refused); pods of a Deployment, StatefulSet or DaemonSet may only have Always."
    ROLLOUT_STUCK "rolling-update-stuck" Error Certain
        "a rolling update that may neither add nor remove a pod"
        "maxSurge and maxUnavailable are both 0, which the API server refuses. Where no GPU is free for a second pod, maxSurge: 0 with maxUnavailable: 1 is right."
    SCALER_TARGET "scaler-target-missing" Warning Likely
        "an autoscaler whose target is not in the tree"
        "It scales nothing: the name is misspelt, or the target was renamed or removed. If the target is made by a controller or lives in another repository, suppress this rule here."
    SCALER_RANGE "scaler-range" Error Certain
        "an autoscaler whose bounds contradict each other"
        "minReplicas is larger than maxReplicas, which is refused."
    BUDGET_BLOCKS "pdb-blocks-drain" Warning Certain
        "a disruption budget that allows no disruption"
        "Nodes with such pods cannot be drained, so upgrades of the cluster hang. Allow at least one pod to be away."
    BUDGET_UNUSED "pdb-without-pods" Info Likely
        "a disruption budget that selects no pod of the tree"
        "It protects nothing if the labels are misspelt. Pods that a controller makes are not known here."
    SERVICE_PORT "service-port-unknown" Warning Likely
        "a Service that sends to a port which its pods do not name"
        "A targetPort by name is looked up in the containers' ports; where none has it the Service has no endpoint and clients get refused connections."
    SERVICE_PODS "service-without-pods" Info Likely
        "a Service that selects no pod of the tree"
        "If the selector is misspelt it has no endpoints. Pods that a controller makes are not known here."
    JOB_TTL "job-runs-again" Warning Likely
        "a Job that is deleted when it has finished, and so applied again"
        "ttlSecondsAfterFinished removes the Job, the next sync finds it missing, applies it, and it runs once more. Make it a hook (driftless.dev/hook), or leave the TTL out."
}

pub(super) fn check(subject: &Subject, set: &Set<'_>, out: &mut Out) {
    match (subject.gvk.group.as_str(), subject.gvk.kind.as_str()) {
        ("apps", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet") => {
            selector(subject, out);
            restart(subject, &["Always"], out);
            stuck(subject, out);
        }
        ("argoproj.io", "Rollout") => selector(subject, out),
        ("batch", "Job" | "CronJob") => {
            restart(subject, &["OnFailure", "Never"], out);
            ttl(subject, out);
        }
        ("autoscaling", "HorizontalPodAutoscaler") => {
            target(subject, "/spec/scaleTargetRef", set, out);
            range(subject, "/spec/minReplicas", "/spec/maxReplicas", out);
        }
        ("keda.sh", "ScaledObject") => {
            target(subject, "/spec/scaleTargetRef", set, out);
            range(subject, "/spec/minReplicaCount", "/spec/maxReplicaCount", out);
        }
        ("policy", "PodDisruptionBudget") => budget(subject, set, out),
        ("", "Service") => service(subject, set, out),
        _ => {}
    }
}

fn selector(subject: &Subject, out: &mut Out) {
    let labels = subject.at("/spec/template/metadata/labels");
    let wanted = subject.at("/spec/selector/matchLabels").and_then(Value::as_object);
    for (key, value) in wanted.into_iter().flatten() {
        let found = labels.and_then(|labels| labels.get(key));
        if found != Some(value) {
            let at = below("/spec/selector/matchLabels", key);
            let has = found.map_or_else(|| "do not have it".to_owned(), |found| format!("have {found}"));
            out.add(&SELECTOR_MISMATCH, at, format!("the selector wants {key}={value}, and the pods {has}"));
        }
    }
}

fn restart(subject: &Subject, allowed: &[&str], out: &mut Out) {
    for pod in pods(subject) {
        let stated = pod.spec.get("restartPolicy").and_then(Value::as_str);
        let policy = stated.unwrap_or("Always");
        if !allowed.contains(&policy) {
            let at = if stated.is_some() { format!("{}/restartPolicy", pod.at) } else { pod.at.clone() };
            let default = if stated.is_some() { "" } else { ", which is the default" };
            let why = format!("a {} takes {}, not {policy}{default}", subject.gvk.kind, allowed.join(" or "));
            out.add(&RESTART_POLICY, at, why);
        }
    }
}

fn stuck(subject: &Subject, out: &mut Out) {
    let none = |field: &str| {
        let value = subject.at(&format!("/spec/strategy/rollingUpdate/{field}"));
        value.is_some_and(|value| value.as_i64() == Some(0) || matches!(value.as_str(), Some("0" | "0%")))
    };
    if none("maxSurge") && none("maxUnavailable") {
        let why = "maxSurge and maxUnavailable are both 0, so no pod can ever be replaced";
        out.add(&ROLLOUT_STUCK, "/spec/strategy/rollingUpdate", why);
    }
}

fn ttl(subject: &Subject, out: &mut Out) {
    let named = subject.gvk.kind == "Job" && !subject.is_hook() && !subject.name().is_empty();
    if let Some(seconds) = subject.at("/spec/ttlSecondsAfterFinished").filter(|_| named) {
        let why =
            format!("this Job is deleted {seconds} s after it has finished; the next sync runs it again");
        out.add(&JOB_TTL, "/spec/ttlSecondsAfterFinished", why);
    }
}

fn target(subject: &Subject, path: &str, set: &Set<'_>, out: &mut Out) {
    let text = |field: &str| subject.text(&format!("{path}/{field}"));
    let name = text("name");
    let (mut api_version, mut kind) = (text("apiVersion"), text("kind"));
    if subject.gvk.kind == "ScaledObject" {
        if kind.is_empty() {
            kind = "Deployment";
        }
        if api_version.is_empty() {
            api_version = "apps/v1";
        }
    }
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    if name.is_empty() || kind.is_empty() || name.contains("{{") {
        return;
    }
    if set.nowhere(group, kind, &subject.namespace, name) {
        let why = format!("it scales {kind} {name}, which is not in the tree");
        out.add(&SCALER_TARGET, format!("{path}/name"), why);
    }
}

fn range(subject: &Subject, least: &str, most: &str, out: &mut Out) {
    let number = |path: &str| subject.at(path).and_then(Value::as_i64);
    if let (Some(low), Some(high)) = (number(least), number(most))
        && low > high
    {
        out.add(&SCALER_RANGE, least, format!("at least {low} and at most {high} replicas"));
    }
}

fn budget(subject: &Subject, set: &Set<'_>, out: &mut Out) {
    let selected = |pod: Option<&Value>| selects(subject.at("/spec/selector/matchLabels"), pod);
    let targets: Vec<&Subject> = (set.subjects().iter())
        .filter(|one| same_namespace(&one.namespace, &subject.namespace))
        .filter(|one| pods(one).iter().any(|pod| selected(pod.labels())))
        .collect();
    let is = |path: &str, word: &str| subject.at(path).is_some_and(|value| value.as_str() == Some(word));
    let none = subject.at("/spec/maxUnavailable").and_then(Value::as_i64) == Some(0);
    if none || is("/spec/maxUnavailable", "0%") {
        out.add(&BUDGET_BLOCKS, "/spec/maxUnavailable", "no pod may ever be away, so no node can be drained");
    } else if is("/spec/minAvailable", "100%") {
        out.add(&BUDGET_BLOCKS, "/spec/minAvailable", "all pods must be there, so no node can be drained");
    } else if let (Some(least), [target]) =
        (subject.at("/spec/minAvailable").and_then(Value::as_i64), &*targets)
    {
        let scaled = ["HorizontalPodAutoscaler", "ScaledObject"].iter().any(|kind| {
            set.subjects()
                .iter()
                .any(|one| one.gvk.kind == *kind && one.text("/spec/scaleTargetRef/name") == target.name())
        });
        let kind = matches!(target.gvk.kind.as_str(), "Deployment" | "StatefulSet" | "ReplicaSet");
        let replicas = target.at("/spec/replicas").map_or(Some(1), Value::as_i64);
        if let Some(replicas) =
            replicas.filter(|replicas| kind && !scaled && *replicas > 0 && *replicas <= least)
        {
            let why = format!(
                "{least} of the {replicas} pods of {} must be there, so none may be away",
                target.title()
            );
            out.add(&BUDGET_BLOCKS, "/spec/minAvailable", why);
        }
    }
    let plain = subject.at("/spec/selector/matchExpressions").is_none();
    if targets.is_empty()
        && plain
        && subject.at("/spec/selector/matchLabels").is_some()
        && has_pods(subject, set)
    {
        out.add(&BUDGET_UNUSED, "/spec/selector", "no pod of the tree has these labels");
    }
}

/// Whether anything in the same namespace describes pods that stay.
fn has_pods(subject: &Subject, set: &Set<'_>) -> bool {
    let near = set.subjects().iter().filter(|one| same_namespace(&one.namespace, &subject.namespace));
    near.flat_map(pods).any(|pod| pod.whole && pod.purpose == Purpose::Serve)
}

fn service(subject: &Subject, set: &Set<'_>, out: &mut Out) {
    let Some(mut selector) = subject.at("/spec/selector").cloned() else { return };
    // Labels that controllers give to each pod.
    if let Some(labels) = selector.as_object_mut() {
        labels.retain(|key, _| {
            !key.starts_with("statefulset.kubernetes.io/") && !key.starts_with("apps.kubernetes.io/")
        });
        if labels.is_empty() {
            return;
        }
    }
    let selector = Some(&selector);
    let near = set.subjects().iter().filter(|one| same_namespace(&one.namespace, &subject.namespace));
    let taken: Vec<_> = near.flat_map(pods).filter(|pod| selects(selector, pod.labels())).collect();
    if taken.is_empty() {
        if has_pods(subject, set) {
            out.add(&SERVICE_PODS, "/spec/selector", "no pod of the tree has these labels");
        }
        return;
    }
    // A mesh or a webhook may add containers; those of a controller are not known.
    if !taken.iter().all(|pod| pod.whole) {
        return;
    }
    for (at, port) in subject.list("/spec/ports").iter().enumerate() {
        let Some(name) =
            port.get("targetPort").and_then(Value::as_str).filter(|name| name.parse::<u16>().is_err())
        else {
            continue;
        };
        let named = taken.iter().any(|pod| {
            pod.containers().iter().any(|container| {
                let ports = container.value.get("ports").and_then(Value::as_array).into_iter().flatten();
                ports.into_iter().any(|port| port.get("name").and_then(Value::as_str) == Some(name))
            })
        });
        if !named {
            let why =
                format!("it sends to the port {name}, and none of the containers it selects names one so");
            out.add(&SERVICE_PORT, format!("/spec/ports/{at}/targetPort"), why);
        }
    }
}
