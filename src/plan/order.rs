//! The order of kinds: what others need comes first.

use crate::model::Gvk;

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
