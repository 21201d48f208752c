//! Deletions: the last wave first, each object with exactly the uid that was made, and nothing that has moved.

use super::{Engine, Failure, Outcome};
use crate::error::{Code, Result};
use crate::live::kube::{Deleted, Propagation, Seen};
use crate::model::{Gvk, Key};
use crate::plan::{Consent, Inventory, Owned, waves};

/// What a round of deletions came to.
pub(super) enum Round {
    /// Nothing is left of it.
    Done,
    /// These are on their way; what comes after them waits.
    Waits(Vec<Key>),
    /// One was refused; the others wait for a pass that knows more (I2).
    Refused,
}

impl Engine {
    /// Deletes, wave by wave. Where there are several waves, the next begins when one has gone.
    pub(super) async fn prune(
        &self,
        label: &str,
        objects: Vec<(Key, Owned)>,
        propagation: Option<Propagation>,
        outcome: &mut Outcome,
    ) -> Round {
        let waves = waves(objects);
        let several = waves.len() > 1;
        let how =
            propagation.unwrap_or(if several { Propagation::Foreground } else { Propagation::Background });
        for (number, wave) in waves.iter().enumerate() {
            let mut leaving = Vec::new();
            for (key, owned) in wave {
                match self.delete(label, key, owned, how).await {
                    Ok(Deleted::Leaving) => {
                        outcome.pruned.push(key.clone());
                        leaving.push(key.clone());
                    }
                    Ok(deleted) => {
                        outcome.inventory.remove(key);
                        if deleted == Deleted::Gone {
                            outcome.pruned.push(key.clone());
                        }
                    }
                    Err(error) => {
                        outcome.failures.push(Failure { key: key.clone(), error });
                        return Round::Refused;
                    }
                }
            }
            if !leaving.is_empty() && number + 1 < waves.len() {
                return Round::Waits(leaving);
            }
        }
        Round::Done
    }

    async fn delete(&self, label: &str, key: &Key, owned: &Owned, how: Propagation) -> Result<Deleted> {
        let moved = |seen: &Seen| !seen.label.is_empty() && *seen.label != *label;
        if self.index.get(key).as_ref().is_some_and(moved) {
            return Ok(Deleted::NotThere);
        }
        let gvk = Gvk::parse(&owned.api_version, &key.kind);
        let resource = match self.cluster.resource(&gvk, false).await {
            Ok(resource) => resource,
            // With its kind gone, the object is gone.
            Err(error) if error.code == Code::KindUnknown => return Ok(Deleted::NotThere),
            Err(error) => return Err(error.on_object(key)),
        };
        // What a watch says may be old; what is deleted is looked at first, where nothing is old.
        match self.cluster.look(&resource, key).await? {
            Some(live) if live.metadata.uid.as_deref() == Some(&owned.uid) => {
                if !live.label.is_empty() && live.label != label {
                    return Ok(Deleted::NotThere);
                }
                self.cluster.delete(&resource, key, &owned.uid, how).await
            }
            _ => Ok(Deleted::NotThere),
        }
    }

    /// Deletes everything an application owns, for a cascade, except what refuses it. Returns what is left: what is on
    /// its way, or waits for that.
    pub(super) async fn delete_all(
        &self,
        label: &str,
        inventory: &Inventory,
        propagation: Option<Propagation>,
    ) -> (Inventory, Vec<Failure>) {
        let all = inventory.iter().filter(|(_, owned)| owned.delete != Consent::Refused);
        let all: Vec<(Key, Owned)> = all.map(|(key, owned)| (key.clone(), owned.clone())).collect();
        let mut outcome = Outcome { inventory: all.iter().cloned().collect(), ..Outcome::default() };
        self.prune(label, all, propagation, &mut outcome).await;
        (outcome.inventory, outcome.failures)
    }
}
