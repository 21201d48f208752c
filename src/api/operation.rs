//! A sync that has more than one step, written down: where it stands, or how it ended.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a sync stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OperationState {
    /// It goes on.
    #[default]
    Running,
    /// It has failed, and what is to run then is running.
    Failing,
    /// It did everything.
    Succeeded,
    /// It did not.
    Failed,
}

/// A sync.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OperationStatus {
    /// Its name; hooks carry it.
    pub id: String,
    /// How it stands.
    pub state: OperationState,
    /// The digest of what it applies.
    pub rendered_digest: String,
    /// The commits, or versions and digests, one for each source.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revisions: Vec<String>,
    /// The request of a person that it answers.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub request: String,
    /// How often it was tried with this digest, this time included.
    #[serde(default)]
    pub attempt: u32,
    /// When it began (RFC 3339).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub started_at: String,
    /// When it ended (RFC 3339).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub finished_at: String,
    /// When it is tried again (RFC 3339).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub retry_at: String,
    /// Where it waits: phase and wave.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub step: String,
    /// Since when (RFC 3339).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub step_since: String,
    /// What it waits for, or why it failed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The hooks that it ran.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<HookStatus>,
}

/// How a hook's run stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HookState {
    /// It has not ended.
    #[default]
    Running,
    /// It did its work.
    Succeeded,
    /// It did not.
    Failed,
}

/// A hook's run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HookStatus {
    /// Its phase.
    pub phase: String,
    /// `group/version`, or `version` for the core group.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Namespace; absent for cluster-scoped objects.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Its name, or the beginning of it, as Git states it.
    pub name: String,
    /// The name of the object that was made, where Git states its beginning only.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub generated_name: String,
    /// The uid of the object that was made.
    pub uid: String,
    /// How it stands.
    pub state: HookState,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// That its object is let go: deleted, where its policy says so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub released: bool,
}

/// What has left Git and is not deleted yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PruneStatus {
    /// How many objects are held back.
    #[serde(default)]
    pub count: usize,
    /// What lets those go that wait for a word: `driftless sync APP --confirm-prune TOKEN`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub token: String,
    /// Objects that are held back, and why; at most 50 of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<HeldStatus>,
    /// Objects whose deletion was asked for and has not ended; at most 50 of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deleting: Vec<String>,
}

impl PruneStatus {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.count == 0 && self.deleting.is_empty()
    }
}

/// An object that is held back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeldStatus {
    /// The object.
    pub object: String,
    /// Off, Incomplete, Refused, Asks, Protected, Budget or Disallowed (by the Project).
    pub reason: String,
}
