//! What an application owns, written down: the only ground for a deletion.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One owned object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InventoryEntry {
    /// `group/version`, or `version` for the core group, as last applied.
    #[serde(rename = "v")]
    pub api_version: String,
    /// Kind.
    #[serde(rename = "k")]
    pub kind: String,
    /// Namespace; absent for cluster-scoped objects.
    #[serde(rename = "ns", default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Name.
    #[serde(rename = "n")]
    pub name: String,
    /// The uid that the API server gave; an object with another uid is another object.
    #[serde(rename = "id")]
    pub uid: String,
    /// Digest of what was applied.
    #[serde(rename = "d")]
    pub digest: String,
    /// Fingerprint of our managedFields entry after the apply, in hexadecimal.
    #[serde(rename = "o")]
    pub ours: String,
    /// metadata.generation after the apply; 0 for kinds without one.
    #[serde(rename = "g", default)]
    pub generation: i64,
    /// Its wave, for the order of deletions.
    #[serde(rename = "w", default, skip_serializing_if = "is_zero")]
    pub wave: i64,
    /// What it says of its pruning: true, confirm or false; `last` behind it, where it goes last.
    #[serde(rename = "p", default, skip_serializing_if = "String::is_empty")]
    pub prune: String,
    /// What it says of its deletion with the application: true, confirm or false.
    #[serde(rename = "x", default, skip_serializing_if = "String::is_empty")]
    pub delete: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_zero(wave: &i64) -> bool {
    *wave == 0
}

/// The inventory: in the status while small, in `ConfigMaps` beside the Application beyond that.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Inventory {
    /// The cluster where they are: `destination.cluster` as it was when they were applied.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cluster: String,
    /// How many objects there are.
    #[serde(default)]
    pub count: usize,
    /// The objects, when they fit (up to 400 entries, about 100 kB).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<InventoryEntry>,
    /// Names of the `ConfigMaps` that hold them otherwise, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chunks: Vec<String>,
    /// Digest of all entries in order; chunks that do not add up to it are refused, and nothing is pruned.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub digest: String,
}
