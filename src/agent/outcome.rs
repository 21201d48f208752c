//! What a pass did.

use std::collections::HashSet;
use std::time::Duration;

use crate::api::{OperationStatus, PruneStatus};
use crate::error::Error;
use crate::health::Health;
use crate::model::Key;
use crate::plan::{Inventory, Why};

/// One object that could not be done.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Which.
    pub key: Key,
    /// Why.
    pub error: Error,
}

impl Failure {
    /// Of an error that names its object itself.
    pub(super) fn of(error: Error) -> Self {
        let empty = String::new;
        Self { key: Key { group: empty(), kind: empty(), namespace: empty(), name: empty() }, error }
    }
}

/// What a pass may do.
#[derive(Clone, Copy, Debug)]
pub struct Permissions {
    /// Apply what Git changed.
    pub apply: bool,
    /// Repair what others changed.
    pub repair: bool,
}

/// One object whose live state was changed by somebody else.
#[derive(Clone, Debug)]
pub struct Drift {
    /// Which.
    pub key: Key,
    /// How.
    pub why: Why,
    /// The other managers, where known.
    pub managers: Vec<String>,
    /// Whether it was repaired in this pass.
    pub repaired: bool,
}

impl Drift {
    /// ` by a, b`; empty where nobody is known.
    pub fn by(&self) -> String {
        if self.managers.is_empty() { String::new() } else { format!(" by {}", self.managers.join(", ")) }
    }
}

/// What a pass did.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// What is owned now.
    pub inventory: Inventory,
    /// What was applied, with the reason.
    pub applied: Vec<(Key, Why)>,
    /// What was deleted.
    pub pruned: Vec<Key>,
    /// What could not be done.
    pub failures: Vec<Failure>,
    /// What others changed.
    pub drift: Vec<Drift>,
    /// What waits for a permission.
    pub pending: Vec<Key>,
    /// What waits for its rollout, and the sync has come to.
    pub handed: HashSet<Key>,
    /// Targets whose users do not get yet what Git wants, with why.
    pub rolling: Vec<(Key, Health)>,
    /// When a repair that was put off is due.
    pub due: Option<Duration>,
    /// What the next step waits for; empty where nothing does.
    pub waits: String,
    /// Why a sync did not begin, where it is not one of the permissions: a window, another application.
    pub stays: Option<Stay>,
    /// The sync, where it has more than one step.
    pub operation: Option<OperationStatus>,
    /// How many hooks the deletion of the application has.
    pub delete_hooks: usize,
    /// Something that has left Git and stays makes the cluster differ from it.
    pub extra: bool,
    /// What has left Git and is not deleted.
    pub prune: PruneStatus,
}

/// Why nothing is applied though it could be.
#[derive(Clone, Debug)]
pub struct Stay {
    /// The reason of a condition.
    pub reason: &'static str,
    /// In words.
    pub why: String,
}

impl Outcome {
    /// Whether anything was written.
    pub fn wrote(&self) -> bool {
        !self.applied.is_empty() || !self.pruned.is_empty()
    }
}
