//! Workloads whose replica count an autoscaler sets.

use serde_json::Value;

use crate::model::{Key, Object};

/// A workload and the object that scales it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scaled {
    /// The workload.
    pub target: Key,
    /// The autoscaler.
    pub by: Key,
}

/// The targets of `HorizontalPodAutoscalers` and KEDA `ScaledObjects` among these objects.
pub fn scaled_targets(objects: &[Object]) -> Vec<Scaled> {
    let of = |object: &Object| {
        let reference = &object.value()["spec"]["scaleTargetRef"];
        let default_kind = match (object.gvk().group.as_str(), object.gvk().kind.as_str()) {
            ("autoscaling", "HorizontalPodAutoscaler") => None,
            ("keda.sh", "ScaledObject") => Some("Deployment"),
            _ => return None,
        };
        let text = |field: &str| reference.get(field).and_then(Value::as_str);
        let group = match (text("apiVersion"), default_kind) {
            (Some(version), _) => version.split_once('/').map_or("", |(group, _)| group),
            (None, Some(_)) => "apps",
            (None, None) => "",
        };
        let target = Key {
            group: group.to_owned(),
            kind: text("kind").or(default_kind)?.to_owned(),
            namespace: object.namespace().to_owned(),
            name: text("name")?.to_owned(),
        };
        Some(Scaled { target, by: object.key() })
    };
    objects.iter().filter_map(of).collect()
}
