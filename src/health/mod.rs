//! From an object to how it is.
//!
//! Judged from metadata, spec and status alone: by the user's own rules ([`Rules`]: CEL or Lua), by the packs (data
//! files for the kinds of ML platforms), by the kinds of Kubernetes itself, and any other kind by the
//! conditions of kstatus. Where kstatus and Argo CD differ, docs/health.md says which is followed and why. Knows nothing
//! of clusters; suspended, which is also queued and stopped, is a state of its own.

mod builtin;
mod cel;
pub mod culprit;
mod expression;
mod generic;
mod lua;
mod pack;
mod rules;

use std::fmt;

pub use rules::{Clock, Rule, Rules, Script, of_config_map};

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

impl Status {
    /// The word as users write it.
    pub fn parse(word: &str) -> Option<Self> {
        let all =
            [Self::Healthy, Self::Suspended, Self::Progressing, Self::Unknown, Self::Missing, Self::Degraded];
        all.into_iter().find(|status| status.to_string() == word)
    }
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

/// Judges an object by what is known of its kind. Only `metadata`, `spec` and `status` are read, and each may be missing.
pub fn assess(gvk: &Gvk, object: &Value) -> Health {
    of_kind(gvk, object).or_else(|| deleting(object)).unwrap_or_else(|| generic::assess(object))
}

fn deleting(object: &Value) -> Option<Health> {
    let metadata = &object["metadata"];
    if !metadata["deletionTimestamp"].is_string() {
        return None;
    }
    let held: Vec<&str> =
        metadata["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let waits = if held.is_empty() { String::new() } else { format!(", and waits for {}", held.join(", ")) };
    Some(Health::new(Status::Progressing, format!("it is being deleted{waits}")))
}

/// As [`assess`]; `None` for kinds of which nothing is known, which have conditions at best.
pub fn of_kind(gvk: &Gvk, object: &Value) -> Option<Health> {
    let known = builtin::assess(gvk, object).or_else(|| Some(pack::of(gvk)?.judge(object).0))?;
    Some(deleting(object).unwrap_or(known))
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

/// What a controller's silence means, in words.
const NOT_SEEN: &str = "its controller has not seen the newest change";

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
    let observed = &object["status"]["observedGeneration"];
    // Argo Rollouts writes it as text.
    let observed = observed.as_i64().or_else(|| observed.as_str()?.parse().ok())?;
    Some(observed >= object["metadata"]["generation"].as_i64().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The cases of a file: `# Status[: part of the reason]`, perhaps a remark, and then the object.
    pub(super) fn cases(file: &str) -> Vec<(String, Value)> {
        let path = format!("{}/tests/data/{file}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let cases = text.split("\n---\n").map(|case| {
            let header = case.lines().find_map(|line| line.strip_prefix("# ")).unwrap();
            let object = crate::model::yaml::read(case.as_bytes(), file).unwrap().remove(0).value;
            (header.to_owned(), object)
        });
        cases.collect()
    }

    #[test]
    fn fixtures() {
        let mut count = 0;
        let packs = pack::FILES.iter().map(|(name, _)| format!("health/{name}.yaml"));
        for file in packs.chain(["health.yaml".to_owned(), "health/kubernetes.yaml".to_owned()]) {
            for (header, object) in cases(&file) {
                let gvk =
                    Gvk::parse(object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap());
                let health = assess(&gvk, &object);
                let shown = format!("{}: {}", health.status, health.reason);
                assert!(
                    shown.contains(&header),
                    "{file}: expected {header:?}, found {shown:?} for\n{object}"
                );
                assert_eq!(health.status.to_string(), header.split(':').next().unwrap(), "{file}: {object}");
                // A person needs a reason for everything but health, and health needs none.
                assert_eq!(health.reason.is_empty(), health.status == Status::Healthy, "{file}: {header}");
                count += 1;
            }
        }
        assert!(count >= 650, "{count}");
    }

    /// 20,000 judgements, as often as a fleet's watches may ask when an agent starts.
    #[test]
    fn judging_is_cheap() {
        let cases = cases("health/kserve.yaml");
        let gvks: Vec<Gvk> = cases
            .iter()
            .map(|(_, object)| {
                Gvk::parse(object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap())
            })
            .collect();
        let begin = std::time::Instant::now();
        for number in 0..20_000 {
            std::hint::black_box(assess(&gvks[number % cases.len()], &cases[number % cases.len()].1));
        }
        // Unoptimised and beside other tests; 20 ms when optimised.
        assert!(begin.elapsed() < std::time::Duration::from_secs(5), "{:?}", begin.elapsed());
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
