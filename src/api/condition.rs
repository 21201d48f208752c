//! Conditions as kstatus reads them.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not.
    False,
    /// It cannot be said.
    Unknown,
}

/// One observation about the Application.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Ready, Reconciling, Stalled, `SourceReady`, Rendered, Applied, Healthy or Drifted.
    #[serde(rename = "type")]
    pub kind: String,
    /// True, False or Unknown.
    pub status: ConditionStatus,
    /// A stable word in CamelCase; for failures the name of the error code.
    pub reason: String,
    /// What happened, to which object, and the next action.
    pub message: String,
    /// When the status last changed (RFC 3339).
    pub last_transition_time: String,
    /// The metadata.generation that this was observed for.
    #[serde(default)]
    pub observed_generation: i64,
}

/// Sets a condition; its time moves only when its status does. Returns whether anything changed.
pub fn set_condition(conditions: &mut Vec<Condition>, mut new: Condition, now: Timestamp) -> bool {
    if let Some(old) = conditions.iter_mut().find(|old| old.kind == new.kind) {
        new.last_transition_time =
            if old.status == new.status { old.last_transition_time.clone() } else { second(now) };
        let changed = *old != new;
        *old = new;
        changed
    } else {
        new.last_transition_time = second(now);
        conditions.push(new);
        true
    }
}

/// RFC 3339 with the precision that Kubernetes keeps.
pub fn second(now: Timestamp) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
