//! Kinds that nobody has a rule for: the conditions of kstatus.

use serde_json::Value;

use super::{Health, NOT_SEEN, Status, condition, observed, text};

pub(super) fn assess(object: &Value) -> Health {
    if observed(object) == Some(false) {
        return Health::new(Status::Progressing, NOT_SEEN);
    }
    let is = |kind: &str, status: &str| condition(object, kind).filter(|found| found["status"] == status);
    if let Some(stalled) = is("Stalled", "True") {
        return Health::new(Status::Degraded, text(stalled));
    }
    if let Some(reconciling) = is("Reconciling", "True") {
        return Health::new(Status::Progressing, text(reconciling));
    }
    if let Some(failed) = is("Failed", "True") {
        return Health::new(Status::Degraded, text(failed));
    }
    let generation = object["metadata"]["generation"].as_i64().unwrap_or_default();
    for kind in ["Ready", "Available"] {
        let Some(found) = condition(object, kind) else { continue };
        // Some controllers say it for each condition only.
        if found["observedGeneration"].as_i64().is_some_and(|observed| observed < generation) {
            return Health::new(Status::Progressing, NOT_SEEN);
        }
        return if found["status"] == "True" {
            Health::healthy()
        } else {
            Health::new(Status::Progressing, text(found))
        };
    }
    Health::healthy()
}
