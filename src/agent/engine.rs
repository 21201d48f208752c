//! Carries a plan out: stages in order, objects of a stage at once, deletions last.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{FutureExt, StreamExt};
use serde_json::Value;

use crate::diff::mask;
use crate::error::{Code, Error, Result};
use crate::health::{self, Health, Status};
use crate::live::kube::{Applied, Cluster, Force, Index, Lean, Seen, Watches, seen};
use crate::model::{Gvk, Key};
use crate::plan::{Desired, Inventory, Live, Owned, Plan, Why};

/// Objects of one application in flight; the cluster has a limit of its own for all of them.
const AT_ONCE: usize = 8;
/// How long a CRD may take to become Established; it is 20 ms on a healthy server.
const ESTABLISH: Duration = Duration::from_secs(30);
/// Repairs of one object within a minute before it counts as a fight.
const FREE_REPAIRS: u32 = 3;

/// One object that could not be done.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Which.
    pub key: Key,
    /// Why.
    pub error: Error,
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
    /// When a repair that was put off is due.
    pub due: Option<Duration>,
}

impl Outcome {
    /// Whether anything was written.
    pub fn wrote(&self) -> bool {
        !self.applied.is_empty() || !self.pruned.is_empty()
    }
}

/// Repairs of one object, to notice somebody who undoes them.
#[derive(Clone, Debug)]
struct Fight {
    repairs: u32,
    last: Instant,
}

/// The repairs of one application that are not long ago.
#[derive(Clone, Debug, Default)]
pub struct Fights(HashMap<Key, Fight>);

impl Fights {
    /// How long to wait before repairing once more; `None` for at once. 2 s doubling to 5 min.
    fn wait(&self, key: &Key, now: Instant) -> Option<Duration> {
        let fight = self.0.get(key).filter(|fight| fight.repairs >= FREE_REPAIRS)?;
        let pause =
            Duration::from_secs(2u64 << (fight.repairs - FREE_REPAIRS).min(8)).min(Duration::from_secs(300));
        (fight.last + pause).checked_duration_since(now).filter(|wait| !wait.is_zero())
    }

    fn repaired(&mut self, key: &Key, now: Instant) {
        // Quiet for a minute, or for twice the last pause: a new quarrel, not the old one.
        self.0.retain(|_, fight| {
            let pause = Duration::from_secs(60u64 << fight.repairs.saturating_sub(FREE_REPAIRS).min(4));
            now.duration_since(fight.last) < pause
        });
        let fight = self.0.entry(key.clone()).or_insert(Fight { repairs: 0, last: now });
        fight.repairs += 1;
        fight.last = now;
    }

    /// Objects that somebody keeps changing.
    pub fn hot(&self) -> impl Iterator<Item = &Key> {
        self.0.iter().filter(|(_, fight)| fight.repairs >= FREE_REPAIRS).map(|(key, _)| key)
    }
}

/// Does passes against one cluster.
pub struct Engine {
    /// The connection.
    pub cluster: Arc<Cluster>,
    /// What is live.
    pub index: Arc<Index>,
    /// What keeps the index.
    pub watches: Arc<Watches>,
}

