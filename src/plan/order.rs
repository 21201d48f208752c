//! The order of kinds: what others need comes first.

use super::{Desired, Phase};
use crate::model::Gvk;

/// Phase, wave, rank.
pub(super) type Stage = (Phase, i64, u8);

/// The stage of an object. Namespaces and CRDs come first of all, whatever their wave: others cannot be applied
/// without them.
pub(super) fn stage(object: &Desired) -> Stage {
    match rank(&object.gvk) {
        rank @ 0..=1 => (Phase::PreSync, i64::MIN, rank),
        rank => (object.phase, object.wave, rank),
    }
}

/// The stage of a kind. Objects of one stage do not depend on each other.
pub fn rank(gvk: &Gvk) -> u8 {
    match (gvk.group.as_str(), gvk.kind.as_str()) {
        ("", "Namespace") => 0,
        ("apiextensions.k8s.io", _) => 1,
        ("scheduling.k8s.io" | "storage.k8s.io" | "node.k8s.io", _) | ("", "PersistentVolume") => 2,
        ("", "ServiceAccount" | "ResourceQuota" | "LimitRange") => 3,
        ("rbac.authorization.k8s.io", "Role" | "ClusterRole") => 4,
        ("rbac.authorization.k8s.io", _) => 5,
        ("", "Secret" | "ConfigMap" | "PersistentVolumeClaim") => 6,
        ("", "Service") | ("networking.k8s.io", "NetworkPolicy") | ("policy", _) => 7,
        ("apps" | "batch" | "", _) => 8,
        ("autoscaling" | "networking.k8s.io" | "gateway.networking.k8s.io", _) => 9,
        // Webhooks last: their backends are the workloads above, and they would refuse what comes after.
        ("admissionregistration.k8s.io" | "apiregistration.k8s.io", _) => 11,
        _ => 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_then_waves_then_kinds() {
        let object = |kind: &str, phase, wave| Desired {
            gvk: Gvk { group: String::new(), version: "v1".into(), kind: kind.into() },
            phase,
            wave,
            ..Desired::default()
        };
        let all = [
            object("Namespace", Phase::Sync, 9),
            object("Pod", Phase::PreSync, 1),
            object("ConfigMap", Phase::Sync, -1),
            object("Secret", Phase::Sync, 0),
            object("Service", Phase::Sync, 0),
            object("Secret", Phase::Sync, 1),
            object("Pod", Phase::PostSync, 0),
        ];
        let stages: Vec<Stage> = all.iter().map(stage).collect();
        assert!(stages.is_sorted(), "{stages:?}");
    }
}
