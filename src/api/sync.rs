//! How the cluster follows Git: what is done by itself, when, and how carefully.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the cluster follows Git.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches, as users know them")]
pub struct SyncPolicy {
    /// Apply new commits by itself; false waits for `driftless sync`.
    #[serde(default = "yes")]
    pub automated: bool,
    /// Delete objects that were removed from Git.
    #[serde(default = "yes")]
    pub prune: bool,
    /// Repair edits and deletions made in the cluster; false only reports them.
    #[serde(default = "yes")]
    pub self_heal: bool,
    /// Accept a source that renders to no object at all, which deletes everything that is managed.
    #[serde(default)]
    pub allow_empty: bool,
    /// How long a wave or a hook may take to become healthy or to end, such as 30m; then the sync has failed.
    #[serde(default = "half_an_hour", skip_serializing_if = "is_half_an_hour")]
    #[schemars(length(max = 20))]
    pub wait_limit: String,
    /// How a sync that failed in a hook or a wave is tried again; requests that fail are always tried again.
    #[serde(default, skip_serializing_if = "RetryPolicy::is_default")]
    pub retry: RetryPolicy,
    /// When syncs may happen; always where empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub windows: Vec<SyncWindow>,
    /// How much may be deleted at once without a word.
    #[serde(default, skip_serializing_if = "PruneBudget::is_default")]
    pub prune_budget: PruneBudget,
    /// Delete `PersistentVolumeClaim`, `PersistentVolume`, Namespace, CRD, `StatefulSet`, serving services and our own
    /// kinds without a word too.
    #[serde(default, skip_serializing_if = "is_false")]
    pub prune_protected: bool,
    /// Delete only when everything else is healthy.
    #[serde(default, skip_serializing_if = "is_false")]
    pub prune_last: bool,
    /// What a deletion does to the objects that hang on the deleted one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prune_propagation: Option<PropagationPolicy>,
    /// Replace objects as a whole, not merge them.
    #[serde(default, skip_serializing_if = "is_false")]
    pub replace: bool,
    /// Delete an object and make it again where a field of it cannot be changed.
    #[serde(default, skip_serializing_if = "is_false")]
    pub force: bool,
    /// Take over objects that are there already and belong to no Application, whoever made them; false refuses them.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub adopt: bool,
    /// Make the destination's namespace if it is not there. Git wins where it states the namespace itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create_namespace: Option<CreateNamespace>,
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_true(value: &bool) -> bool {
    *value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_false(value: &bool) -> bool {
    !*value
}

fn half_an_hour() -> String {
    "30m".to_owned()
}

fn is_half_an_hour(text: &str) -> bool {
    text == "30m"
}

impl Default for SyncPolicy {
    fn default() -> Self {
        Self {
            automated: true,
            prune: true,
            self_heal: true,
            allow_empty: false,
            wait_limit: half_an_hour(),
            retry: RetryPolicy::default(),
            windows: Vec::new(),
            prune_budget: PruneBudget::default(),
            prune_protected: false,
            prune_last: false,
            prune_propagation: None,
            replace: false,
            force: false,
            adopt: true,
            create_namespace: None,
        }
    }
}

/// How a failed sync is tried again. A newer commit never waits for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RetryPolicy {
    /// How often after the first time; -1 for ever.
    #[serde(default = "five")]
    #[schemars(range(min = -1, max = 1000))]
    pub limit: i32,
    /// The first wait, such as 5s.
    #[serde(default = "five_seconds")]
    #[schemars(length(max = 20))]
    pub backoff: String,
    /// What each further wait is multiplied with.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 10))]
    pub factor: u32,
    /// The longest wait, such as 3m.
    #[serde(default = "three_minutes")]
    #[schemars(length(max = 20))]
    pub max_backoff: String,
}

fn five() -> i32 {
    5
}

fn two() -> u32 {
    2
}

fn five_seconds() -> String {
    "5s".to_owned()
}

fn three_minutes() -> String {
    "3m".to_owned()
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { limit: five(), backoff: five_seconds(), factor: two(), max_backoff: three_minutes() }
    }
}

impl RetryPolicy {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Whether a window opens or closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SyncWindowKind {
    /// Syncs happen in it, and outside all such windows they do not.
    Allow,
    /// No sync happens in it.
    Deny,
}

/// A time in which syncs happen, or do not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SyncWindow {
    /// Allow or Deny; Deny wins.
    pub kind: SyncWindowKind,
    /// When it opens: minute, hour, day, month, weekday.
    #[schemars(length(min = 9, max = 200))]
    pub schedule: String,
    /// How long it stays open, such as 1h30m.
    #[schemars(length(min = 2, max = 20))]
    pub duration: String,
    /// Time zone of the schedule (IANA), UTC where empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 100))]
    pub time_zone: String,
    /// Let `driftless sync` through.
    #[serde(default, skip_serializing_if = "is_false")]
    pub manual: bool,
}

/// How much may be deleted in one sync without a word. Beyond, deletions wait for `driftless sync --confirm-prune`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PruneBudget {
    /// At most so many objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<usize>,
    /// At most this share of what the application owns, in percent, where it owns more than ten objects.
    #[serde(default = "half")]
    #[schemars(range(max = 100))]
    pub percent: u8,
}

fn half() -> u8 {
    50
}

impl Default for PruneBudget {
    fn default() -> Self {
        Self { count: None, percent: half() }
    }
}

impl PruneBudget {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What a deletion does to the objects that hang on the deleted one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PropagationPolicy {
    /// They go first, and the deletion waits for them. What is done where objects have waves.
    Foreground,
    /// They go afterwards. What is done otherwise.
    Background,
    /// They stay.
    Orphan,
}

/// A namespace that is made where it is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateNamespace {
    /// Labels to give it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations to give it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}