impl Engine {
    /// Watches every kind of an application; what cannot be watched is returned. A kind that is not
    /// served yet is no failure here: its CRD may be part of the same application.
    pub async fn watch(&self, kinds: &HashSet<Gvk>) -> Vec<(Gvk, Error)> {
        let mut failures = Vec::new();
        for gvk in kinds {
            let ensured = match self.cluster.resource(gvk, false).await {
                Ok(resource) => self.watches.ensure(gvk, &resource).await,
                Err(error) if error.code == Code::KindUnknown => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = ensured {
                failures.push((gvk.clone(), error));
            }
        }
        failures
    }

    /// What is known of an object.
    pub fn live(&self, gvk: &Gvk, key: &Key) -> Live {
        if !self.index.is_synced(gvk) {
            return Live::Unknown;
        }
        match self.index.get(key) {
            None => Live::Absent,
            Some(seen) => Live::Present {
                uid: seen.uid.into(),
                ours: seen.ours,
                generation: seen.generation,
                deleting: seen.deleting,
                label: seen.label.into(),
            },
        }
    }

    /// The health of everything owned.
    pub fn health(&self, inventory: &Inventory) -> Health {
        let each = inventory.iter().map(|(key, owned)| {
            let gvk = Gvk::parse(&owned.api_version, &key.kind);
            let health = match self.index.get(key) {
                Some(seen) => seen.health,
                None if self.index.is_synced(&gvk) => Health::new(Status::Missing, "it does not exist"),
                None => Health::healthy(),
            };
            (key, health)
        });
        health::worst(each)
    }

    /// Carries out a plan. `is_application` tells whether a tracking label belongs to another live
    /// Application.
    #[expect(
        clippy::too_many_arguments,
        reason = "one call in the agent, one in apply; a struct would only rename them"
    )]
    pub async fn execute(
        &self,
        label: &str,
        desired: &[Desired],
        plan: &Plan,
        inventory: Inventory,
        permissions: Permissions,
        fights: &mut Fights,
        is_application: &(dyn Fn(&str) -> bool + Sync),
    ) -> Outcome {
        let mut outcome = Outcome { inventory, ..Outcome::default() };
        let mut new_kinds = false;
        for stage in &plan.stages {
            let mut todo = Vec::new();
            for (index, why) in stage {
                let object = &desired[*index];
                if why.is_drift() {
                    let wait = fights.wait(&object.key, Instant::now());
                    if !permissions.repair || wait.is_some() {
                        let managers = self.index.get(&object.key).and_then(|seen| seen.last_writer);
                        let managers = managers.map(String::from).into_iter().collect();
                        outcome.drift.push(Drift {
                            key: object.key.clone(),
                            why: *why,
                            managers,
                            repaired: false,
                        });
                        outcome.due =
                            [outcome.due, wait.filter(|_| permissions.repair)].into_iter().flatten().min();
                        continue;
                    }
                } else if !permissions.apply && *why != Why::Moved {
                    outcome.pending.push(object.key.clone());
                    continue;
                }
                todo.push((object, *why));
            }
            let attempts: Vec<_> = todo
                .into_iter()
                .map(|(object, why)| self.attempt(label, object, why, new_kinds, is_application).boxed())
                .collect();
            let results: Vec<_> = futures::stream::iter(attempts).buffer_unordered(AT_ONCE).collect().await;
            let mut crds = Vec::new();
            for (object, why, result) in results {
                match result {
                    Ok((owned, managers)) => {
                        outcome.inventory.insert(object.key.clone(), owned);
                        if why.is_drift() {
                            fights.repaired(&object.key, Instant::now());
                            outcome.drift.push(Drift {
                                key: object.key.clone(),
                                why,
                                managers,
                                repaired: true,
                            });
                        }
                        if object.gvk.is("apiextensions.k8s.io", "CustomResourceDefinition") {
                            crds.push(object.key.clone());
                        }
                        outcome.applied.push((object.key.clone(), why));
                    }
                    Err(error) => outcome.failures.push(Failure { key: object.key.clone(), error }),
                }
            }
            if !crds.is_empty() {
                if let Err(error) = self.established(&crds).await {
                    outcome.failures.push(error);
                }
                self.cluster.forget_kinds().await;
                new_kinds = true;
            }
        }
        if !outcome.failures.is_empty() {
            return outcome;
        }
        if !permissions.apply {
            outcome.pending.extend(plan.prune.iter().map(|(key, _)| key.clone()));
            return outcome;
        }
        for (key, owned) in &plan.prune {
            match self.prune(label, key, owned).await {
                Ok(deleted) => {
                    outcome.inventory.remove(key);
                    if deleted {
                        outcome.pruned.push(key.clone());
                    }
                }
                Err(error) => {
                    outcome.failures.push(Failure { key: key.clone(), error });
                    // I2: whatever refuses one deletion, the others wait for a pass that knows more.
                    break;
                }
            }
        }
        outcome
    }

    async fn attempt<'a>(
        &'a self,
        label: &'a str,
        object: &'a Desired,
        why: Why,
        new_kinds: bool,
        is_application: &'a (dyn Fn(&str) -> bool + Sync),
    ) -> (&'a Desired, Why, Result<(Owned, Vec<String>)>) {
        (object, why, self.apply(label, object, why, new_kinds, is_application).await)
    }

    async fn apply(
        &self,
        label: &str,
        object: &Desired,
        why: Why,
        new_kinds: bool,
        is_application: &(dyn Fn(&str) -> bool + Sync),
    ) -> Result<(Owned, Vec<String>)> {
        let resource = self
            .cluster
            .resource(&object.gvk, new_kinds)
            .await
            .map_err(|error| error.on_object(&object.key))?;
        if why == Why::New {
            self.watches
                .ensure(&object.gvk, &resource)
                .await
                .map_err(|error| error.on_object(&object.key))?;
            let other =
                self.index.get(&object.key).filter(|seen| !seen.label.is_empty() && *seen.label != *label);
            if let Some(other) = other
                && is_application(&other.label)
            {
                let owner = other.label.replacen('.', "/", 1);
                let why = format!("it belongs to the Application {owner}, which keeps it");
                return Err(Error::new(Code::OwnedByAnother, why).on_object(&object.key));
            }
        }
        let mut managers = Vec::new();
        let scrubbed = |error: Error| {
            let value: Value = serde_json::from_slice(&object.body).unwrap_or_default();
            let place = format!("{}:{}", object.origin.file, object.origin.line);
            let why = object.hidden.scrub(&mask::scrub(&error.why, &object.gvk, &value));
            let why = if object.origin.line > 0 { format!("{why} ({place})") } else { why };
            Error { why, ..error }
        };
        // Without force first where somebody edited: the refusal names who.
        if why == Why::Edited {
            match self
                .cluster
                .apply(&resource, &object.key, object.body.clone(), Force::No)
                .await
                .map_err(scrubbed)?
            {
                Applied::Done(lean) => return Ok((self.record(object, *lean), managers)),
                Applied::Conflict(found) => managers = found,
            }
        }
        match self
            .cluster
            .apply(&resource, &object.key, object.body.clone(), Force::Yes)
            .await
            .map_err(scrubbed)?
        {
            Applied::Done(lean) => Ok((self.record(object, *lean), managers)),
            Applied::Conflict(found) => {
                let why = format!("other managers own its fields: {}", found.join(", "));
                Err(Error::new(Code::ConflictRefused, why).on_object(&object.key))
            }
        }
    }

    fn record(&self, object: &Desired, lean: Lean) -> Owned {
        let mut now = seen(&object.gvk, lean);
        if health::reads_status(&object.gvk) {
            now.health = Health::new(Status::Progressing, "it was applied a moment ago");
        }
        let owned = Owned {
            api_version: object.gvk.api_version(),
            uid: now.uid.to_string(),
            digest: object.digest,
            ours: now.ours,
            generation: now.generation,
        };
        if self.index.is_synced(&object.gvk) {
            self.index.put_applied(object.key.clone(), now);
        }
        owned
    }

    /// `false`: it was gone, or it has moved to another application.
    async fn prune(&self, label: &str, key: &Key, owned: &Owned) -> Result<bool> {
        let moved = |seen: &Seen| !seen.label.is_empty() && *seen.label != *label;
        if self.index.get(key).as_ref().is_some_and(moved) {
            return Ok(false);
        }
        let gvk = Gvk::parse(&owned.api_version, &key.kind);
        match self.cluster.resource(&gvk, false).await {
            Ok(resource) => self.cluster.delete(&resource, key, &owned.uid).await,
            // With its kind gone, the object is gone.
            Err(error) if error.code == Code::KindUnknown => Ok(false),
            Err(error) => Err(error.on_object(key)),
        }
    }

    async fn established(&self, crds: &[Key]) -> std::result::Result<(), Failure> {
        let deadline = Instant::now() + ESTABLISH;
        for key in crds {
            loop {
                let health = self.index.get(key).map(|seen| seen.health);
                match health {
                    Some(health) if health.status == Status::Healthy => break,
                    Some(health) if health.status == Status::Degraded || Instant::now() > deadline => {
                        let error = Error::new(Code::CrdNotEstablished, health.reason).on_object(key);
                        return Err(Failure { key: key.clone(), error });
                    }
                    None if Instant::now() > deadline => {
                        let error =
                            Error::new(Code::CrdNotEstablished, "the watch has not seen it").on_object(key);
                        return Err(Failure { key: key.clone(), error });
                    }
                    _ => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        }
        Ok(())
    }

    /// Deletes everything an application owns, for a cascade. Returns what is left.
    pub async fn delete_all(&self, label: &str, inventory: &Inventory) -> Result<Inventory> {
        let plan = crate::plan::plan(&[], inventory, label, |_| Live::Unknown, true, true);
        let mut left = inventory.clone();
        for (key, owned) in &plan.prune {
            self.prune(label, key, owned).await?;
            left.remove(key);
        }
        Ok(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fight_is_paused_longer_each_time() {
        let key =
            Key { group: String::new(), kind: "ConfigMap".into(), namespace: "n".into(), name: "a".into() };
        let mut fights = Fights::default();
        let mut now = Instant::now();
        let mut waits = Vec::new();
        for _ in 0..12 {
            waits.push(fights.wait(&key, now).map_or(0, |wait| wait.as_secs()));
            now += fights.wait(&key, now).unwrap_or_default();
            fights.repaired(&key, now);
        }
        assert_eq!(waits, [0, 0, 0, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        assert_eq!(fights.hot().count(), 1);
        assert_eq!(fights.wait(&key, now + Duration::from_secs(301)), None);
    }
}
