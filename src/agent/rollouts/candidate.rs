//! What stands beside a target while it is rolled out.

use std::collections::BTreeMap;

use serde_json::Value;

use super::acts::{key, value};
use super::course::{Course, Whence};
use super::revision::Revision;
use super::scene::{Scene, beside};
use crate::agent::Engine;
use crate::api::RolloutRevision;
use crate::error::{Code, Error, Result};
use crate::live::kube::{Applied, Check, Force, Propagation};
use crate::model::{Digest, Gvk, Key};
use crate::plan::Desired;
use crate::rollout::Routed;
use crate::rollout::target::{
    Beside, Form, Mount, Owner, ROLLOUT_LABEL, Target, candidate_name, revision_of,
};
use crate::rollout::traffic::{self, Division};

impl<W: Whence> Course<'_, W> {
    fn owner(&self) -> Owner {
        Owner {
            api_version: "driftless.dev/v1alpha1".into(),
            kind: "RolloutPolicy".into(),
            name: self.bound.policy.name.clone(),
            uid: self.policy.uid.clone(),
        }
    }

    pub(super) async fn create(
        &mut self,
        kind: &dyn Target,
        revision: &RolloutRevision,
        pods: u32,
        scene: &Scene,
    ) -> Result<()> {
        let made = self.revision(revision).await?;
        let (owner, copies) = (self.owner(), mounts_of(&made.own));
        let warms = self.bound.division.warms();
        let pods = if warms { 0 } else { pods };
        let twin = kind.candidate(
            &value(&made.target),
            &Beside {
                policy: &self.bound.policy.name,
                owner: &owner,
                label: self.pass.label,
                revision: &revision.digest,
                pods,
                copies: &copies,
            },
        )?;
        let key = beside(&made.target.key);
        self.engine.refuse_other(&made.target.gvk, &key, &self.bound.policy.name).await?;
        let lean = self.engine.put(&made.target.gvk, &key, &twin).await?;
        let mut live = twin;
        live["metadata"]["uid"] = lean.into();
        self.stand_by(&live, scene, Some(&made)).await?;
        if warms { self.warm().await } else { Ok(()) }
    }

    /// What a candidate needs: copies of what it mounts, Services of its own, its pods among the endpoints.
    pub(super) async fn stand_by(
        &mut self,
        candidate: &Value,
        scene: &Scene,
        made: Option<&Revision>,
    ) -> Result<()> {
        let object = &self.desired[self.bound.target];
        let namespace = object.key.namespace.clone();
        let owner = self.candidate_owner(candidate);
        let digest = revision_of(candidate);
        let policy = self.bound.policy.name.clone();
        let made_beside = Beside {
            policy: &policy,
            owner: &owner,
            label: self.pass.label,
            revision: &digest,
            pods: 0,
            copies: &[],
        };
        let own: Vec<Desired> = match made {
            Some(made) => made.own.clone(),
            None if digest == self.bound.revision => {
                self.bound.own.iter().map(|at| self.desired[*at].clone()).collect()
            }
            None => Vec::new(),
        };
        let mut all: Vec<(Gvk, Key, Value)> = Vec::new();
        for copied in &own {
            let mut copy = value(copied);
            // Without its content it was made already, in a pass that had it.
            if copy.is_null() {
                continue;
            }
            let name = candidate_name(&copied.key.name);
            copy["metadata"]["name"] = name.clone().into();
            made_beside.claim(&mut copy);
            all.push((copied.gvk.clone(), key("", &copied.key.kind, &namespace, name), copy));
        }
        for at in self.bound.division.services() {
            let service = &self.desired[at];
            let body = value(service);
            if body.is_null() {
                continue;
            }
            if matches!(self.bound.division, Division::Pods(_)) {
                let gvk = Gvk::parse("discovery.k8s.io/v1", "EndpointSlice");
                for slice in traffic::slices(&service.key, &body, &scene.pods, &made_beside) {
                    let key = key("discovery.k8s.io", "EndpointSlice", &namespace, slice.name);
                    all.push((gvk.clone(), key, slice.body));
                }
            } else {
                let name = candidate_name(&service.key.name);
                let body = traffic::candidate_service(&body, &self.labels(candidate), &made_beside);
                all.push((service.gvk.clone(), key("", "Service", &namespace, name), body));
            }
        }
        if let Division::Routes(service, _) = &self.bound.division {
            let service = &self.desired[*service].key.name;
            for rule in self.bound.destination_rules.iter().map(|at| &self.desired[*at]) {
                let body = value(rule);
                if body.is_null() {
                    continue;
                }
                let made = traffic::candidate_rule(&body, service, &self.labels(candidate), &made_beside);
                let name = candidate_name(&rule.key.name);
                all.push((rule.gvk.clone(), key(&rule.gvk.group, &rule.gvk.kind, &namespace, name), made));
            }
        }
        for (gvk, key, body) in all {
            let digest = Digest::of(body.to_string().as_bytes());
            let gone = self.engine.index.is_synced(&gvk, &namespace) && self.engine.index.get(&key).is_none();
            if self.memory.written.get(&key) == Some(&digest) && !gone {
                continue;
            }
            if !self.memory.written.contains_key(&key) {
                self.engine.refuse_other(&gvk, &key, &policy).await?;
            }
            self.engine.put(&gvk, &key, &body).await?;
            self.memory.written.insert(key, digest);
        }
        Ok(())
    }

    /// With what goes what a candidate needs.
    pub(super) fn candidate_owner(&self, candidate: &Value) -> Owner {
        let object = &self.desired[self.bound.target];
        Owner {
            api_version: object.gvk.api_version(),
            kind: object.gvk.kind.clone(),
            name: candidate_name(&object.key.name),
            uid: candidate["metadata"]["uid"].as_str().unwrap_or_default().to_owned(),
        }
    }

    /// What a candidate's pods are selected by.
    pub(super) fn labels(&self, candidate: &Value) -> Value {
        match &self.bound.form {
            Form::Beside(kind) => kind.selector(candidate)["matchLabels"].clone(),
            Form::Within(_) => Value::Null,
        }
    }

    /// What leads to it first, then endpoints or Services, then the candidate; what it mounts goes with it.
    pub(super) async fn retire(&mut self, scene: &Scene) -> Result<()> {
        let is_named = |at: &usize| {
            let object = &self.desired[*at];
            self.outcome.inventory.get(&object.key).is_some_and(|owned| owned.digest != object.digest)
        };
        if !self.policy.is_at_rest() && self.bound.division.leased().iter().any(is_named) {
            self.route(&Routed::default(), scene).await?;
        }
        let object = &self.desired[self.bound.target];
        let namespace = &object.key.namespace;
        for (_, at, _) in self.bound.division.doubled() {
            let route = &self.desired[at];
            self.engine.remove(&route.gvk, &beside(&route.key), &self.bound.policy.name).await?;
        }
        for at in self.bound.division.services() {
            let name = candidate_name(&self.desired[at].key.name);
            if matches!(self.bound.division, Division::Pods(_)) {
                let gvk = Gvk::parse("discovery.k8s.io/v1", "EndpointSlice");
                for family in ["ipv4", "ipv6"] {
                    let key = key(&gvk.group, &gvk.kind, namespace, format!("{name}-{family}"));
                    self.engine.remove(&gvk, &key, &self.bound.policy.name).await?;
                }
            } else {
                let gvk = Gvk::parse("v1", "Service");
                let key = key("", &gvk.kind, namespace, name);
                self.engine.remove(&gvk, &key, &self.bound.policy.name).await?;
            }
        }
        let key = beside(&object.key);
        self.engine.remove(&object.gvk, &key, &self.bound.policy.name).await?;
        self.memory.written.clear();
        Ok(())
    }
}

