//! What is seen of a rollout: the target, what stands beside it, and who divides the traffic.

use serde_json::Value;

use crate::agent::Engine;
use crate::api::{RolloutPhase, RolloutStatus};
use crate::error::{Code, Result};
use crate::health::Status;
use crate::model::{Gvk, Key};
use crate::plan::Desired;
use crate::rollout::target::{self, Form, Measure, ROLLOUT_LABEL, Within, candidate_name};
use crate::rollout::traffic::{self, Division};
use crate::rollout::{Bound, Routed, Side, Sizing, Traffic};

/// Live objects of a rollout.
pub(super) struct Scene {
    pub(super) target: Option<Value>,
    /// Beside the target.
    pub(super) candidate: Option<Value>,
    /// Pods of the candidate, where somebody needs to know them; of both revisions where they are within one target.
    pub(super) pods: Vec<Value>,
    pub(super) stable_side: Option<Side>,
    pub(super) candidate_side: Option<Side>,
    pub(super) traffic: Traffic,
    /// Routes that others divide beside them, by their places, with what is live of those.
    pub(super) doubles: Vec<(usize, Value)>,
    /// Pods that the target is to have.
    pub(super) replicas: u32,
    pub(super) sizing: Sizing,
    /// Pods are missing that have no place, and nothing else is wrong with any.
    pub(super) unschedulable: bool,
}

/// The candidate's identity.
pub(super) fn beside(target: &Key) -> Key {
    Key { name: candidate_name(&target.name), ..target.clone() }
}

/// Whether a side lacks pods for want of a place. What pods say goes before the words of their controller, which after a
/// while only says that it took long.
fn is_short_of_places(side: &mut Side, pods: &[Value]) -> bool {
    let lacks = target::lack_a_place(pods, &side.obstacle);
    let said = target::obstacle(pods);
    if !said.is_empty() {
        side.obstacle = said;
    }
    lacks
}

/// Deployed before there was a policy, a target says no revision.
fn marked(mut side: Side, unmarked: &str) -> Side {
    if side.digest.is_empty() {
        unmarked.clone_into(&mut side.digest);
    }
    side
}

/// The labels that a selector names, as a request says them.
fn labels_of(selector: &Value) -> String {
    let labels = selector["matchLabels"].as_object().into_iter().flatten();
    let labels = labels.filter_map(|(name, value)| Some(format!("{name}={}", value.as_str()?)));
    labels.collect::<Vec<_>>().join(",")
}

/// Of a target that holds both revisions, only while it does.
fn must_know_pods(kind: &dyn Within, live: &Value, status: &RolloutStatus, unmarked: &str) -> bool {
    let runs = marked(kind.whole(live), unmarked).digest;
    let is_other = status.stable.as_ref().is_some_and(|stable| stable.digest != runs);
    match status.phase {
        RolloutPhase::Progressing => is_other,
        RolloutPhase::Aborting => is_other || kind.has_revisions_apart(),
        RolloutPhase::Promoting => kind.is_by_hand(live) && status.candidate.is_some(),
        RolloutPhase::Pending | RolloutPhase::Healthy | RolloutPhase::Rejected => false,
    }
}

impl Engine {
    /// The live object, `None` where there is none or where its kind is not served.
    pub(super) async fn whole(&self, gvk: &Gvk, key: &Key) -> Result<Option<Value>> {
        let live = match self.index.whole(gvk, key) {
            Some(live) => Some(live),
            None => self.asked_for(gvk, key).await?,
        };
        // What is on its way out is not there for anybody.
        Ok(live.filter(|live| live["metadata"]["deletionTimestamp"].is_null()))
    }

    /// The same, asked for now.
    async fn asked_for(&self, gvk: &Gvk, key: &Key) -> Result<Option<Value>> {
        let resource = self.cluster.resource(gvk, false).await.map_err(|error| error.on_object(key))?;
        let live = self.cluster.get(&resource, key).await?;
        match &live {
            Some(live) => self.index.bodies().keep(key, live),
            None => self.index.bodies().forget(key),
        }
        Ok(live)
    }

    /// What stands beside a target: only what is ours, and so is seen by a watch.
    async fn ours_beside(&self, bound: &Bound, gvk: &Gvk, key: &Key) -> Result<Option<Value>> {
        if self.index.is_synced(gvk, &key.namespace) && self.index.get(key).is_none() {
            return Ok(None);
        }
        let live = self.whole(gvk, key).await?;
        // Whatever has the name and is not of this policy is nobody's candidate.
        Ok(live.filter(|live| live["metadata"]["labels"][ROLLOUT_LABEL].as_str() == Some(&bound.policy.name)))
    }

