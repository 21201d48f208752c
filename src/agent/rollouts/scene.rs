//! What is seen of a rollout: the target, what stands beside it, and who divides the traffic.

use serde_json::Value;

use crate::agent::Engine;
use crate::error::Result;
use crate::model::{Gvk, Key};
use crate::plan::Desired;
use crate::rollout::target::{self, ROLLOUT_LABEL, Target, candidate_name};
use crate::rollout::traffic::{self, Division};
use crate::rollout::{Bound, Routed, Side, Traffic};

/// Live objects of a rollout.
pub(super) struct Scene {
    pub(super) kind: &'static dyn Target,
    pub(super) candidate: Option<Value>,
    /// Pods of the candidate, where somebody needs to know them.
    pub(super) pods: Vec<Value>,
    pub(super) stable_side: Option<Side>,
    pub(super) candidate_side: Option<Side>,
    pub(super) traffic: Traffic,
    /// Pods that the target is to have.
    pub(super) replicas: u32,
}

/// The candidate's identity.
pub(super) fn beside(target: &Key) -> Key {
    Key { name: candidate_name(&target.name), ..target.clone() }
}

impl Engine {
    /// The live object, `None` where there is none or where its kind is not served.
    pub(super) async fn whole(&self, gvk: &Gvk, key: &Key) -> Result<Option<Value>> {
        let resource = self.cluster.resource(gvk, false).await.map_err(|error| error.on_object(key))?;
        let live = self.cluster.get(&resource, key).await?;
        // What is on its way out is not there for anybody.
        Ok(live.filter(|live| live["metadata"]["deletionTimestamp"].is_null()))
    }

    /// Looks: two requests, one more where pods must be known, and one for each route.
    pub(super) async fn scene(
        &self,
        bound: &Bound,
        desired: &[Desired],
        stable: &str,
    ) -> Result<Option<Scene>> {
        let object = &desired[bound.target];
        let Some(kind) = target::find(&object.gvk) else { return Ok(None) };
        let target = self.whole(&object.gvk, &object.key).await?;
        let candidate = self.whole(&object.gvk, &beside(&object.key)).await?;
        // Whatever has the name and is not of this policy is nobody's candidate.
        let candidate = candidate
            .filter(|live| live["metadata"]["labels"][ROLLOUT_LABEL].as_str() == Some(&bound.policy.name));
        let mut stable_side = target.as_ref().map(|live| kind.side(live));
        if let Some(side) = stable_side.as_mut().filter(|side| side.digest.is_empty()) {
            // Deployed before there was a policy.
            stable.clone_into(&mut side.digest);
        }
        let mut candidate_side = candidate.as_ref().map(|live| kind.side(live));
        let mut pods = Vec::new();
        if let (Some(side), Some(live)) = (candidate_side.as_mut(), candidate.as_ref()) {
            let by_pods = matches!(&bound.division, Division::Pods(services) if !services.is_empty());
            if side.pods > 0 && (by_pods || side.available < side.size) {
                pods = self.pods_of(live, &object.key.namespace).await?;
                if side.obstacle.is_empty() {
                    side.obstacle = target::obstacle(&pods);
                }
            }
        }
        let replicas = match (bound.replicas, &stable_side) {
            (Some(replicas), _) => replicas,
            (None, Some(side)) => side.size,
            (None, None) => 1,
        };
        let traffic = self.traffic(bound, desired).await?;
        Ok(Some(Scene { kind, candidate, pods, stable_side, candidate_side, traffic, replicas }))
    }

    async fn pods_of(&self, candidate: &Value, namespace: &str) -> Result<Vec<Value>> {
        let selector = candidate["spec"]["selector"]["matchLabels"].as_object();
        let labels: Vec<String> = selector
            .into_iter()
            .flatten()
            .filter_map(|(name, value)| Some(format!("{name}={}", value.as_str()?)))
            .collect();
        self.cluster.list_selected(&Gvk::parse("v1", "Pod"), namespace, &labels.join(",")).await
    }

    async fn traffic(&self, bound: &Bound, desired: &[Desired]) -> Result<Traffic> {
        match &bound.division {
            Division::Pods(_) => Ok(Traffic::Pods),
            Division::Switch(at) => {
                let object = &desired[*at];
                let live = self.whole(&object.gvk, &object.key).await?;
                Ok(Traffic::Router(live.map(|live| traffic::turns_to(&live, &bound.policy.name))))
            }
            Division::Routes(service, routes) => {
                let service = &desired[*service].key.name;
                let mut all: Option<Routed> = None;
                for (at, fields) in routes {
                    let object = &desired[*at];
                    let live = self.whole(&object.gvk, &object.key).await?;
                    let Some(seen) = live.and_then(|live| fields.observed(&live, service)) else {
                        return Ok(Traffic::Router(None));
                    };
                    if all.is_some_and(|before| before != seen) {
                        return Ok(Traffic::Router(None));
                    }
                    all = Some(seen);
                }
                Ok(Traffic::Router(all))
            }
        }
    }
}