fn mounts_of(own: &[Desired]) -> Vec<Mount> {
    let kind = |object: &Desired| if object.key.kind == "Secret" { "Secret" } else { "ConfigMap" };
    own.iter().map(|object| Mount { kind: kind(object), name: object.key.name.clone() }).collect()
}

impl Engine {
    /// Applies what stands beside a target; returns its uid.
    async fn put(&self, gvk: &Gvk, key: &Key, body: &Value) -> Result<String> {
        let resource = self.cluster.resource(gvk, false).await.map_err(|error| error.on_object(key))?;
        // What happens to it begins a pass.
        self.watches.ensure(gvk, &resource, &key.namespace).await.map_err(|error| error.on_object(key))?;
        let bytes = body.to_string().into_bytes();
        let applied = self.cluster.apply(&resource, key, bytes, Force::Yes, Check::lax(false)).await?;
        match applied {
            Applied::Done(lean) => {
                let uid = lean.metadata.uid.clone().unwrap_or_default();
                self.saw(gvk, key, *lean);
                Ok(uid)
            }
            Applied::Conflict(managers) => {
                let why = format!("other managers own its fields: {}", managers.join(", "));
                Err(Error::new(Code::ConflictRefused, why).on_object(key))
            }
        }
    }

    /// Whatever has the name of what is to stand beside an object, and is not of the rollout, stays as it is.
    pub(super) async fn refuse_other(&self, gvk: &Gvk, key: &Key, policy: &str) -> Result<()> {
        let resource = self.cluster.resource(gvk, false).await.map_err(|error| error.on_object(key))?;
        let live = self.cluster.look(&resource, key).await?;
        let labels = live.and_then(|live| live.metadata.labels.or_else(|| Some(BTreeMap::new())));
        let is_other =
            |labels: &BTreeMap<String, String>| labels.get(ROLLOUT_LABEL).map(String::as_str) != Some(policy);
        if labels.as_ref().is_some_and(is_other) {
            let why = "it is not of this rollout, which needs the name; rename it".to_owned();
            return Err(Error::new(Code::OwnedByAnother, why).on_object(key));
        }
        Ok(())
    }

