//! The kinds of Kubernetes itself, and our own.

use serde_json::Value;

use super::{Health, Status, condition, observed, text};
use crate::model::Gvk;

fn progressing(reason: impl Into<Box<str>>) -> Health {
    Health::new(Status::Progressing, reason)
}

fn degraded(reason: impl Into<Box<str>>) -> Health {
    Health::new(Status::Degraded, reason)
}

/// `None` for kinds that have no rule of their own.
pub(super) fn assess(gvk: &Gvk, object: &Value) -> Option<Health> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let number = |value: &Value, field: &str| value[field].as_i64().unwrap_or_default();
    Some(match (gvk.group.as_str(), gvk.kind.as_str()) {
        ("apps", "Deployment") => deployment(object),
        ("apps", "StatefulSet") => stateful_set(object),
        ("apps", "DaemonSet") => {
            if observed(object) != Some(true) {
                return Some(progressing("its controller has not seen the newest change"));
            }
            let wanted = number(status, "desiredNumberScheduled");
            let (updated, ready) = (number(status, "updatedNumberScheduled"), number(status, "numberReady"));
            let on_delete = spec["updateStrategy"]["type"] == "OnDelete";
            if updated < wanted && !on_delete {
                progressing(format!("{updated} of {wanted} pods are updated"))
            } else if ready < wanted {
                progressing(format!("{ready} of {wanted} pods are ready"))
            } else {
                Health::healthy()
            }
        }
        ("apps", "ReplicaSet") | ("", "ReplicationController") => {
            if observed(object) != Some(true) {
                return Some(progressing("its controller has not seen the newest change"));
            }
            if let Some(failed) =
                condition(object, "ReplicaFailure").filter(|found| found["status"] == "True")
            {
                return Some(degraded(text(failed)));
            }
            let (wanted, ready) = (spec["replicas"].as_i64().unwrap_or(1), number(status, "readyReplicas"));
            if ready < wanted {
                progressing(format!("{ready} of {wanted} pods are ready"))
            } else {
                Health::healthy()
            }
        }
        ("", "Pod") => pod(object),
        ("batch", "Job") => {
            if let Some(failed) = condition(object, "Failed").filter(|found| found["status"] == "True") {
                degraded(text(failed))
            } else if condition(object, "Complete").is_some_and(|found| found["status"] == "True") {
                Health::healthy()
            } else if spec["suspend"] == true {
                Health::new(Status::Suspended, "the job is suspended")
            } else {
                progressing(format!("{} pods are active", number(status, "active")))
            }
        }
        ("batch", "CronJob") => {
            if spec["suspend"] == true {
                Health::new(Status::Suspended, "the schedule is suspended")
            } else {
                Health::healthy()
            }
        }
        ("", "PersistentVolumeClaim") => match status["phase"].as_str() {
            Some("Bound") => Health::healthy(),
            Some("Lost") => degraded("the volume is lost"),
            _ => progressing("no volume is bound yet"),
        },
        ("", "Service") => {
            let waits = spec["type"] == "LoadBalancer"
                && status["loadBalancer"]["ingress"].as_array().is_none_or(Vec::is_empty);
            if waits { progressing("the load balancer has no address yet") } else { Health::healthy() }
        }
        ("", "Namespace") => match status["phase"].as_str() {
            Some("Terminating") => progressing("it is being deleted"),
            _ => Health::healthy(),
        },
        ("networking.k8s.io" | "extensions", "Ingress") => Health::healthy(),
        ("autoscaling", "HorizontalPodAutoscaler") => {
            let failed = ["AbleToScale", "ScalingActive"]
                .iter()
                .filter_map(|kind| condition(object, kind))
                .find(|found| found["status"] == "False" && found["reason"] != "ScalingDisabled");
            failed.map_or_else(Health::healthy, |found| degraded(text(found)))
        }
        ("policy", "PodDisruptionBudget") => {
            if observed(object) == Some(true) {
                Health::healthy()
            } else {
                progressing("its controller has not seen it")
            }
        }
        ("apiextensions.k8s.io", "CustomResourceDefinition") => {
            if let Some(refused) =
                condition(object, "NamesAccepted").filter(|found| found["status"] == "False")
            {
                degraded(text(refused))
            } else if condition(object, "Established").is_some_and(|found| found["status"] == "True") {
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
            Some(found)
                if condition(object, "Stalled").is_some_and(|stalled| stalled["status"] == "True") =>
            {
                degraded(text(found))
            }
            Some(found) => progressing(text(found)),
            None => progressing("the agent has not seen it yet"),
        },
        _ => return None,
    })
}

