//! The kinds of Kubernetes itself, and our own.

use serde_json::Value;

use super::{Health, NOT_SEEN, Status, condition, observed, text};
use crate::model::Gvk;

/// Kueue owns `suspend` of what carries this label.
const QUEUE: &str = "kueue.x-k8s.io/queue-name";
/// Argo CD's word that a pod which does not restart is no task that ends.
const IGNORE_RESTART_POLICY: &str = "argocd.argoproj.io/ignore-restart-policy";

fn progressing(reason: impl Into<Box<str>>) -> Health {
    Health::new(Status::Progressing, reason)
}

fn degraded(reason: impl Into<Box<str>>) -> Health {
    Health::new(Status::Degraded, reason)
}

fn suspended(reason: impl Into<Box<str>>) -> Health {
    Health::new(Status::Suspended, reason)
}

fn number(value: &Value, field: &str) -> i64 {
    value[field].as_i64().unwrap_or_default()
}

fn conditions(object: &Value) -> &[Value] {
    object["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn is<'a>(object: &'a Value, kind: &str, status: &str) -> Option<&'a Value> {
    condition(object, kind).filter(|found| found["status"] == status)
}

/// `None` for kinds that have no rule of their own.
pub(super) fn assess(gvk: &Gvk, object: &Value) -> Option<Health> {
    Some(match (gvk.group.as_str(), gvk.kind.as_str()) {
        ("apps", "Deployment") => deployment(object),
        ("apps", "StatefulSet") => stateful_set(object),
        ("apps", "DaemonSet") => daemon_set(object),
        ("apps", "ReplicaSet") | ("", "ReplicationController") => replica_set(object),
        ("", "Pod") => pod(object),
        ("batch", "Job") => job(object),
        ("batch", "CronJob") => cron_job(object),
        ("", "PersistentVolumeClaim") => match object["status"]["phase"].as_str() {
            Some("Bound") => Health::healthy(),
            Some("Lost") => degraded("the volume is lost"),
            _ => progressing("no volume is bound yet"),
        },
        ("", "PersistentVolume") => match object["status"]["phase"].as_str() {
            Some("Failed") => degraded(text(&object["status"])),
            None | Some("Pending") => progressing("it is not available yet"),
            Some(_) => Health::healthy(),
        },
        ("", "Service") => {
            let waits = object["spec"]["type"] == "LoadBalancer"
                && object["status"]["loadBalancer"]["ingress"].as_array().is_none_or(Vec::is_empty);
            if waits { progressing("the load balancer has no address yet") } else { Health::healthy() }
        }
        ("", "Namespace") => namespace(object),
        ("networking.k8s.io" | "extensions", "Ingress") => Health::healthy(),
        ("autoscaling", "HorizontalPodAutoscaler") => autoscaler(object),
        ("policy", "PodDisruptionBudget") => {
            // Too few pods is what it is there for; anything else kept its controller from counting them.
            let failed = conditions(object)
                .iter()
                .find(|found| found["status"] == "False" && found["reason"] != "InsufficientPods");
            match failed {
                Some(failed) => degraded(text(failed)),
                None if observed(object) == Some(true) => Health::healthy(),
                None => progressing(NOT_SEEN),
            }
        }
        ("apiextensions.k8s.io", "CustomResourceDefinition") => {
            if let Some(refused) = is(object, "NamesAccepted", "False") {
                degraded(text(refused))
            } else if let Some(wrong) = is(object, "NonStructuralSchema", "True") {
                degraded(text(wrong))
            } else if let Some(ending) = is(object, "Terminating", "True") {
                progressing(text(ending))
            } else if is(object, "Established", "True").is_some() {
                Health::healthy()
            } else {
                progressing("it is not established yet")
            }
        }
        ("apiregistration.k8s.io", "APIService") => match condition(object, "Available") {
            Some(found) if found["status"] == "True" => Health::healthy(),
            Some(found) => progressing(text(found)),
            None => progressing("it is not available yet"),
        },
        ("driftless.dev", "Application") => match condition(object, "Ready") {
            Some(found) if found["status"] == "True" => Health::healthy(),
            Some(found) if is(object, "Stalled", "True").is_some() => degraded(text(found)),
            Some(found) => progressing(text(found)),
            None => progressing("the agent has not seen it yet"),
        },
        _ => return None,
    })
}

fn deployment(object: &Value) -> Health {
    let (spec, status) = (&object["spec"], &object["status"]);
    if spec["paused"] == true {
        return suspended("the deployment is paused");
    }
    if observed(object) != Some(true) {
        return progressing(NOT_SEEN);
    }
    if let Some(stuck) =
        condition(object, "Progressing").filter(|found| found["reason"] == "ProgressDeadlineExceeded")
    {
        return degraded(text(stuck));
    }
    if let Some(failed) = is(object, "ReplicaFailure", "True") {
        return degraded(text(failed));
    }
    let wanted = spec["replicas"].as_i64().unwrap_or(1);
    let (all, updated) = (number(status, "replicas"), number(status, "updatedReplicas"));
    let available = number(status, "availableReplicas");
    if updated < wanted {
        progressing(format!("{updated} of {wanted} pods are updated"))
    } else if all > updated {
        progressing(format!("{} old pods are ending", all - updated))
    } else if all > wanted {
        progressing(format!("{} surplus pods are ending", all - wanted))
    } else if available < updated {
        progressing(format!("{available} of {updated} pods are available"))
    } else if let Some(not) = ["Available", "Progressing"].iter().find_map(|kind| is(object, kind, "False")) {
        progressing(text(not))
    } else {
        Health::healthy()
    }
}

fn stateful_set(object: &Value) -> Health {
    let (spec, status) = (&object["spec"], &object["status"]);
    if observed(object) != Some(true) {
        return progressing(NOT_SEEN);
    }
    let wanted = spec["replicas"].as_i64().unwrap_or(1);
    let (all, ready) = (number(status, "replicas"), number(status, "readyReplicas"));
    if ready < wanted {
        return progressing(format!("{ready} of {wanted} pods are ready"));
    }
    if all > wanted {
        return progressing(format!("{} surplus pods are ending", all - wanted));
    }
    if spec["updateStrategy"]["type"] == "OnDelete" {
        return Health::healthy();
    }
    let updated = number(status, "updatedReplicas");
    let partition = spec["updateStrategy"]["rollingUpdate"]["partition"].as_i64().unwrap_or_default();
    let to_update = (wanted - partition).max(0);
    // With a partition the two revisions stay apart for ever.
    let apart = status["updateRevision"] != status["currentRevision"];
    if apart && (updated < to_update || partition == 0 && wanted > 0) {
        return progressing(format!("{updated} of {to_update} pods are updated"));
    }
    match status["currentReplicas"].as_i64() {
        Some(current) if partition == 0 && current < wanted => {
            progressing(format!("{current} of {wanted} pods are of the current revision"))
        }
        _ => Health::healthy(),
    }
}

fn daemon_set(object: &Value) -> Health {
    let (spec, status) = (&object["spec"], &object["status"]);
    if observed(object) != Some(true) || status["desiredNumberScheduled"].is_null() {
        return progressing(NOT_SEEN);
    }
    let wanted = number(status, "desiredNumberScheduled");
    let updated = number(status, "updatedNumberScheduled");
    let (ready, available) = (number(status, "numberReady"), number(status, "numberAvailable"));
    let on_delete = spec["updateStrategy"]["type"] == "OnDelete";
    if updated < wanted && !on_delete {
        progressing(format!("{updated} of {wanted} pods are updated"))
    } else if ready < wanted {
        progressing(format!("{ready} of {wanted} pods are ready"))
    } else if available < wanted {
        progressing(format!("{available} of {wanted} pods are available"))
    } else {
        Health::healthy()
    }
}

fn replica_set(object: &Value) -> Health {
    if observed(object) != Some(true) {
        return progressing(NOT_SEEN);
    }
    if let Some(failed) = is(object, "ReplicaFailure", "True") {
        return degraded(text(failed));
    }
    let wanted = object["spec"]["replicas"].as_i64().unwrap_or(1);
    let status = &object["status"];
    let (ready, available) = (number(status, "readyReplicas"), number(status, "availableReplicas"));
    if ready < wanted {
        progressing(format!("{ready} of {wanted} pods are ready"))
    } else if available < wanted {
        progressing(format!("{available} of {wanted} pods are available"))
    } else {
        Health::healthy()
    }
}

fn job(object: &Value) -> Health {
    let (spec, status) = (&object["spec"], &object["status"]);
    if let Some(failed) = is(object, "Failed", "True") {
        return degraded(text(failed));
    }
    if is(object, "Complete", "True").is_some() {
        return Health::healthy();
    }
    if spec["suspend"] == true || is(object, "Suspended", "True").is_some() {
        return suspended(match object["metadata"]["labels"][QUEUE].as_str() {
            Some(queue) => format!("queued in {queue}"),
            None => "the job is suspended".to_owned(),
        });
    }
    // Its pods are still ending; the verdict is known.
    if let Some(failing) = is(object, "FailureTarget", "True") {
        return degraded(text(failing));
    }
    match (number(status, "active"), number(status, "failed")) {
        (active, 0) => progressing(format!("{active} pods are active")),
        (active, failed) => progressing(format!("{active} pods are active, {failed} failed")),
    }
}

fn cron_job(object: &Value) -> Health {
    let status = &object["status"];
    if object["spec"]["suspend"] == true {
        return suspended("the schedule is suspended");
    }
    let idle = status["active"].as_array().is_none_or(Vec::is_empty);
    let (begun, done) = (status["lastScheduleTime"].as_str(), status["lastSuccessfulTime"].as_str());
    // Both times come in one form, which sorts as text.
    match begun {
        Some(begun) if idle && done.is_none_or(|done| done < begun) => {
            degraded(format!("the run of {begun} did not succeed"))
        }
        _ => Health::healthy(),
    }
}

fn namespace(object: &Value) -> Health {
    if object["status"]["phase"] != "Terminating" {
        return Health::healthy();
    }
    let blocked = [
        "NamespaceDeletionDiscoveryFailure",
        "NamespaceDeletionGroupVersionParsingFailure",
        "NamespaceDeletionContentFailure",
        "NamespaceFinalizersRemaining",
        "NamespaceContentRemaining",
    ]
    .iter()
    .find_map(|kind| is(object, kind, "True"));
    progressing(blocked.map_or_else(
        || "it is being deleted".to_owned(),
        |why| format!("it is being deleted: {}", text(why)),
    ))
}

fn autoscaler(object: &Value) -> Health {
    // autoscaling/v1 has them as JSON in an annotation.
    let noted = object["metadata"]["annotations"]["autoscaling.alpha.kubernetes.io/conditions"].as_str();
    let noted: Option<Value> = noted.and_then(|noted| serde_json::from_str(noted).ok());
    let conditions = noted.as_ref().unwrap_or(&object["status"]["conditions"]);
    let all = conditions.as_array().map(Vec::as_slice).unwrap_or_default();
    // Backoff is AbleToScale=False too, and no failure.
    let failed = all.iter().find(|found| {
        let reason = found["reason"].as_str().unwrap_or_default();
        (found["type"] == "AbleToScale" || found["type"] == "ScalingActive")
            && found["status"] == "False"
            && (reason.starts_with("Failed") || reason.starts_with("Invalid"))
    });
    let able = all.iter().find(|found| found["type"] == "AbleToScale");
    match (failed, able) {
        (Some(failed), _) => degraded(text(failed)),
        (None, None) if all.is_empty() => progressing("its controller has not seen it"),
        (None, Some(able))
            if able["status"] == "True"
                || able["reason"].as_str().is_some_and(|reason| reason.starts_with("Backoff")) =>
        {
            Health::healthy()
        }
        (None, Some(able)) => progressing(format!("its target cannot be scaled yet: {}", text(able))),
        (None, None) => progressing("its target cannot be scaled yet"),
    }
}

/// Reasons of waiting containers that time alone does not mend.
pub(super) fn is_stuck(reason: &str) -> bool {
    reason.starts_with("Err")
        || reason.ends_with("Error")
        || reason.ends_with("BackOff")
        || reason == "InvalidImageName"
}

/// Each container's status: those that come first, first.
pub(super) fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["initContainerStatuses", "containerStatuses"]
        .iter()
        .filter_map(|field| pod["status"][field].as_array())
        .flatten()
}

