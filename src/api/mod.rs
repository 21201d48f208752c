//! The CRDs: what users write and what the agent answers.
//!
//! Types only, with their schemas; what they mean is decided elsewhere. Every field's doc comment is
//! what `kubectl explain` shows.

mod admission;
mod application;
mod condition;
mod crd;
mod gate;
mod health;
mod inventory;
mod operation;
mod project;
mod rollout;
mod source;
mod sync;

pub use application::{
    Application, ApplicationSpec, ApplicationStatus, Deletion, Dependency, Destination, HealthStatus,
    History, HoldState, IgnoreDifference, Rollback, SourceStatus, SyncState,
};
pub use condition::{Condition, ConditionStatus, second, set_condition};
pub use crd::{definitions, yaml};
pub use gate::{
    ApprovalGate, BuiltinMetric, BuiltinQuery, BuiltinSource, CompareErrors, CompareGate, CompareLatency,
    CompareLevels, GateSecret, JobGate, MlflowGate, ObjectGate, PrometheusGate, QueryRange, Reached, WebGate,
    WebMethod, WorkflowGate, WorkflowTemplateReference,
};
pub use health::{CelHealth, HealthRule};
pub use inventory::{Inventory, InventoryEntry};
pub use operation::{HeldStatus, HookState, HookStatus, OperationState, OperationStatus, PruneStatus};
pub use project::{
    ClusterKind, DEFAULT_PROJECT, KindRule, Project, ProjectBudget, ProjectDestination, ProjectKinds,
    ProjectSpec,
};
pub use rollout::{
    BlueGreen, Canary, CanaryAfter, CanaryScale, CanaryStep, Gate, GateAnswer, GateLimits, GateStatus,
    HeaderMatch, IngressRouter, KnownGood, RejectedRevision, Rolling, RolloutAct, RolloutPhase,
    RolloutPolicy, RolloutPolicySpec, RolloutRevision, RolloutStatus, RolloutStrategy, RolloutTraffic,
    RolloutVerb, RouteFields, Shadow, TargetFields, TargetReference, TrafficRoute, Unschedulable,
};
pub use source::{
    Decryption, Directory, HelmFileParameter, HelmOptions, HelmParameter, KustomizeOptions, LocalReference,
    Source, Substitute, SubstituteFrom, SubstituteKind,
};

pub use crate::model::GROUP;
pub use crate::model::TRACKING_LABEL as LABEL;
pub use sync::{
    CreateNamespace, PropagationPolicy, PruneBudget, RetryPolicy, SyncPolicy, SyncWindow, SyncWindowKind,
};

/// Set to any new value, it makes the agent poll and sync at once.
pub const POKE: &str = "driftless.dev/sync-requested";
/// With [`POKE`]: the objects to sync, `Kind/name` or `Kind/namespace/name`, comma between; all where missing.
pub const CHOSEN: &str = "driftless.dev/sync-objects";
/// Lets go what `status.prune` holds: its token.
pub const CONFIRM: &str = "driftless.dev/prune-confirmed";
/// On a `RolloutPolicy`: what a person asks of it, a `RolloutAct` as JSON.
pub const ROLLOUT_REQUEST: &str = "driftless.dev/rollout-request";
/// `true` on an Application that is being deleted: the hooks of its deletion do not run.
pub const SKIP_DELETE_HOOKS: &str = "driftless.dev/skip-delete-hooks";
/// On a hook: the sync that made it.
pub const OPERATION: &str = "driftless.dev/operation";
/// On a hook until its end is written down, or its deletion would take the result away.
pub const HOOK_FINALIZER: &str = "driftless.dev/hook";
/// The finalizer of applications with `deletion: Cascade`.
pub const FINALIZER: &str = "driftless.dev/cascade";
/// The name under which the agent and `driftless apply` own fields.
pub const FIELD_MANAGER: &str = "driftless";

/// The value of [`LABEL`] for an application.
///
/// Namespaces have no dot, so the first dot divides the two without doubt.
pub fn label_value(namespace: &str, name: &str) -> String {
    let full = format!("{namespace}.{name}");
    if full.len() <= 63 {
        return full;
    }
    let digest = crate::model::Digest::of(full.as_bytes()).to_string();
    let mut cut = 63 - 13;
    while !full.is_char_boundary(cut) || !full.as_bytes()[cut - 1].is_ascii_alphanumeric() {
        cut -= 1;
    }
    format!("{}-{}", &full[..cut], &digest[..12])
}