    /// Looks: at the target, its candidate and each route, and asks for those of which nothing is known or something
    /// newer than what is; one more request where pods must be known. `unmarked` is the revision of a target that says none.
    pub(super) async fn scene(
        &self,
        bound: &Bound,
        desired: &[Desired],
        status: &RolloutStatus,
        unmarked: &str,
    ) -> Result<Scene> {
        let object = &desired[bound.target];
        let target = self.whole(&object.gvk, &object.key).await?;
        let kind = match &bound.form {
            Form::Beside(kind) => kind.as_ref(),
            Form::Within(kind) => return self.within(bound, desired, status, unmarked, *kind, target).await,
        };
        let candidate = self.ours_beside(bound, &object.gvk, &beside(&object.key)).await?;
        let mut stable_side = target.as_ref().map(|live| marked(kind.side(live), unmarked));
        let mut candidate_side = candidate.as_ref().map(|live| kind.side(live));
        let mut pods = Vec::new();
        let mut unschedulable = false;
        if let (Some(side), Some(live)) = (candidate_side.as_mut(), candidate.as_ref()) {
            let by_pods = matches!(&bound.division, Division::Pods(services) if !services.is_empty());
            if side.pods > 0 && (by_pods || side.available < side.size) {
                pods = self.pods_of(&kind.selector(live), &object.key.namespace).await?;
            }
            unschedulable |= side.available < side.size && is_short_of_places(side, &pods);
        }
        // On the way up the stable side has its pods; to the end and back it is the one that gets some, maybe beside as many
        // old ones.
        let grows = matches!(status.phase, RolloutPhase::Promoting | RolloutPhase::Aborting);
        if let (Some(side), Some(live)) = (stable_side.as_mut(), target.as_ref())
            && (grows || status.without_surge)
            && (side.available < side.size || !side.settled)
        {
            let own = self.pods_of(&kind.selector(live), &object.key.namespace).await?;
            unschedulable |= is_short_of_places(side, &own);
        }
        let replicas = bound.replicas.or_else(|| stable_side.as_ref().map(|side| side.size)).unwrap_or(1);
        let sizing = if bound.replicas.is_some() { Sizing::Rollout } else { Sizing::Autoscaler };
        let (traffic, doubles) = self.traffic(bound, desired).await?;
        Ok(Scene {
            target,
            candidate,
            pods,
            stable_side,
            candidate_side,
            traffic,
            doubles,
            replicas,
            sizing,
            unschedulable,
        })
    }

    /// A target that holds both revisions.
    async fn within(
        &self,
        bound: &Bound,
        desired: &[Desired],
        status: &RolloutStatus,
        unmarked: &str,
        kind: &dyn Within,
        target: Option<Value>,
    ) -> Result<Scene> {
        let object = &desired[bound.target];
        let measure = kind.measure();
        let by_health = |mut side: Side| {
            if measure == Measure::Health {
                let health = self.health_of(&object.gvk, &object.key);
                let is_healthy = health.status == Status::Healthy;
                (side.available, side.settled) = (u32::from(is_healthy), is_healthy);
                side.obstacle = health.reason.to_string();
            }
            side
        };
        let stable = status.stable.as_ref().map(|stable| stable.digest.clone());
        let moving = matches!(status.phase, RolloutPhase::Progressing | RolloutPhase::Aborting);
        let whole = target.as_ref().map(|live| by_health(marked(kind.whole(live), unmarked)));
        let replicas = bound.replicas.or_else(|| whole.as_ref().map(|side| side.size)).unwrap_or(1);
        let sizing = if measure == Measure::Pods { Sizing::Shared } else { Sizing::Kind };
        let mut scene = Scene {
            candidate: None,
            pods: Vec::new(),
            stable_side: whole.clone(),
            candidate_side: None,
            traffic: Traffic::Pods,
            doubles: Vec::new(),
            replicas,
            sizing,
            target: None,
            unschedulable: false,
        };
        if measure == Measure::Traffic {
            scene.traffic = Traffic::Router(Some(Routed::default()));
        }
        let mut target = target;
        if let Some(live) = target.as_mut()
            && measure == Measure::Pods
            && must_know_pods(kind, live, status, unmarked)
        {
            scene.pods = self.pods_of(&live["spec"]["selector"], &object.key.namespace).await?;
            let uid = live["metadata"]["uid"].as_str().unwrap_or_default();
            scene.pods.retain(|pod| target::is_owned_by(pod, uid));
            if kind.has_revisions_apart() {
                live["status"]["updateRevision"] = self.newest_revision(live, &object.key.namespace).await?;
            }
        }
        if let (Some(live), Some(whole), Some(stable)) = (&target, whole, stable) {
            if whole.digest == stable {
                let left = (status.phase == RolloutPhase::Aborting).then(|| kind.left(live, &scene.pods));
                let left = left.flatten().filter(|left| *left > 0);
                let digest = status.candidate.as_ref().map(|known| known.digest.clone()).unwrap_or_default();
                scene.candidate_side =
                    left.map(|left| Side { digest, size: left, pods: left, ..Side::default() });
            } else if moving {
                let mut side = by_health(marked(kind.candidate(live, &scene.pods), unmarked));
                // Those of the stable revision are ready, or it is not for want of a place.
                scene.unschedulable = measure == Measure::Pods
                    && side.available < side.size
                    && target::lack_a_place(&scene.pods, "");
                if measure == Measure::Traffic && !kind.is_seen(live) {
                    // Our own write is not seen yet: nothing is known to have gone since.
                    side.available = status.best.min(1);
                }
                if side.available == 0
                    && let Some(selector) = kind.selector(live)
                {
                    let pod = Gvk::parse("v1", "Pod");
                    let own = self.cluster.list_selected(&pod, &object.key.namespace, &selector).await;
                    // Who may not see pods has the words of the kind itself.
                    scene.unschedulable = own.is_ok_and(|own| is_short_of_places(&mut side, &own));
                }
                let (size, available) = match measure {
                    Measure::Pods => {
                        (whole.size.saturating_sub(side.size), whole.available.saturating_sub(side.available))
                    }
                    Measure::Traffic | Measure::Health | Measure::Word => (replicas, replicas),
                };
                if measure == Measure::Traffic {
                    let route = self.router(kind, live, &object.key.namespace).await?;
                    scene.traffic = Traffic::Router(kind.routed(live, route.as_ref()));
                }
                scene.stable_side =
                    Some(Side { digest: stable, size, pods: size, available, ..Side::default() });
                scene.candidate_side = Some(side);
            } else if status.phase == RolloutPhase::Promoting && !kind.is_whole(live) {
                scene.stable_side = Some(Side { digest: stable, size: replicas, ..Side::default() });
            }
        }
        scene.target = target;
        Ok(scene)
    }