    /// The same for what others may have changed meanwhile; returns who did.
    pub(super) async fn put_over(&self, gvk: &Gvk, key: &Key, body: &Value) -> Result<Vec<String>> {
        let resource = self.cluster.resource(gvk, false).await.map_err(|error| error.on_object(key))?;
        let bytes = body.to_string().into_bytes();
        let applied = self.cluster.apply(&resource, key, bytes, Force::No, Check::lax(false)).await?;
        let managers = match applied {
            crate::live::kube::Applied::Done(lean) => {
                self.watches
                    .ensure(gvk, &resource, &key.namespace)
                    .await
                    .map_err(|error| error.on_object(key))?;
                self.saw(gvk, key, *lean);
                return Ok(Vec::new());
            }
            crate::live::kube::Applied::Conflict(managers) => managers,
        };
        self.put(gvk, key, body).await?;
        Ok(managers)
    }

    /// Deletes what stands beside a target, and nothing else that has its name.
    pub(super) async fn remove(&self, gvk: &Gvk, key: &Key, policy: &str) -> Result<()> {
        let resource = self.cluster.resource(gvk, false).await.map_err(|error| error.on_object(key))?;
        let Some(live) = self.cluster.look(&resource, key).await? else { return Ok(()) };
        let labels = live.metadata.labels.unwrap_or_default();
        if labels.get(ROLLOUT_LABEL).map(String::as_str) != Some(policy) {
            return Ok(());
        }
        let uid = live.metadata.uid.unwrap_or_default();
        self.index.bodies().forget(key);
        self.cluster.delete(&resource, key, &uid, Propagation::Background).await.map(drop)
    }
}
