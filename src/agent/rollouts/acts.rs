//! Commands of the machine, carried out.

use serde_json::{Value, json};

use super::course::{Course, Whence};
use super::revision::Revision;
use super::scene::{Scene, beside};
use crate::agent::Drift;
use crate::api::{RolloutPhase, RolloutRevision};
use crate::error::{Code, Error, Result};
use crate::live::kube::Propagation;
use crate::model::{Digest, Gvk, Key};
use crate::plan::{Desired, Owned, Why};
use crate::rollout::Command;
use crate::rollout::target::{Form, Measure, REVISION, Target, Wish, Within, is_ready, revision_of};

pub(super) fn value(object: &Desired) -> Value {
    serde_json::from_slice(&object.body).unwrap_or_default()
}

pub(super) fn with_body(object: &Desired, body: &Value) -> Desired {
    let body = body.to_string().into_bytes();
    Desired { digest: Digest::of(&body), body, ..object.clone() }
}

pub(super) fn key(group: &str, kind: &str, namespace: &str, name: String) -> Key {
    Key { group: group.to_owned(), kind: kind.to_owned(), namespace: namespace.to_owned(), name }
}

/// What no digest of an object is: what was written is not what Git has.
fn otherwise() -> Digest {
    Digest::of(b"not as Git has it")
}

/// A size, as a merge patch.
fn sized(kind: &dyn Target, pods: u32) -> Value {
    let mut patch = Value::Null;
    kind.sized(&mut patch, pods);
    patch
}

