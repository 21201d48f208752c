//! `Application`: a place in Git, a place in a cluster, and how the second follows the first.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::{
    Condition, ConditionStatus, DEFAULT_PROJECT, Inventory, OperationStatus, PruneStatus, Source, SyncPolicy,
};

/// What should run: a place in Git, a place in the cluster, and how the second follows the first.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "driftless.dev",
    version = "v1alpha1",
    kind = "Application",
    plural = "applications",
    shortname = "dapp",
    category = "driftless",
    namespaced,
    status = "ApplicationStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Sync","type":"string","jsonPath":".status.sync"}"#,
    printcolumn = r#"{"name":"Health","type":"string","jsonPath":".status.health.status"}"#,
    printcolumn = r#"{"name":"Revision","type":"string","jsonPath":".status.appliedRevision"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Message","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type==\"Ready\")].message"}"#,
    validation = Rule::new("has(self.spec.source) != has(self.spec.sources)").message("give either spec.source or spec.sources, not both and not neither")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApplicationSpec {
    /// The Project whose rules count: what may be delivered, from where and to where.
    #[serde(default = "default_project", skip_serializing_if = "is_default_project")]
    #[schemars(length(min = 1, max = 253))]
    pub project: String,
    /// Where the manifests are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// Several places, whose objects are delivered together. At most 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 20))]
    pub sources: Option<Vec<Source>>,
    /// Where the objects go.
    #[serde(default)]
    pub destination: Destination,
    /// How the cluster follows Git.
    #[serde(default)]
    pub sync: SyncPolicy,
    /// Applications that must be Ready before a new commit is applied here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub depends_on: Vec<Dependency>,
    /// Differences that are neither reported nor repaired.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub ignore_differences: Vec<IgnoreDifference>,
    /// How kinds of this application are judged, before what driftless knows of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub health: Vec<crate::api::HealthRule>,
    /// What happens to the objects when this Application is deleted.
    #[serde(default)]
    pub deletion: Deletion,
    /// Stops all writes for this application while set; reading and reporting go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<HoldState>,
    /// Holds the application at an older revision until removed (`driftless rollback`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<Rollback>,
    /// How many past revisions status.history keeps.
    #[serde(default = "ten", skip_serializing_if = "is_ten")]
    #[schemars(range(min = 1, max = 100))]
    pub history_limit: usize,
}

fn default_project() -> String {
    DEFAULT_PROJECT.to_owned()
}

fn is_default_project(name: &str) -> bool {
    name == DEFAULT_PROJECT
}

fn ten() -> usize {
    10
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_ten(limit: &usize) -> bool {
    *limit == 10
}

impl ApplicationSpec {
    /// The sources, one or several.
    pub fn sources(&self) -> impl Iterator<Item = &Source> {
        self.source.iter().chain(self.sources.iter().flatten())
    }
}

impl Application {
    /// A condition of its status.
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        self.status.as_ref()?.condition(kind)
    }
}

impl ApplicationStatus {
    /// A condition.
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        self.conditions.iter().find(|found| found.kind == kind)
    }

    /// Whether a condition is True.
    pub fn holds(&self, kind: &str) -> bool {
        self.condition(kind).is_some_and(|found| found.status == ConditionStatus::True)
    }
}

/// Where the objects go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Destination {
    /// Namespace of objects that state none; the Application's own where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
    /// The cluster, where it is not the agent's own: a Secret in the Application's namespace whose key `kubeconfig` (or
    /// `value`, `value.yaml`) holds a kubeconfig with a token or a client certificate. Plugins and files are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub cluster: Option<String>,
    /// In whose name everything is done for this application, reads included: a ServiceAccount of the Application's
    /// namespace, in the destination's cluster and in the agent's own. Where none is stated: the agent's
    /// `--default-service-account`, else the agent itself (in another cluster: the kubeconfig's user).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub service_account: Option<String>,
}

/// Fields whose difference is neither reported nor repaired; they are left out of what is applied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.pointers) || has(self.jq) || has(self.managers)",
     "message": "say what to ignore: pointers, jq or managers"}]))]
