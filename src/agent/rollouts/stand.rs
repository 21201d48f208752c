//! Whether a target may be applied as any other object.

use super::scene::beside;
use super::{Held, Policy, Remembered};
use crate::agent::Engine;
use crate::api::{RolloutPhase, RolloutStatus};
use crate::error::Result;
use crate::health::{Health, Status};
use crate::model::{GROUP, Gvk};
use crate::plan::{Inventory, Live};
use crate::rollout::Bound;

/// How a policy stands before a sync.
#[derive(Debug)]
pub(in crate::agent) struct Stand {
    /// The live policy; `None` where it is not there yet.
    pub(super) policy: Option<Policy>,
    /// Whether the target waits for the machine.
    pub(super) held: bool,
    /// Whether the machine is to be asked at all.
    pub(super) turns: bool,
}

impl Stand {
    /// Whether something of it is not as Git has it.
    pub(in crate::agent) fn is_on_its_way(&self) -> bool {
        self.held || self.policy.as_ref().is_some_and(|policy| !policy.is_at_rest())
    }
}

pub(super) fn policy_gvk() -> Gvk {
    Gvk { group: GROUP.into(), version: "v1alpha1".into(), kind: "RolloutPolicy".into() }
}

impl Engine {
    /// Looks at a policy: one request at most, none where nothing has changed.
    ///
    /// # Errors
    /// Those of the API server.
    pub(in crate::agent) async fn stand(
        &self,
        bound: &Bound,
        desired: &[crate::plan::Desired],
        inventory: &Inventory,
        memory: &mut Remembered,
        held: &mut Held,
    ) -> Result<Stand> {
        let gvk = policy_gvk();
        let seen = self.index.get(&bound.policy);
        let known = memory.policy.as_ref().filter(|known| {
            seen.as_ref().is_some_and(|seen| *seen.uid == *known.uid && seen.version <= known.version)
        });
        let policy = match (known, seen) {
            (Some(known), _) => Some(known.clone()),
            (None, Some(_)) => {
                let resource = self.cluster.resource(&gvk, false).await?;
                let live = self.cluster.get(&resource, &bound.policy).await?;
                live.map(|live| Policy::read(&live))
            }
            (None, None) => None,
        };
        memory.policy.clone_from(&policy);
        let target = &desired[bound.target];
        let is_there = !matches!(self.live(&target.gvk, &target.key), Live::Absent);
        let Some(policy) = policy else {
            // What nobody uses yet needs no care; what is live waits for its policy.
            let same = inventory
                .get(&target.key)
                .is_none_or(|owned| owned.digest == target.digest || owned.digest == bound.plain);
            let waits = is_there && !same;
            if waits {
                let health = Health::new(Status::Progressing, format!("waits for {}", bound.policy));
                hold(bound, desired, held, &health);
            }
            return Ok(Stand { policy: None, held: waits, turns: false });
        };
        let status = &policy.status;
        let digest = inventory.get(&target.key).map(|owned| owned.digest);
        let direct = match &status.stable {
            _ if !is_there && policy.is_at_rest() => true,
            Some(stable) => policy.is_at_rest() && stable.digest == bound.revision,
            // The first revision that it sees: what is live is what Git wants, but for the mark.
            None => digest.is_none_or(|digest| digest == target.digest || digest == bound.plain),
        };
        if !direct {
            hold(bound, desired, held, &health(status, &bound.revision));
        }
        // What is written otherwise than Git has it, while it is.
        if !policy.is_at_rest() {
            for at in bound.division.leased() {
                held.add(&desired[at].key, &Health::healthy());
            }
        }
        let turns = !direct
            || status.phase != RolloutPhase::Healthy
            || policy.asks().is_some()
            || policy.unreadable.is_some()
            || status.observed_generation != policy.generation
            || !status.message.is_empty()
            || self.index.get(&beside(&target.key)).is_some();
        Ok(Stand { policy: Some(policy), held: !direct, turns })
    }
}

/// Holds back the target and what nobody but it mounts.
fn hold(bound: &Bound, desired: &[crate::plan::Desired], held: &mut Held, health: &Health) {
    held.add(&desired[bound.target].key, health);
    for at in &bound.own {
        held.add(&desired[*at].key, &Health::healthy());
    }
}

/// How a rollout to a revision stands.
pub(super) fn health(status: &RolloutStatus, revision: &str) -> Health {
    let rejected = status.rejected.iter().rev().find(|rejected| rejected.revision.digest == revision);
    match (status.phase, rejected) {
        (RolloutPhase::Rejected | RolloutPhase::Healthy, Some(rejected)) => {
            Health::new(Status::Degraded, format!("the revision was rejected: {}", rejected.why))
        }
        (RolloutPhase::Progressing | RolloutPhase::Promoting | RolloutPhase::Aborting, _)
            if !status.message.is_empty() =>
        {
            Health::new(Status::Progressing, format!("rolling out: {}", status.message))
        }
        _ => Health::new(Status::Progressing, "rolling out"),
    }
}