fn deployment(object: &Value) -> Health {
    let (spec, status) = (&object["spec"], &object["status"]);
    if spec["paused"] == true {
        return Health::new(Status::Suspended, "the deployment is paused");
    }
    if observed(object) != Some(true) {
        return progressing("its controller has not seen the newest change");
    }
    if let Some(stuck) =
        condition(object, "Progressing").filter(|found| found["reason"] == "ProgressDeadlineExceeded")
    {
        return degraded(text(stuck));
    }
    if let Some(failed) = condition(object, "ReplicaFailure").filter(|found| found["status"] == "True") {
        return degraded(text(failed));
    }
    let number = |field: &str| status[field].as_i64().unwrap_or_default();
    let wanted = spec["replicas"].as_i64().unwrap_or(1);
    let (all, updated, available) =
        (number("replicas"), number("updatedReplicas"), number("availableReplicas"));
    if updated < wanted {
        progressing(format!("{updated} of {wanted} pods are updated"))
    } else if all > updated {
        progressing(format!("{} old pods are ending", all - updated))
    } else if available < updated {
        progressing(format!("{available} of {updated} pods are available"))
    } else {
        Health::healthy()
    }
}

fn stateful_set(object: &Value) -> Health {
    let (spec, status) = (&object["spec"], &object["status"]);
    if observed(object) != Some(true) {
        return progressing("its controller has not seen the newest change");
    }
    let number = |field: &str| status[field].as_i64().unwrap_or_default();
    let wanted = spec["replicas"].as_i64().unwrap_or(1);
    let ready = number("readyReplicas");
    if ready < wanted {
        return progressing(format!("{ready} of {wanted} pods are ready"));
    }
    if spec["updateStrategy"]["type"] == "OnDelete" {
        return Health::healthy();
    }
    let partition = spec["updateStrategy"]["rollingUpdate"]["partition"].as_i64().unwrap_or_default();
    let to_update = (wanted - partition).max(0);
    if status["updateRevision"] != status["currentRevision"] && number("updatedReplicas") < to_update {
        return progressing(format!("{} of {to_update} pods are updated", number("updatedReplicas")));
    }
    Health::healthy()
}

/// Reasons of waiting containers that time alone does not mend.
const STUCK: &[&str] = &[
    "CrashLoopBackOff",
    "ImagePullBackOff",
    "ErrImagePull",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
];

fn pod(object: &Value) -> Health {
    let status = &object["status"];
    let containers = ["initContainerStatuses", "containerStatuses"]
        .iter()
        .filter_map(|field| status[field].as_array())
        .flatten();
    for container in containers {
        let waiting = &container["state"]["waiting"];
        if waiting["reason"].as_str().is_some_and(|reason| STUCK.contains(&reason)) {
            let name = container["name"].as_str().unwrap_or("?");
            return degraded(format!("container {name}: {}", text(waiting)));
        }
    }
    match status["phase"].as_str() {
        Some("Succeeded") => Health::healthy(),
        Some("Failed") => degraded(text(status)),
        Some("Running") => match condition(object, "Ready") {
            Some(ready) if ready["status"] == "True" => Health::healthy(),
            Some(ready) => progressing(text(ready)),
            None => progressing("it is not ready yet"),
        },
        _ => match condition(object, "PodScheduled").filter(|found| found["status"] == "False") {
            Some(unscheduled) => progressing(text(unscheduled)),
            None => progressing("it is starting"),
        },
    }
}
