//! `Project`: what the Applications of some namespaces may deliver, from where and to where.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::SyncWindow;

/// The Project of Applications that name none.
pub const DEFAULT_PROJECT: &str = "default";

/// What the Applications of some namespaces may deliver, from where and to where. Cluster-scoped, so that who may write
/// Applications in a namespace cannot write its own rules.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "driftless.dev",
    version = "v1alpha1",
    kind = "Project",
    plural = "projects",
    shortname = "dproj",
    category = "driftless",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Namespaces","type":"string","jsonPath":".spec.namespaces"}"#,
    printcolumn = r#"{"name":"Repositories","type":"string","jsonPath":".spec.repositories"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Description","type":"string","priority":1,"jsonPath":".spec.description"}"#
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProjectSpec {
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1000))]
    pub description: String,
    /// Globs: Applications of these namespaces may name this Project.
    #[schemars(length(min = 1, max = 100), inner(length(min = 1, max = 63)))]
    pub namespaces: Vec<String>,
    /// Patterns of what sources may name, such as `https://git.example/ml/*`: `*` is a segment or a part of one, `**` any
    /// number of segments. Empty: every repository but those on the agent's own disk.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200), inner(length(min = 1, max = 500)))]
    pub repositories: Vec<String>,
    /// Where objects may go. Empty: into the Application's own namespace, in the cluster of the agent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub destinations: Vec<ProjectDestination>,
    /// Which namespaced kinds may be delivered. Not given: all but those of RBAC.
    #[serde(default, skip_serializing_if = "ProjectKinds::is_empty")]
    pub kinds: ProjectKinds,
    /// Which kinds that live in no namespace may be delivered: CRDs, webhooks, `ClusterRoles`, Namespaces. Empty: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub cluster_kinds: Vec<ClusterKind>,
    /// When syncs may happen; those of the Application must let it through too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub windows: Vec<SyncWindow>,
    /// How much may be deleted at once without a word; the stricter of this and of what the Application says counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prune_budget: Option<ProjectBudget>,
}

/// A place where objects may go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProjectDestination {
    /// What `spec.destination.cluster` must be, a glob. Empty: the cluster of the agent, and no other.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub cluster: String,
    /// Globs of namespaces. Empty: the Application's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(min = 1, max = 63)))]
    pub namespaces: Vec<String>,
    /// Globs: the Application must name one of these accounts as `spec.destination.serviceAccount`. Empty: any or none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(min = 1, max = 253)))]
    pub service_accounts: Vec<String>,
}

/// Which namespaced kinds may be delivered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProjectKinds {
    /// These and no others. Not given: all but those of RBAC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100))]
    pub allow: Option<Vec<KindRule>>,
    /// Never these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub deny: Vec<KindRule>,
}

impl ProjectKinds {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Kinds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KindRule {
    /// API group, a glob; empty is the core group.
    #[serde(default)]
    #[schemars(length(max = 253))]
    pub group: String,
    /// Kind, a glob.
    #[schemars(length(min = 1, max = 253))]
    pub kind: String,
}

/// Kinds that live in no namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterKind {
    /// API group, a glob; empty is the core group.
    #[serde(default)]
    #[schemars(length(max = 253))]
    pub group: String,
    /// Kind, a glob.
    #[schemars(length(min = 1, max = 253))]
    pub kind: String,
    /// Globs of names; any where empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(min = 1, max = 253)))]
    pub names: Vec<String>,
}

/// How much may be deleted in one sync without a word.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProjectBudget {
    /// At most so many objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<usize>,
    /// At most this share of what an application owns, in percent, where it owns more than ten objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 100))]
    pub percent: Option<u8>,
}
