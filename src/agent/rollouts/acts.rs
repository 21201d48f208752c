//! Commands of the machine, carried out.

use serde_json::Value;

use super::course::{Course, Whence};
use super::scene::{Scene, beside};
use crate::agent::{Drift, Engine};
use crate::api::{RolloutPhase, RolloutRevision};
use crate::error::{Code, Error, Result};
use crate::live::kube::{Check, Force, Propagation};
use crate::model::{Digest, Gvk, Key};
use crate::plan::{Desired, Owned, Why};
use crate::rollout::target::{Beside, Form, Measure, Mount, Owner, Target, Within, candidate_name, is_ready};
use crate::rollout::traffic::{self, Division};
use crate::rollout::{Command, Routed};

/// A revision's objects: the target, and what nobody but it mounts.
pub(super) struct Revision {
    target: Desired,
    own: Vec<Desired>,
}

fn value(object: &Desired) -> Value {
    serde_json::from_slice(&object.body).unwrap_or_default()
}

fn with_body(object: &Desired, body: &Value) -> Desired {
    let body = body.to_string().into_bytes();
    Desired { digest: Digest::of(&body), body, ..object.clone() }
}

fn key(group: &str, kind: &str, namespace: &str, name: String) -> Key {
    Key { group: group.to_owned(), kind: kind.to_owned(), namespace: namespace.to_owned(), name }
}

/// What no digest of an object is: what was written is not what Git has.
fn otherwise() -> Digest {
    Digest::of(b"not as Git has it")
}

