//! Pods that routers know.
//!
//! A pod is available before it is among the endpoints of its Service: a weight that is set in between goes to nobody, and
//! users get errors. So behind routes a pod counts when its endpoint is ready.

use std::time::Duration;

use serde_json::Value;

use super::course::{Course, LOOK, Whence};
use super::scene::Scene;
use crate::agent::Engine;
use crate::api::RolloutPhase;
use crate::error::{Code, Result};
use crate::model::Gvk;
use crate::rollout::Side;
use crate::rollout::target::candidate_name;
use crate::rollout::traffic::Division;

/// How soon endpoints are looked at again that lack a pod; no event tells of them. Each look doubles it.
const FIRST: Duration = Duration::from_millis(250);

/// What was seen of the endpoints of both sides.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Endpoints {
    stable: u32,
    candidate: u32,
    /// Looks in a row that found some to be missing.
    late: u32,
}

impl Endpoints {
    /// When they are to be looked at again.
    pub(super) fn again(&self) -> Option<Duration> {
        let doubled = |late: u32| FIRST.saturating_mul(1 << (late - 1).min(10)).min(LOOK);
        (self.late > 0).then(|| doubled(self.late))
    }
}

impl<W: Whence> Course<'_, W> {
    /// Of the pods that are available, those that are ready endpoints: a request for a side that had fewer of these when it
    /// was looked at last.
    pub(super) async fn count_endpoints(&mut self, scene: &mut Scene) -> Result<()> {
        let Division::Routes(service, _) = &self.bound.division else { return Ok(()) };
        let service = &self.desired[*service].key;
        let (engine, known) = (self.engine, &mut self.memory.endpoints);
        let mut lacks = false;
        let sides = [
            (service.name.clone(), scene.stable_side.as_mut(), &mut known.stable),
            (candidate_name(&service.name), scene.candidate_side.as_mut(), &mut known.candidate),
        ];
        for (name, side, known) in sides {
            match engine.limit(side, known, &service.namespace, &name).await {
                Ok(found) => lacks |= found,
                // The way back waits for no answer.
                Err(_) if self.policy.status.phase == RolloutPhase::Aborting => {}
                Err(error) => return Err(error),
            }
        }
        known.late = if lacks { known.late + 1 } else { 0 };
        Ok(())
    }
}

impl Engine {
    /// Whether the side lacks endpoints.
    async fn limit(
        &self,
        side: Option<&mut Side>,
        known: &mut u32,
        namespace: &str,
        service: &str,
    ) -> Result<bool> {
        let available = side.as_ref().map_or(0, |side| side.available);
        *known = available.min(*known);
        let Some(side) = side.filter(|_| *known < available) else { return Ok(false) };
        let Some(ready) = self.ready_endpoints(namespace, service).await? else { return Ok(false) };
        *known = ready.min(available);
        side.available = *known;
        let lacks = *known < available;
        if lacks && side.obstacle.is_empty() {
            side.obstacle = format!("{} of {available} pods are endpoints of the Service {service}", *known);
        }
        Ok(lacks)
    }

    /// How many endpoints of a Service are ready; `None` where it is not allowed to be known.
    async fn ready_endpoints(&self, namespace: &str, service: &str) -> Result<Option<u32>> {
        let gvk = Gvk::parse("discovery.k8s.io/v1", "EndpointSlice");
        let selector = format!("kubernetes.io/service-name={service}");
        match self.cluster.list_selected(&gvk, namespace, &selector).await {
            Ok(slices) => Ok(Some(ready(&slices))),
            Err(error) if error.code == Code::Forbidden => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Pods with two families of addresses stand in two slices: the family that has more counts.
fn ready(slices: &[Value]) -> u32 {
    let of = |family: &str| -> usize {
        let endpoints = slices
            .iter()
            .filter(|slice| slice["addressType"].as_str() == Some(family))
            .filter_map(|slice| slice["endpoints"].as_array())
            .flatten();
        // Where nothing is said, it is ready: so the API has it.
        endpoints.filter(|endpoint| endpoint["conditions"]["ready"].as_bool() != Some(false)).count()
    };
    u32::try_from(of("IPv4").max(of("IPv6"))).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn endpoints_count_once_and_when_they_are_ready() {
        let one = |ready: Option<bool>| json!({"addresses": ["10.0.0.1"], "conditions": {"ready": ready}});
        let slice = |family: &str, all: &[Option<bool>]| json!({"addressType": family, "endpoints": all.iter().map(|ready| one(*ready)).collect::<Vec<_>>()});
        let check = |slices: &[Value], expected: u32| assert_eq!(ready(slices), expected, "{slices:?}");
        check(&[], 0);
        check(&[json!({"addressType": "IPv4", "endpoints": null})], 0);
        check(&[slice("IPv4", &[Some(true), Some(false), None])], 2);
        check(&[slice("IPv4", &[Some(true)]), slice("IPv4", &[Some(true)])], 2);
        check(&[slice("IPv4", &[Some(true), Some(true)]), slice("IPv6", &[Some(true), Some(true)])], 2);
    }

    #[test]
    fn looks_become_fewer() {
        let after =
            |late: u32| Endpoints { late, ..Endpoints::default() }.again().map(|pause| pause.as_millis());
        assert_eq!(
            [0, 1, 2, 3, 6, 60].map(after),
            [None, Some(250), Some(500), Some(1000), Some(5000), Some(5000)]
        );
    }
}