fn pod(object: &Value) -> Health {
    let (spec, status) = (&object["spec"], &object["status"]);
    let policy = spec["restartPolicy"].as_str().unwrap_or("Always");
    for container in containers(object) {
        let waiting = &container["state"]["waiting"];
        if waiting["reason"].as_str().is_some_and(is_stuck) {
            let name = container["name"].as_str().unwrap_or("?");
            return degraded(format!("container {name}: {}", text(waiting)));
        }
    }
    match status["phase"].as_str() {
        Some("Succeeded") => Health::healthy(),
        Some("Failed") => {
            let ended = containers(object).find(|container| {
                container["state"]["terminated"]["exitCode"].as_i64().is_some_and(|code| code != 0)
            });
            match ended {
                Some(container) if status["message"].is_null() => {
                    let (name, ended) = (&container["name"], &container["state"]["terminated"]);
                    let name = name.as_str().unwrap_or("?");
                    degraded(format!("container {name}: exit {}: {}", ended["exitCode"], text(ended)))
                }
                _ => degraded(text(status)),
            }
        }
        Some("Running") if policy != "Always" => {
            // A task that ends is not done while it runs.
            if object["metadata"]["annotations"][IGNORE_RESTART_POLICY] == "true" {
                Health::healthy()
            } else {
                progressing("it runs to its end")
            }
        }
        Some("Running") => {
            if is(object, "Ready", "True").is_some() {
                return Health::healthy();
            }
            let crashed = containers(object).find(|container| {
                container["ready"] != true && container["lastState"]["terminated"].is_object()
            });
            if let Some(container) = crashed {
                let (name, last) =
                    (container["name"].as_str().unwrap_or("?"), &container["lastState"]["terminated"]);
                return degraded(format!(
                    "container {name} ended before: exit {}: {}",
                    last["exitCode"],
                    text(last)
                ));
            }
            progressing(condition(object, "Ready").map_or_else(|| "it is not ready yet".into(), text))
        }
        Some("Unknown") => Health::new(Status::Unknown, "its node does not answer"),
        _ => match is(object, "PodScheduled", "False") {
            Some(unscheduled) => progressing(text(unscheduled)),
            None => progressing("it is starting"),
        },
    }
}
