//! What divides the traffic, written.

use std::time::Instant;

use serde_json::Value;

use super::acts::{value, with_body};
use super::course::{Course, Whence};
use super::scene::{Scene, beside};
use crate::agent::Drift;
use crate::api::RolloutPhase;
use crate::error::{Code, Error, Result};
use crate::model::{Digest, Key};
use crate::plan::{Desired, Why};
use crate::rollout::Routed;
use crate::rollout::target::{Beside, revision_of};
use crate::rollout::traffic::{self, Division, Router};

impl<W: Whence> Course<'_, W> {
    /// Names a candidate that has just been made in what leads to it. Its pods come when that counts.
    pub(super) async fn warm(&mut self) -> Result<()> {
        for at in self.bound.division.leased() {
            let object = self.with_its_body(at).await?;
            let written = self.warmed(at, object);
            let (owned, _) = self.engine.apply(self.pass, &written, Why::Edited).await?;
            self.outcome.inventory.insert(written.key.clone(), owned);
        }
        self.memory.routed_at = Some(Instant::now());
        Ok(())
    }

    /// An object with a candidate named that has no weight yet.
    fn warmed(&self, at: usize, object: Desired) -> Desired {
        let Division::Routes(service, routes) = &self.bound.division else { return object };
        let router = routes.iter().find(|(place, _)| *place == at).map(|(_, router)| router);
        let body = value(&object);
        let made = router.map(|router| router.warmed(body.clone(), &self.desired[*service].key.name));
        let made = made.unwrap_or_else(|| body.clone());
        if made == body { object } else { with_body(&object, &made) }
    }

    /// A leased object as Git has it, but for the traffic that it divides.
    fn divided(&self, at: usize, object: Desired, routed: &Routed, scene: &Scene) -> Result<Desired> {
        let git = value(&object);
        let body = match &self.bound.division {
            Division::Pods(_) | Division::Kind => return Ok(object),
            Division::Switch(_) => {
                let labels = scene.candidate.as_ref().map(|candidate| self.labels(candidate));
                traffic::turned(&git, &labels.unwrap_or_default(), routed.weight)
            }
            Division::Routes(service, routes) => {
                let service = &self.desired[*service].key.name;
                let router = routes.iter().find(|(place, _)| *place == at).map(|(_, router)| router);
                let Some(router) = router else { return Ok(object) };
                let divided = router.divided(&git, service, routed);
                divided.map_err(|why| Error::new(Code::RolloutInvalid, why).on_object(&object.key))?
            }
        };
        let divided = if body == git { object } else { with_body(&object, &body) };
        let stands = self.policy.status.phase == RolloutPhase::Progressing && scene.candidate.is_some();
        if stands { Ok(self.warmed(at, divided)) } else { Ok(divided) }
    }

    /// What Git changed of a route meanwhile, with the traffic as it is.
    pub(super) async fn follow_git(&mut self, routed: &Routed, scene: &Scene) -> Result<()> {
        let mut has_changed = false;
        for at in self.bound.division.leased() {
            let object = &self.desired[at];
            // Without its body nothing of it is new: it was kept since its rollout began.
            if object.body.is_empty() {
                continue;
            }
            let wanted = self.divided(at, object.clone(), routed, scene)?;
            let owned = self.outcome.inventory.get(&object.key);
            has_changed |= owned.is_some_and(|owned| owned.digest != wanted.digest);
        }
        for (service, at, router) in self.bound.division.doubled() {
            let object = &self.desired[at];
            if !object.body.is_empty() && scene.doubles.iter().any(|(place, _)| *place == at) {
                let wanted = self.double(service, object, router, routed, scene);
                has_changed |=
                    wanted.is_some_and(|(key, _, digest)| self.memory.written.get(&key) != Some(&digest));
            }
        }
        if has_changed { self.route(routed, scene).await } else { Ok(()) }
    }

    pub(super) async fn route(&mut self, routed: &Routed, scene: &Scene) -> Result<()> {
        for at in self.bound.division.leased() {
            let object = self.with_its_body(at).await?;
            let written = self.divided(at, object, routed, scene)?;
            let before = self.outcome.inventory.get(&written.key).map(|owned| owned.digest);
            let (owned, managers) = self.engine.apply(self.pass, &written, Why::Edited).await?;
            if before != Some(owned.digest) || !managers.is_empty() {
                self.memory.routed_at = Some(Instant::now());
            }
            if !managers.is_empty() {
                // Somebody else set it: it is ours while the rollout lasts.
                let why = Why::Edited;
                self.outcome.drift.push(Drift { key: written.key.clone(), why, managers, repaired: true });
            }
            self.outcome.inventory.insert(written.key.clone(), owned);
        }
        let bound = self.bound;
        for (service, at, router) in bound.division.doubled() {
            let stands = scene.doubles.iter().any(|(place, _)| *place == at);
            if !stands && *routed == Routed::default() {
                continue;
            }
            let object = self.with_its_body(at).await?;
            self.route_beside((service, router), &object, routed, scene).await?;
        }
        Ok(())
    }

    /// Writes what divides beside a route; without a candidate there is nothing that it could lead to.
    async fn route_beside(
        &mut self,
        by: (usize, &dyn Router),
        object: &Desired,
        routed: &Routed,
        scene: &Scene,
    ) -> Result<()> {
        let (service, router) = by;
        let Some((key, body, digest)) = self.double(service, object, router, routed, scene) else {
            return self.engine.remove(&object.gvk, &beside(&object.key), &self.bound.policy.name).await;
        };
        let before = self.memory.written.get(&key) == Some(&digest);
        if !scene.doubles.iter().any(|(_, double)| double["metadata"]["name"] == *key.name) {
            self.engine.refuse_other(&object.gvk, &key, &self.bound.policy.name).await?;
        }
        let managers = self.engine.put_over(&object.gvk, &key, &body).await?;
        if !before || !managers.is_empty() {
            self.memory.routed_at = Some(Instant::now());
        }
        if !managers.is_empty() {
            let why = Why::Edited;
            self.outcome.drift.push(Drift { key: key.clone(), why, managers, repaired: true });
        }
        self.memory.written.insert(key, digest);
        Ok(())
    }

    /// What divides beside a route, as it is to be.
    fn double(
        &self,
        service: usize,
        object: &Desired,
        router: &dyn Router,
        routed: &Routed,
        scene: &Scene,
    ) -> Option<(Key, Value, Digest)> {
        let candidate = scene.candidate.as_ref()?;
        let mut body = router.beside(&value(object), &self.desired[service].key.name, routed)?;
        let owner = self.candidate_owner(candidate);
        let revision = revision_of(candidate);
        let policy = &self.bound.policy.name;
        let label = self.pass.label;
        let made = Beside { policy, owner: &owner, label, revision: &revision, pods: 0, copies: &[] };
        made.claim(&mut body);
        let digest = Digest::of(body.to_string().as_bytes());
        Some((beside(&object.key), body, digest))
    }
}
