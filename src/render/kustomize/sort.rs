//! The order of the result.

use super::kustomization::{LegacyOrder, SortOptions};
use super::node::{Nodes, invalid};
use super::resource::Resource;
use crate::error::Result;

const FIRST: [&str; 22] = [
    "Namespace",
    "ResourceQuota",
    "StorageClass",
    "CustomResourceDefinition",
    "ServiceAccount",
    "PodSecurityPolicy",
    "Role",
    "ClusterRole",
    "RoleBinding",
    "ClusterRoleBinding",
    "ConfigMap",
    "Secret",
    "Endpoints",
    "Service",
    "LimitRange",
    "PriorityClass",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "Deployment",
    "StatefulSet",
    "CronJob",
    "PodDisruptionBudget",
];
const LAST: [&str; 2] = ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"];

/// Below 0 for a kind that comes first, above 0 for one that comes last.
pub(super) fn rank(kind: &str) -> i32 {
    rank_in(kind, &FIRST, &LAST)
}

fn rank_in(kind: &str, first: &[impl AsRef<str>], last: &[impl AsRef<str>]) -> i32 {
    let place = |list: &[_], kind: &str| -> Option<i32> {
        // A kind that is named twice has the rank of the later place.
        list.iter()
            .rposition(|name: &_| AsRef::<str>::as_ref(name) == kind)
            .and_then(|at| i32::try_from(at).ok())
    };
    if let Some(at) = last.iter().rposition(|name| name.as_ref() == kind) {
        return 1 + i32::try_from(at).unwrap_or(i32::MAX - 1);
    }
    let count = i32::try_from(first.len()).unwrap_or(i32::MAX);
    place(first, kind).map_or(0, |at| at - count)
}

/// Sorts as `sortOptions` says; without, in the order `legacy`.
pub(super) fn sort(nodes: &Nodes, list: &mut [Resource], options: Option<&SortOptions>) -> Result<()> {
    let legacy = SortOptions { order: "legacy".to_owned(), legacy_sort_options: None };
    let options = options.unwrap_or(&legacy);
    match options.order.as_str() {
        "fifo" if options.legacy_sort_options.is_some() => {
            Err(invalid("sortOptions.legacySortOptions is only for the order legacy"))
        }
        "fifo" => Ok(()),
        "legacy" => {
            let default = || LegacyOrder {
                order_first: FIRST.map(str::to_owned).to_vec(),
                order_last: LAST.map(str::to_owned).to_vec(),
            };
            let order = options.legacy_sort_options.clone().unwrap_or_else(default);
            list.sort_by_cached_key(|resource| key(nodes, resource, &order));
            Ok(())
        }
        other => Err(invalid(format!("sortOptions.order is {other:?}, not fifo or legacy"))),
    }
}

fn key(nodes: &Nodes, resource: &Resource, order: &LegacyOrder) -> (i32, String, String) {
    let or = |text: &str, other: &str| if text.is_empty() { other.to_owned() } else { text.to_owned() };
    let id = resource.id(nodes);
    let gvk = format!("{}_{}_{}", or(id.group, "~G"), or(id.version, "~V"), or(id.kind, "~K"));
    let name = format!(
        "{}.{}.{}|{}|{}",
        or(id.kind, "[noKind]"),
        or(id.version, "[noVer]"),
        or(id.group, "[noGrp]"),
        or(resource.namespace(nodes), "~X"),
        or(id.name, "~N")
    );
    (rank_in(id.kind, &order.order_first, &order.order_last), gvk, name)
}
