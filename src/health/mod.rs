//! From an object to how it is.
//!
//! Judged from metadata.generation, spec and status alone, as kstatus and Argo CD agree; where they
//! differ: an Ingress without an address is healthy, because most routers never report one. Knows nothing
//! of clusters; suspended is a state of its own.

mod builtin;

use std::fmt;

use serde_json::Value;

use crate::model::Gvk;

/// The words of health, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// It does its work.
    Healthy,
    /// It was told to stand still.
    Suspended,
    /// It is on its way.
    Progressing,
    /// It cannot be said.
    Unknown,
    /// It is not there.
    Missing,
    /// It failed, or will not get there by itself.
    Degraded,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// How an object is, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The word.
    pub status: Status,
    /// Why, in words; empty when healthy.
    pub reason: Box<str>,
}

impl Health {
    /// A judgement.
    pub fn new(status: Status, reason: impl Into<Box<str>>) -> Self {
        Self { status, reason: reason.into() }
    }

    /// Healthy, which needs no reason.
    pub fn healthy() -> Self {
        Self::new(Status::Healthy, "")
    }
}

/// Judges an object. Only `metadata`, `spec` and `status` are read, and each may be missing.
pub fn assess(gvk: &Gvk, object: &Value) -> Health {
    let metadata = &object["metadata"];
    if metadata["deletionTimestamp"].is_string() {
        let held: Vec<&str> =
            metadata["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let waits =
            if held.is_empty() { String::new() } else { format!(", and waits for {}", held.join(", ")) };
        return Health::new(Status::Progressing, format!("it is being deleted{waits}"));
    }
    builtin::assess(gvk, object).unwrap_or_else(|| generic(object))
}

/// Whether health needs more of this kind than its metadata.
pub fn reads_status(gvk: &Gvk) -> bool {
    let static_kind = match (gvk.group.as_str(), gvk.kind.as_str()) {
        ("", kind) => matches!(
            kind,
            "ConfigMap"
                | "Secret"
                | "ServiceAccount"
                | "Endpoints"
                | "LimitRange"
                | "ResourceQuota"
                | "PodTemplate"
                | "Event"
        ),
        ("networking.k8s.io", _) => true,
        (group, _) => matches!(
            group,
            "rbac.authorization.k8s.io"
                | "scheduling.k8s.io"
                | "storage.k8s.io"
                | "admissionregistration.k8s.io"
                | "coordination.k8s.io"
                | "discovery.k8s.io"
                | "node.k8s.io"
        ),
    };
    !static_kind
}

/// The worst of many, with the name of the culprit.
pub fn worst<N: fmt::Display>(all: impl IntoIterator<Item = (N, Health)>) -> Health {
    let worst = all.into_iter().max_by_key(|(_, health)| health.status);
    match worst {
        Some((name, health)) if health.status != Status::Healthy => {
            Health::new(health.status, format!("{name}: {}", health.reason))
        }
        _ => Health::healthy(),
    }
}

/// The condition of a type, if the object has it.
fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

fn text(condition: &Value) -> String {
    let part = |field: &str| condition[field].as_str().unwrap_or_default();
    match (part("reason"), part("message")) {
        ("", "") => "no reason given".into(),
        ("", message) => message.into(),
        (reason, "") => reason.into(),
        (reason, message) => format!("{reason}: {message}"),
    }
}

/// Whether the controller has seen this generation; `None` where the kind does not say.
fn observed(object: &Value) -> Option<bool> {
    let observed = object["status"]["observedGeneration"].as_i64()?;
    Some(observed >= object["metadata"]["generation"].as_i64().unwrap_or_default())
}

/// Any other kind: the conditions of kstatus.
fn generic(object: &Value) -> Health {
    if observed(object) == Some(false) {
        return Health::new(Status::Progressing, "its controller has not seen the newest change");
    }
    let is = |kind: &str, status: &str| condition(object, kind).filter(|found| found["status"] == status);
    if let Some(stalled) = is("Stalled", "True") {
        return Health::new(Status::Degraded, text(stalled));
    }
    if let Some(reconciling) = is("Reconciling", "True") {
        return Health::new(Status::Progressing, text(reconciling));
    }
    if let Some(failed) = is("Failed", "True") {
        return Health::new(Status::Degraded, text(failed));
    }
    for kind in ["Ready", "Available"] {
        match condition(object, kind) {
            Some(found) if found["status"] == "True" => return Health::healthy(),
            Some(found) if found["status"] == "False" => {
                return Health::new(Status::Progressing, text(found));
            }
            Some(found) => return Health::new(Status::Progressing, text(found)),
            None => {}
        }
    }
    Health::healthy()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each fixture is `# Status[: part of the reason]` and then the object.
    #[test]
    fn fixtures() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/health.yaml");
        let bytes = std::fs::read_to_string(folder).unwrap();
        let mut count = 0;
        for case in bytes.split("\n---\n") {
            let header = case.lines().find_map(|line| line.strip_prefix("# ")).unwrap();
            let object = &crate::model::yaml::read(case.as_bytes(), "health.yaml").unwrap()[0].value;
            let gvk = Gvk::parse(object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap());
            let health = assess(&gvk, object);
            let shown = format!("{}: {}", health.status, health.reason);
            assert!(shown.contains(header), "expected {header:?}, found {shown:?} for\n{case}");
            let word = header.split(':').next().unwrap();
            assert_eq!(health.status.to_string(), word, "{case}");
            count += 1;
        }
        assert!(count >= 30, "{count}");
    }

    #[test]
    fn the_worst_is_named() {
        let health = worst([
            ("Deployment a", Health::new(Status::Progressing, "1 of 2")),
            ("Job b", Health::new(Status::Degraded, "failed")),
            ("Service c", Health::healthy()),
        ]);
        assert_eq!(health, Health::new(Status::Degraded, "Job b: failed"));
    }
}