    /// What tells how a kind divides its traffic, where that is another object.
    async fn router(&self, kind: &dyn Within, live: &Value, namespace: &str) -> Result<Option<Value>> {
        let Some(route) = kind.router(live) else { return Ok(None) };
        let gvk = Gvk::parse(&route.api_version, &route.kind);
        let key = Key {
            group: gvk.group.clone(),
            kind: gvk.kind.clone(),
            namespace: namespace.to_owned(),
            name: route.name,
        };
        match self.whole(&gvk, &key).await {
            Err(error) if error.code == Code::KindUnknown => Ok(None),
            found => found,
        }
    }

    /// The hash of the newest `ControllerRevision` of an object, which is that of its template; null where there is none.
    async fn newest_revision(&self, live: &Value, namespace: &str) -> Result<Value> {
        let gvk = Gvk::parse("apps/v1", "ControllerRevision");
        let all = self.cluster.list_selected(&gvk, namespace, &labels_of(&live["spec"]["selector"])).await?;
        let uid = live["metadata"]["uid"].as_str().unwrap_or_default();
        let own = all.iter().filter(|one| target::is_owned_by(one, uid));
        let newest = own.max_by_key(|one| one["revision"].as_i64());
        let hash = newest.map(|one| one["metadata"]["labels"]["controller-revision-hash"].clone());
        Ok(hash.unwrap_or_default())
    }

    async fn pods_of(&self, selector: &Value, namespace: &str) -> Result<Vec<Value>> {
        self.cluster.list_selected(&Gvk::parse("v1", "Pod"), namespace, &labels_of(selector)).await
    }

    /// How it is divided, and what stands beside the routes for it.
    async fn traffic(&self, bound: &Bound, desired: &[Desired]) -> Result<(Traffic, Vec<(usize, Value)>)> {
        let (service, routes) = match &bound.division {
            Division::Pods(_) | Division::Kind => return Ok((Traffic::Pods, Vec::new())),
            Division::Switch(at) => {
                let object = &desired[*at];
                let live = self.whole(&object.gvk, &object.key).await?;
                let routed = live.map(|live| traffic::turns_to(&live, &bound.policy.name));
                return Ok((Traffic::Router(routed), Vec::new()));
            }
            Division::Routes(service, routes) => (&desired[*service].key.name, routes),
        };
        let (mut all, mut doubles) = (Vec::with_capacity(routes.len()), Vec::new());
        for (at, router) in routes {
            let object = &desired[*at];
            let live = self.whole(&object.gvk, &object.key).await?;
            let mut double = None;
            if router.stands_beside() {
                double = self.ours_beside(bound, &object.gvk, &beside(&object.key)).await?;
            }
            all.push(live.and_then(|live| router.observed(&live, double.as_ref(), service)));
            doubles.extend(double.map(|double| (*at, double)));
        }
        let first = all.first().cloned().flatten();
        let routed = first.filter(|first| all.iter().all(|one| one.as_ref() == Some(first)));
        Ok((Traffic::Router(routed), doubles))
    }
}