impl<W: Whence> Course<'_, W> {
    /// Carries a command out.
    pub(super) async fn act(&mut self, command: &Command, scene: &Scene) -> Result<()> {
        let bound = self.bound;
        match command {
            Command::Apply(revision) => self.apply(revision, scene, Why::Changed).await,
            Command::Create(revision, pods) => match &bound.form {
                Form::Beside(kind) => self.create(kind.as_ref(), revision, *pods, scene).await,
                Form::Within(kind) => {
                    let much = if kind.measure() == Measure::Pods { *pods } else { 0 };
                    self.share(*kind, revision, much, scene, Why::Changed).await
                }
            },
            Command::SizeCandidate(pods) => match &bound.form {
                Form::Beside(kind) => {
                    let (object, patch) = (&self.desired[bound.target], sized(kind.as_ref(), *pods));
                    let key = beside(&object.key);
                    let lean = self.engine.cluster.resize(&object.gvk, &key, &patch).await?;
                    self.engine.saw(&object.gvk, &key, lean);
                    Ok(())
                }
                // The way back is the older revision.
                Form::Within(_) if self.policy.status.phase == RolloutPhase::Aborting => {
                    self.back_within(scene).await
                }
                Form::Within(kind) => self.share_on(*kind, *pods, scene).await,
            },
            Command::SizeStable(pods) => match &bound.form {
                Form::Beside(kind) => self.size_stable(&sized(kind.as_ref(), *pods)).await,
                Form::Within(_) => Ok(()),
            },
            Command::Route(routed) => match &bound.form {
                Form::Beside(_) => self.route(routed, scene).await,
                Form::Within(kind) => self.share_on(*kind, routed.weight, scene).await,
            },
            Command::Retire => match &bound.form {
                Form::Beside(_) => self.retire(scene).await,
                Form::Within(_) => self.back_within(scene).await,
            },
            Command::Measure(gate) => {
                self.ask(gate);
                Ok(())
            }
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
        let live = scene.target.as_ref().unwrap_or(&Value::Null);
        let stable = match self.policy.status.stable.clone() {
            Some(stable) if kind.needs_stable() => Some(value(&self.revision(&stable).await?.target)),
            _ => None,
        };
        let before = stable.as_ref().unwrap_or(live);
        if revision_of(live) != revision.digest {
            let unfit = |why| Error::new(Code::RolloutInvalid, why).on_object(&made.target.key);
            let unfit = |why| unfit(why).hint("give it the strategy `rolling` in a commit before");
            kind.check_change(&body, before).map_err(unfit)?;
        }
        kind.share(&mut body, before, much);
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
        let target = scene.target.as_ref().unwrap_or(&Value::Null);
        if revision_of(target) == stable.digest {
            // It is that already; its pods follow. Its own steps are not gone through on the way back.
            return self.wish(Wish::PromoteFull, scene).await.map(drop);
        }
        // Whoever goes in steps itself takes the traffic back at once; what it refuses holds up nothing.
        let heard = self.wish(Wish::Abort, scene).await;
        self.apply(&stable, scene, Why::Changed).await?;
        heard?;
        let is_new = |pod: &&Value| {
            pod["metadata"]["labels"]["controller-revision-hash"] == target["status"]["updateRevision"]
        };
        self.delete_pods(scene.pods.iter().filter(is_new).filter(|pod| !is_ready(pod))).await
    }

    /// Tells a controller that goes in steps itself, where it has something to hear; whether it had.
    pub(super) async fn wish(&self, wish: Wish, scene: &Scene) -> Result<bool> {
        let (Form::Within(kind), Some(live)) = (&self.bound.form, &scene.target) else { return Ok(false) };
        let Some(status) = kind.wish(live, wish) else { return Ok(false) };
        let object = &self.desired[self.bound.target];
        // What it waits for is what was seen: nobody promotes a step twice.
        let version = &live["metadata"]["resourceVersion"];
        let patch = json!({"metadata": {"resourceVersion": version}, "status": status});
        self.engine.cluster.wish(&object.gvk, &object.key, &patch).await.map(|_| true)
    }

    async fn delete_pods<'p>(&self, pods: impl Iterator<Item = &'p Value>) -> Result<()> {
        let gvk = Gvk::parse("v1", "Pod");
        for pod in pods {
            let text = |field: &str| pod["metadata"][field].as_str().unwrap_or_default().to_owned();
            let key = key("", "Pod", &text("namespace"), text("name"));
            let resource = self.engine.cluster.resource(&gvk, false).await?;
            self.engine.cluster.delete(&resource, &key, &text("uid"), Propagation::Background).await?;
        }
        Ok(())
    }

    /// Pods that only go by the agent's hand, as far as they may go now.
    pub(super) async fn expel(&self, scene: &Scene) -> Result<()> {
        let (Form::Within(kind), Some(target)) = (&self.bound.form, &scene.target) else { return Ok(()) };
        let canary = self.bound.spec.strategy.canary.as_ref();
        let is_stated = canary.is_some_and(|canary| !canary.max_unavailable.is_empty());
        let most = is_stated.then(|| self.bound.rules.unavailable.down(scene.replicas));
        self.delete_pods(kind.expelled(target, &scene.pods, most).into_iter()).await
    }

    async fn size_stable(&mut self, patch: &Value) -> Result<()> {
        let object = &self.desired[self.bound.target];
        let lean = self.engine.cluster.resize(&object.gvk, &object.key, patch).await?;
        let now = self.engine.saw(&object.gvk, &object.key, lean);
        if let Some(owned) = self.outcome.inventory.get_mut(&object.key) {
            // The size is written by another hand; Git's is applied again in the end.
            (owned.ours, owned.generation, owned.digest) = (now.ours, now.generation, otherwise());
        }
        Ok(())
    }

    /// The target becomes this revision. Its size stays: the machine says what it is to be.
    pub(super) async fn apply(&mut self, revision: &RolloutRevision, scene: &Scene, why: Why) -> Result<()> {
        let found = self.revision(revision).await;
        self.lost = found.is_err();
        let Revision { mut target, own } = found?;
        for config in &own {
            let (owned, _) = self.engine.apply(self.pass, config, Why::Changed).await?;
            self.outcome.inventory.insert(config.key.clone(), owned);
        }
        let digest = target.digest;
        let mut as_git_has_it = true;
        let mut body = value(&target);
        // From before its policy, it has no mark.
        body["metadata"]["annotations"][REVISION] = revision.digest.as_str().into();
        if let (Form::Beside(kind), Some(side), Some(wanted)) =
            (&self.bound.form, &scene.stable_side, self.bound.replicas)
            && side.size != wanted
        {
            kind.sized(&mut body, side.size);
            as_git_has_it = false;
        }
        if let (Form::Within(kind), Some(live), RolloutPhase::Promoting) =
            (&self.bound.form, &scene.target, self.policy.status.phase)
        {
            let git = body.clone();
            kind.promoted(&mut body, live);
            as_git_has_it &= body == git;
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
}