pub struct IgnoreDifference {
    /// API group; empty is the core group, "*" any; where absent, any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Kind, or "*".
    #[schemars(length(min = 1, max = 253))]
    pub kind: String,
    /// Namespace; a glob; any where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name; a glob; any where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// JSON pointers (RFC 6901), such as /spec/replicas.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub pointers: Vec<String>,
    /// jq path expressions, such as .spec.template.spec.containers[] | select(.name=="proxy").
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub jq: Vec<String>,
    /// Field managers: whatever one of them owns in the live object.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub managers: Vec<String>,
}

/// Another Application.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Dependency {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its namespace; that of this Application where not given.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
}

/// What happens to the objects when the Application is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Deletion {
    /// They stay and go on running.
    #[default]
    Orphan,
    /// They are deleted too, by inventory.
    Cascade,
}

/// Who stopped the application, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HoldState {
    /// Who.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// Since when (RFC 3339).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub since: String,
    /// Until when (RFC 3339); until somebody resumes it where not given.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub until: String,
}

/// An older revision to stay at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rollback {
    /// Full commit ids, or digests (sha256:..., 1.2.3@sha256:...), one for each source.
    #[schemars(length(min = 1, max = 20))]
    pub revisions: Vec<String>,
    /// Who asked for it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
    /// Since when (RFC 3339).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub since: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_none(count: &usize) -> bool {
    *count == 0
}

/// Whether the cluster is as Git wants it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SyncState {
    /// Everything is as wanted.
    Synced,
    /// Something differs.
    OutOfSync,
    /// It cannot be said.
    #[default]
    Unknown,
}

/// The worst health of all objects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HealthStatus {
    /// Healthy, Progressing, Degraded, Suspended, Missing or Unknown.
    pub status: String,
    /// The object that is the cause, and why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// One revision that was applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct History {
    /// Counts up by one; the newest is last.
    pub id: u64,
    /// The commits, or of charts and artifacts the version or tag and digest, one for each source.
    pub revisions: Vec<String>,
    /// Digest of the rendered objects.
    pub rendered_digest: String,
    /// When it was applied in full (RFC 3339).
    pub applied_at: String,
    /// First line of the commit message; of a chart its name and version.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subject: String,
    /// Author of the commit; of an artifact, where it names one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub author: String,
}

/// What is known of one source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceStatus {
    /// Where it is from.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub repo: String,
    /// What the revision stands for there: `refs/heads/main`, `refs/tags/v1.2.0`, a version; empty for what was named
    /// by itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reference: String,
    /// The commit, or version or tag and digest, that was seen last.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub revision: String,
}

/// What the agent sees and did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApplicationStatus {
    /// The metadata.generation that this status describes.
    #[serde(default)]
    pub observed_generation: i64,
    /// The head of the source when this status was written; of the first source where there are several.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub observed_revision: String,
    /// The last commit applied in full that changed something this application reads.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub applied_revision: String,
    /// Each source, in the order of the spec.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<SourceStatus>,
    /// Digest of the rendered objects that were applied.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub rendered_digest: String,
    /// Synced, `OutOfSync` or Unknown.
    #[serde(default)]
    pub sync: SyncState,
    /// The worst health of all objects.
    #[serde(default)]
    pub health: HealthStatus,
    /// The last sync request (annotation driftless.dev/sync-requested) that was carried out.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub last_sync_request: String,
    /// Past revisions, the newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
    /// The last sync that had more than one step: where it stands, or how it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<OperationStatus>,
    /// How many hooks run when the application is deleted with its objects.
    #[serde(default, skip_serializing_if = "is_none")]
    pub delete_hooks: usize,
    /// What has left Git and is not deleted yet.
    #[serde(default, skip_serializing_if = "PruneStatus::is_empty")]
    pub prune: PruneStatus,
    /// What this application owns.
    #[serde(default)]
    pub inventory: Inventory,
    /// Ready, Reconciling, Stalled, `SourceReady`, Rendered, Applied, Healthy, Drifted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
