//! The status of a policy: written only where nobody wrote since it was read.

use kube::api::{Patch, PatchParams};
use kube::core::DynamicObject;
use kube::{Api, ResourceExt};
use serde_json::json;

use super::Policy;
use super::stand::policy_gvk;
use crate::agent::Engine;
use crate::api::{Condition, ConditionStatus, RolloutPhase, RolloutStatus, set_condition};
use crate::error::{Code, Error, Result};
use crate::live::kube::translate;
use crate::model::{Key, merge_patch};

/// What the conditions say for a phase. `lost`: what it is to go back to cannot be had.
pub(super) fn described(status: &mut RolloutStatus, generation: i64, lost: bool, now: jiff::Timestamp) {
    use ConditionStatus::{False, True};
    let waits_for_place = !status.unschedulable_at.is_empty() && !status.without_surge;
    let (ready, working, stalled, reason) = match status.phase {
        RolloutPhase::Aborting if lost => (False, False, True, "StableLost"),
        RolloutPhase::Progressing | RolloutPhase::Promoting | RolloutPhase::Aborting if waits_for_place => {
            (False, False, True, "Unschedulable")
        }
        RolloutPhase::Healthy => (True, False, False, "Healthy"),
        RolloutPhase::Rejected => (False, False, True, "Rejected"),
        RolloutPhase::Pending => (False, True, False, "Pending"),
        RolloutPhase::Progressing => (False, True, False, "Progressing"),
        RolloutPhase::Promoting => (False, True, False, "Promoting"),
        RolloutPhase::Aborting => (False, True, False, "Aborting"),
    };
    status.observed_generation = generation;
    for (kind, state) in [("Ready", ready), ("Reconciling", working), ("Stalled", stalled)] {
        let condition = Condition {
            kind: kind.into(),
            status: state,
            reason: reason.into(),
            // The same words stand in `message`, once.
            message: String::new(),
            last_transition_time: String::new(),
            observed_generation: generation,
        };
        set_condition(&mut status.conditions, condition, now);
    }
}

impl Engine {
    /// Writes a status over the one that was there before.
    ///
    /// # Errors
    /// `ConflictRefused` where somebody wrote meanwhile, and those of the API server.
    pub(super) async fn write_rollout(
        &self,
        key: &Key,
        policy: &Policy,
        before: &RolloutStatus,
        after: &RolloutStatus,
    ) -> Result<Policy> {
        let broken = |error: serde_json::Error| Error::new(Code::Internal, error.to_string());
        let old = serde_json::to_value(before).map_err(broken)?;
        let new = serde_json::to_value(after).map_err(broken)?;
        let Some(patch) = merge_patch(&old, &new) else {
            return Ok(Policy { status: after.clone(), ..policy.clone() });
        };
        let resource = self.cluster.resource(&policy_gvk(), false).await?;
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.cluster.client(), &key.namespace, &resource.api);
        let patch = json!({"metadata": {"resourceVersion": policy.resource_version, "uid": policy.uid}, "status": patch});
        match api.patch_status(&key.name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(written) => {
                let resource_version = written.resource_version().unwrap_or_default();
                Ok(Policy {
                    version: resource_version.parse().unwrap_or_default(),
                    resource_version,
                    status: after.clone(),
                    ..policy.clone()
                })
            }
            Err(error) => Err(translate(&error).on_object(key)),
        }
    }
}
