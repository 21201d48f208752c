//! What is done to a cluster: kinds are watched, objects of a stage are applied at once.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::{FutureExt, StreamExt};
use serde_json::Value;

use crate::diff::mask;
use crate::error::{Code, Error, Result};
use crate::health::{self, Health, Status};
use crate::live::kube::{
    Applied, Check, Cluster, Force, Index, Lean, Propagation, Reach, Resource, Seen, Watches, seen,
};
use crate::model::{Gvk, Key};
use crate::plan::{Desired, Inventory, Live, Owned, Prepared, Why};

use super::adopt::is_refusal;
use super::{Drift, Failure, Fights, Held, Neighbours, Outcome, Permissions, Policy};

/// Objects of one application in flight; the cluster has a limit of its own for all of them.
const AT_ONCE: usize = 8;
/// How long a CRD may take to become Established; it is 20 ms on a healthy server.
const ESTABLISH: Duration = Duration::from_secs(30);
/// How long a pass waits for an object that must go before it is made again; later passes go on waiting.
const MAKE_ROOM: Duration = Duration::from_secs(10);

/// What is the same for all objects of a pass.
pub struct Pass<'a> {
    /// The tracking label's value.
    pub label: &'a str,
    /// What the application wants.
    pub prepared: &'a Prepared,
    /// What may be done.
    pub permissions: Permissions,
    /// How carefully.
    pub policy: &'a Policy,
    /// What other Applications say.
    pub neighbours: &'a dyn Neighbours,
    /// What waits for its rollout.
    pub held: &'a Held,
    /// A CRD was applied in this pass, so kinds are asked for at once.
    pub new_kinds: AtomicBool,
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
    /// Where watches must be for these objects: their kinds, and namespaces where a watch reaches no further.
    pub fn places<'a>(&self, objects: impl Iterator<Item = (Gvk, &'a Key)>) -> HashSet<(Gvk, String)> {
        let near = self.watches.reach() == Reach::Namespace;
        objects.map(|(gvk, key)| (gvk, if near { key.namespace.clone() } else { String::new() })).collect()
    }

    /// Watches every place of an application; what cannot be watched is returned. A kind that is not
    /// served yet is no failure here: its CRD may be part of the same application.
    pub async fn watch(&self, places: &HashSet<(Gvk, String)>) -> Vec<(Gvk, Error)> {
        let mut failures = Vec::new();
        for (gvk, namespace) in places {
            let ensured = match self.cluster.resource(gvk, false).await {
                Ok(resource) => self.watches.ensure(gvk, &resource, namespace).await,
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
        if !self.index.is_synced(gvk, &key.namespace) {
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
        let each = (inventory.iter())
            .map(|(key, owned)| (key, self.health_of(&Gvk::parse(&owned.api_version, &key.kind), key)));
        health::worst(each)
    }

    /// The health of one object; what cannot be watched counts as healthy.
    pub(super) fn health_of(&self, gvk: &Gvk, key: &Key) -> Health {
        match self.index.get(key) {
            Some(seen) => seen.health,
            None if self.index.is_synced(gvk, &key.namespace) => {
                Health::new(Status::Missing, "it does not exist")
            }
            None => Health::healthy(),
        }
    }

    /// Applies a stage: its objects at once. What may not be done now is noted as drift or pending.
    pub async fn apply_stage(
        &self,
        pass: &Pass<'_>,
        stage: &[(usize, Why)],
        fights: &mut Fights,
        outcome: &mut Outcome,
    ) {
        let mut todo = Vec::new();
        for (index, why) in stage {
            let object = &pass.prepared.desired[*index];
            if pass.held.get(&object.key).is_some() {
                // What a rollout has in its hands is repaired by it.
                if pass.permissions.apply || *why == Why::Moved {
                    outcome.handed.insert(object.key.clone());
                } else if !why.is_drift() {
                    outcome.pending.push(object.key.clone());
                }
                continue;
            }
            if why.is_drift() {
                let wait = fights.wait(&object.key, Instant::now());
                if !pass.permissions.repair || wait.is_some() {
                    let managers = self.index.get(&object.key).and_then(|seen| seen.last_writer);
                    let managers = managers.map(String::from).into_iter().collect();
                    outcome.drift.push(Drift {
                        key: object.key.clone(),
                        why: *why,
                        managers,
                        repaired: false,
                    });
                    let due = wait.filter(|_| pass.permissions.repair);
                    outcome.due = [outcome.due, due].into_iter().flatten().min();
                    continue;
                }
            } else if !pass.permissions.apply && *why != Why::Moved {
                outcome.pending.push(object.key.clone());
                continue;
            }
            todo.push((object, *why));
        }
        let attempts: Vec<_> =
            todo.into_iter().map(|(object, why)| self.attempt(pass, object, why).boxed()).collect();
        let results: Vec<_> = futures::stream::iter(attempts).buffer_unordered(AT_ONCE).collect().await;
        let mut crds = Vec::new();
        for (object, why, result) in results {
            match result {
                Ok((owned, managers)) => {
                    outcome.inventory.insert(object.key.clone(), owned);
                    if why.is_drift() {
                        fights.repaired(&object.key, Instant::now());
                        outcome.drift.push(Drift { key: object.key.clone(), why, managers, repaired: true });
                    }
                    if object.gvk.is("apiextensions.k8s.io", "CustomResourceDefinition") {
                        crds.push(object.key.clone());
                    }
                    outcome.applied.push((object.key.clone(), why));
                }
                Err(error) => outcome.failures.push(Failure { key: object.key.clone(), error }),
            }
        }
        self.name_blockers(outcome).await;
        if !crds.is_empty() {
            if let Err(error) = self.established(&crds).await {
                outcome.failures.push(error);
            }
            self.cluster.forget_kinds().await;
            pass.new_kinds.store(true, Ordering::Relaxed);
        }
    }

    async fn attempt<'a>(
        &'a self,
        pass: &'a Pass<'_>,
        object: &'a Desired,
        why: Why,
    ) -> (&'a Desired, Why, Result<(Owned, Vec<String>)>) {
        (object, why, self.apply(pass, object, why).await)
    }

    pub(super) async fn apply(
        &self,
        pass: &Pass<'_>,
        object: &Desired,
        why: Why,
    ) -> Result<(Owned, Vec<String>)> {
        let new_kinds = pass.new_kinds.load(Ordering::Relaxed);
        let resource = self
            .cluster
            .resource(&object.gvk, new_kinds)
            .await
            .map_err(|error| error.on_object(&object.key))?;
        resource.holds(&object.key)?;
        if why == Why::New {
            self.watches
                .ensure(&object.gvk, &resource, &object.key.namespace)
                .await
                .map_err(|error| error.on_object(&object.key))?;
        }
        let other =
            self.index.get(&object.key).filter(|seen| !seen.label.is_empty() && *seen.label != *pass.label);
        if let Some(other) = other
            && pass.neighbours.keep(&other.label, &object.key)
        {
            let owner = other.label.replacen('.', "/", 1);
            let why = format!("it belongs to the Application {owner}, which keeps it");
            return Err(Error::new(Code::OwnedByAnother, why).on_object(&object.key));
        }
        let mut managers = Vec::new();
        let scrubbed = |error: Error| scrubbed(error, object);
        let check = Check::lax(object.options.lax);
        if object.options.create_only {
            let made = self.cluster.create(&resource, &object.key, object.body.clone(), check).await;
            return match made.map_err(scrubbed)? {
                Some(lean) => Ok((self.record(object, lean), managers)),
                None => match self.cluster.look(&resource, &object.key).await? {
                    Some(lean) => Ok((self.record(object, lean), managers)),
                    None => Err(gone_meanwhile(&object.key)),
                },
            };
        }
        if why == Why::New {
            self.refuse_stranger(pass, object, &resource).await?;
        }
        if object.options.replace || pass.policy.replace {
            self.cluster
                .replace(&resource, &object.key, object.body.clone(), check)
                .await
                .map_err(scrubbed)?;
        }
        // Without force first where somebody edited: the refusal names who.
        if why == Why::Edited {
            let applied = self.cluster.apply(&resource, &object.key, object.body.clone(), Force::No, check);
            match applied.await.map_err(scrubbed)? {
                Applied::Done(lean) => {
                    let adopted = self.adopt(object, &resource, why, &lean).await?;
                    return Ok((self.record(object, adopted.unwrap_or(*lean)), managers));
                }
                Applied::Conflict(found) => managers = found,
            }
        }
        let applied =
            self.cluster.apply(&resource, &object.key, object.body.clone(), Force::Yes, check).await;
        let applied = match applied {
            Err(error)
                if error.code == Code::FieldImmutable && (object.options.force || pass.policy.force) =>
            {
                self.make_room(&resource, &object.key).await?;
                self.cluster.apply(&resource, &object.key, object.body.clone(), Force::Yes, check).await
            }
            // Killed while it took the object over.
            Err(error) if why == Why::New && is_refusal(error.code) => {
                if !self.let_fields_go(object, &resource).await? {
                    return Err(scrubbed(error));
                }
                self.cluster.apply(&resource, &object.key, object.body.clone(), Force::Yes, check).await
            }
            applied => applied,
        };
        match applied.map_err(scrubbed)? {
            Applied::Done(lean) => {
                let adopted = self.adopt(object, &resource, why, &lean).await?;
                Ok((self.record(object, adopted.unwrap_or(*lean)), managers))
            }
            Applied::Conflict(found) => {
                let why = format!("other managers own its fields: {}", found.join(", "));
                Err(Error::new(Code::ConflictRefused, why).on_object(&object.key))
            }
        }
    }

    /// Deletes an object whose fields cannot be changed, and waits until it is gone.
    async fn make_room(&self, resource: &Resource, key: &Key) -> Result<()> {
        let deadline = Instant::now() + MAKE_ROOM;
        let mut asked = false;
        loop {
            let Some(live) = self.cluster.look(resource, key).await? else { return Ok(()) };
            if !asked {
                let uid = live.metadata.uid.clone().unwrap_or_default();
                self.cluster.delete(resource, key, &uid, Propagation::Foreground).await?;
                asked = true;
            } else if Instant::now() > deadline {
                let finalizers = live.metadata.finalizers.unwrap_or_default().join(", ");
                let why = format!("it is to be made again and is not gone yet; it waits for {finalizers}");
                return Err(Error::new(Code::StillDeleting, why).on_object(key));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Notes what an answer says of an object; what comes of it is told by the watch.
    pub(super) fn saw(&self, gvk: &Gvk, key: &Key, lean: Lean) -> Seen {
        let mut now = seen(gvk, lean);
        if health::reads_status(gvk) {
            now.health = Health::new(Status::Progressing, "it was applied a moment ago");
        }
        if self.index.is_synced(gvk, &key.namespace) {
            self.index.put_applied(key.clone(), now.clone());
        }
        now
    }

    fn record(&self, object: &Desired, lean: Lean) -> Owned {
        let now = self.saw(&object.gvk, &object.key, lean);
        Owned {
            api_version: object.gvk.api_version(),
            uid: now.uid.to_string(),
            digest: object.digest,
            ours: now.ours,
            generation: now.generation,
            wave: object.wave,
            prune: object.options.prune,
            delete: object.options.delete,
            prune_last: object.options.prune_last,
            extraneous: object.options.extraneous,
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
}

/// The server's words without what is secret, and with the place in Git.
pub fn scrubbed(error: Error, object: &Desired) -> Error {
    let value: Value = serde_json::from_slice(&object.body).unwrap_or_default();
    let why = object.hidden.scrub(&mask::scrub(&error.why, &object.gvk, &value));
    let place = format!("{}:{}", object.origin.file, object.origin.line);
    let why = if object.origin.line > 0 { format!("{why} ({place})") } else { why };
    Error { why, ..error }
}

fn gone_meanwhile(key: &Key) -> Error {
    Error::new(Code::ConflictRefused, "it went away between two requests").on_object(key)
}