impl<W: Whence> Course<'_, W> {
    /// Carries a command out.
    pub(super) async fn act(&mut self, command: &Command, scene: &Scene) -> Result<()> {
        match command {
            Command::Apply(revision) => self.apply(revision, scene, Why::Changed).await,
            Command::Create(revision, pods) => match self.bound.form {
                Form::Beside(kind) => self.create(kind, revision, *pods, scene).await,
                Form::Within(kind) => {
                    let much = if kind.measure() == Measure::Pods { *pods } else { 0 };
                    self.share(kind, revision, much, scene, Why::Changed).await
                }
            },
            Command::SizeCandidate(pods) => match self.bound.form {
                Form::Beside(_) => {
                    let object = &self.desired[self.bound.target];
                    let key = beside(&object.key);
                    let lean = self.engine.cluster.resize(&object.gvk, &key, *pods).await?;
                    self.engine.saw(&object.gvk, &key, lean);
                    Ok(())
                }
                // The way back is the older revision.
                Form::Within(_) if self.policy.status.phase == RolloutPhase::Aborting => {
                    self.back_within(scene).await
                }
                Form::Within(kind) => self.share_on(kind, *pods, scene).await,
            },
            Command::SizeStable(pods) => match self.bound.form {
                Form::Beside(_) => self.size_stable(*pods).await,
                Form::Within(_) => Ok(()),
            },
            Command::Route(routed) => match self.bound.form {
                Form::Beside(_) => self.route(*routed, scene).await,
                Form::Within(kind) => self.share_on(kind, routed.weight, scene).await,
            },
            Command::Retire => match self.bound.form {
                Form::Beside(_) => self.retire().await,
                Form::Within(_) => self.back_within(scene).await,
            },
            Command::Measure(gate) => {
                self.ask(gate);
                Ok(())
            }
        }
    }

    /// The objects of a revision: of what was rendered now, or of the commit that it is from.
    async fn revision(&self, revision: &RolloutRevision) -> Result<Revision> {
        let bound = self.bound;
        let here = &self.desired[bound.target];
        if revision.digest == bound.revision && !here.body.is_empty() {
            let own = bound.own.iter().map(|at| self.desired[*at].clone()).collect();
            return Ok(Revision { target: here.clone(), own });
        }
        let commit = if revision.digest == bound.revision { self.commit } else { &revision.commit };
        let unknown = |why: String| {
            Error::new(Code::RolloutInvalid, why)
                .on_object(&bound.policy)
                .hint("commit what it is to run; then it becomes that")
        };
        if commit.is_empty() {
            let why = format!("it is not known from which commit the revision {} is", revision.digest);
            return Err(unknown(why));
        }
        let app = self.whence.at(commit).await?;
        let all = &app.prepared.desired;
        let there = app.rollouts.iter().find(|other| all[other.target].key == here.key);
        match there {
            Some(there) if there.revision == revision.digest => {
                let own = there.own.iter().map(|at| all[*at].clone()).collect();
                Ok(Revision { target: all[there.target].clone(), own })
            }
            Some(there) => {
                let why = format!(
                    "commit {commit} gives the revision {} by now, not {}",
                    there.revision, revision.digest
                );
                Err(unknown(why))
            }
            // From before its policy.
            None => {
                let found = all.iter().find(|object| object.key == here.key && object.hook.is_none());
                let found = found.ok_or_else(|| unknown(format!("commit {commit} has no {}", here.key)))?;
                Ok(Revision { target: found.clone(), own: Vec::new() })
            }
        }
    }

    fn owner(&self) -> Owner {
        Owner {
            api_version: "driftless.dev/v1alpha1".into(),
            kind: "RolloutPolicy".into(),
            name: self.bound.policy.name.clone(),
            uid: self.policy.uid.clone(),
        }
    }

    /// Writes the new revision into the target, with how much of it there is to be.
    pub(super) async fn share(
        &mut self,
        kind: &dyn Within,
        revision: &RolloutRevision,
        much: u32,
        scene: &Scene,
        why: Why,
    ) -> Result<()> {
        let made = self.revision(revision).await?;
        let mut body = value(&made.target);
        kind.share(&mut body, scene.target.as_ref().unwrap_or(&Value::Null), much);
        let written = with_body(&made.target, &body);
        let (owned, managers) = self.engine.apply(self.pass, &written, why).await?;
        if why.is_drift() {
            self.outcome.drift.push(Drift { key: written.key.clone(), why, managers, repaired: true });
        }
        self.outcome.inventory.insert(written.key.clone(), Owned { digest: otherwise(), ..owned });
        self.outcome.applied.push((written.key, why));
        Ok(())
    }

    async fn share_on(&mut self, kind: &dyn Within, much: u32, scene: &Scene) -> Result<()> {
        let Some(candidate) = self.policy.status.candidate.clone() else { return Ok(()) };
        self.share(kind, &candidate, much, scene, Why::Changed).await
    }

    /// The stable revision, as it was before there was a newer one; pods of that which never became ready would be
    /// waited for, so they go.
    async fn back_within(&mut self, scene: &Scene) -> Result<()> {
        let Some(stable) = self.policy.status.stable.clone() else { return Ok(()) };
        self.apply(&stable, scene, Why::Changed).await?;
        let pod = Gvk::parse("v1", "Pod");
        let target = scene.target.as_ref().unwrap_or(&Value::Null);
        let is_new = |pod: &&Value| {
            pod["metadata"]["labels"]["controller-revision-hash"] == target["status"]["updateRevision"]
        };
        for stuck in scene.pods.iter().filter(is_new).filter(|pod| !is_ready(pod)) {
            let text = |field: &str| stuck["metadata"][field].as_str().unwrap_or_default().to_owned();
            let key = key("", "Pod", &text("namespace"), text("name"));
            let resource = self.engine.cluster.resource(&pod, false).await?;
            self.engine.cluster.delete(&resource, &key, &text("uid"), Propagation::Background).await?;
        }
        Ok(())
    }

    async fn create(
        &mut self,
        kind: &dyn Target,
        revision: &RolloutRevision,
        pods: u32,
        scene: &Scene,
    ) -> Result<()> {
        let made = self.revision(revision).await?;
        let (owner, copies) = (self.owner(), mounts_of(&made.own));
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
        let lean = self.engine.put(&made.target.gvk, &key, &twin).await?;
        let mut live = twin;
        live["metadata"]["uid"] = lean.into();
        self.stand_by(&live, scene, Some(&made)).await
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
        let owner = Owner {
            api_version: object.gvk.api_version(),
            kind: object.gvk.kind.clone(),
            name: candidate_name(&object.key.name),
            uid: candidate["metadata"]["uid"].as_str().unwrap_or_default().to_owned(),
        };
        let digest = crate::rollout::target::revision_of(candidate);
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
                let body = traffic::candidate_service(&body, candidate, &made_beside);
                all.push((service.gvk.clone(), key("", "Service", &namespace, name), body));
            }
        }
        for (gvk, key, body) in all {
            let digest = Digest::of(body.to_string().as_bytes());
            let gone = self.engine.index.is_synced(&gvk, &namespace) && self.engine.index.get(&key).is_none();
            if self.memory.written.get(&key) == Some(&digest) && !gone {
                continue;
            }
            self.engine.put(&gvk, &key, &body).await?;
            self.memory.written.insert(key, digest);
        }
        Ok(())
    }

    async fn size_stable(&mut self, pods: u32) -> Result<()> {
        let object = &self.desired[self.bound.target];
        let lean = self.engine.cluster.resize(&object.gvk, &object.key, pods).await?;
        let now = self.engine.saw(&object.gvk, &object.key, lean);
        if let Some(owned) = self.outcome.inventory.get_mut(&object.key) {
            // The size is written by another hand; Git's is applied again in the end.
            (owned.ours, owned.generation, owned.digest) = (now.ours, now.generation, otherwise());
        }
        Ok(())
    }

    /// A leased object as Git has it, but for the traffic that it divides.
    fn divided(&self, at: usize, object: Desired, routed: Routed, scene: &Scene) -> Result<Desired> {
        let git = value(&object);
        let body = match &self.bound.division {
            Division::Pods(_) | Division::Kind => return Ok(object),
            Division::Switch(_) => {
                let none = Value::Null;
                traffic::turned(&git, scene.candidate.as_ref().unwrap_or(&none), routed.weight)
            }
            Division::Routes(service, routes) => {
                let service = &self.desired[*service].key.name;
                let fields = routes.iter().find(|(place, _)| *place == at).map(|(_, fields)| fields);
                let Some(fields) = fields else { return Ok(object) };
                let divided = fields.divided(&git, service, routed);
                divided.map_err(|why| Error::new(Code::RolloutInvalid, why).on_object(&object.key))?
            }
        };
        Ok(if body == git { object } else { with_body(&object, &body) })
    }

    /// What Git changed of a route meanwhile, with the traffic as it is.
    pub(super) async fn follow_git(&mut self, routed: Routed, scene: &Scene) -> Result<()> {
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
        if has_changed { self.route(routed, scene).await } else { Ok(()) }
    }

    async fn route(&mut self, routed: Routed, scene: &Scene) -> Result<()> {
        for at in self.bound.division.leased() {
            let object = self.with_its_body(at).await?;
            let written = self.divided(at, object, routed, scene)?;
            let (owned, managers) = self.engine.apply(self.pass, &written, Why::Edited).await?;
            if !managers.is_empty() {
                // Somebody else set it: it is ours while the rollout lasts.
                let why = Why::Edited;
                self.outcome.drift.push(Drift { key: written.key.clone(), why, managers, repaired: true });
            }
            self.outcome.inventory.insert(written.key.clone(), owned);
        }
        Ok(())
    }

    /// An object of what was rendered, with its body.
    async fn with_its_body(&self, at: usize) -> Result<Desired> {
        let object = &self.desired[at];
        if !object.body.is_empty() {
            return Ok(object.clone());
        }
        let app = self.whence.at(self.commit).await?;
        let found = app.prepared.desired.into_iter().find(|found| found.key == object.key);
        found.ok_or_else(|| {
            Error::new(Code::Internal, "another render of the same commit lacks it").on_object(&object.key)
        })
    }

    /// The target becomes this revision. Its size stays: the machine says what it is to be.
    pub(super) async fn apply(&mut self, revision: &RolloutRevision, scene: &Scene, why: Why) -> Result<()> {
        let Revision { mut target, own } = self.revision(revision).await?;
        for config in &own {
            let (owned, _) = self.engine.apply(self.pass, config, Why::Changed).await?;
            self.outcome.inventory.insert(config.key.clone(), owned);
        }
        let digest = target.digest;
        let mut as_git_has_it = true;
        let mut body = value(&target);
        // From before its policy, it has no mark.
        body["metadata"]["annotations"][crate::rollout::target::REVISION] = revision.digest.as_str().into();
        if let (Form::Beside(kind), Some(side), Some(wanted)) =
            (self.bound.form, &scene.stable_side, self.bound.replicas)
            && side.size != wanted
        {
            kind.sized(&mut body, side.size);
            as_git_has_it = false;
        }
        target.body = body.to_string().into_bytes();
        let (mut owned, managers) = self.engine.apply(self.pass, &target, why).await?;
        owned.digest = if as_git_has_it { digest } else { otherwise() };
        if why.is_drift() {
            self.outcome.drift.push(Drift { key: target.key.clone(), why, managers, repaired: true });
        }
        self.outcome.inventory.insert(target.key.clone(), owned);
        self.outcome.applied.push((target.key, why));
        Ok(())
    }

    /// At the end: the target as Git has it, size and all.
    pub(super) async fn restore(&mut self) -> Result<()> {
        let bound = self.bound;
        for at in bound.own.iter().copied().chain([bound.target]) {
            let object = &self.desired[at];
            if self.outcome.inventory.get(&object.key).is_none_or(|owned| owned.digest == object.digest) {
                continue;
            }
            let object = self.with_its_body(at).await?;
            let (owned, _) = self.engine.apply(self.pass, &object, Why::Changed).await?;
            self.outcome.inventory.insert(object.key.clone(), owned);
        }
        Ok(())
    }

    /// Endpoints first, then Services, then the candidate; what it mounts goes with it.
    async fn retire(&mut self) -> Result<()> {
        let object = &self.desired[self.bound.target];
        let namespace = &object.key.namespace;
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
            crate::live::kube::Applied::Done(lean) => {
                let uid = lean.metadata.uid.clone().unwrap_or_default();
                self.saw(gvk, key, *lean);
                Ok(uid)
            }
            crate::live::kube::Applied::Conflict(managers) => {
                let why = format!("other managers own its fields: {}", managers.join(", "));
                Err(Error::new(Code::ConflictRefused, why).on_object(key))
            }
        }
    }

    /// Deletes what stands beside a target, and nothing else that has its name.
    async fn remove(&self, gvk: &Gvk, key: &Key, policy: &str) -> Result<()> {
        let resource = self.cluster.resource(gvk, false).await.map_err(|error| error.on_object(key))?;
        let Some(live) = self.cluster.look(&resource, key).await? else { return Ok(()) };
        let labels = live.metadata.labels.unwrap_or_default();
        if labels.get(crate::rollout::target::ROLLOUT_LABEL).map(String::as_str) != Some(policy) {
            return Ok(());
        }
        let uid = live.metadata.uid.unwrap_or_default();
        self.index.bodies().forget(key);
        self.cluster.delete(&resource, key, &uid, Propagation::Background).await.map(drop)
    }
}
