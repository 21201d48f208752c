//! A kind that is not known, whose policy says where it has what a Deployment has: the candidate is another object of it.

use serde_json::Value;

use super::twin::{Places, dotted, put, selector, twin};
use super::{Beside, Side, Target, count, revision_of};
use crate::api::TargetFields;
use crate::error::Result;
use crate::model::Gvk;

/// A kind with the places that a policy names, as JSON pointers.
pub(super) struct Declared {
    group: String,
    kind: String,
    template: String,
    selector: String,
    replicas: String,
    pods: String,
    updated: String,
    available: String,
}

fn pointer(stated: &str, usual: &str) -> String {
    let path = if stated.is_empty() { usual } else { stated };
    format!("/{}", path.trim_start_matches('.').replace('.', "/"))
}

impl Declared {
    pub(super) fn new(gvk: &Gvk, fields: &TargetFields) -> Self {
        Self {
            group: gvk.group.clone(),
            kind: gvk.kind.clone(),
            template: pointer(&fields.template, "spec.template"),
            selector: pointer(&fields.selector, "spec.selector"),
            replicas: pointer(&fields.replicas, "spec.replicas"),
            pods: pointer(&fields.pods, "status.replicas"),
            updated: pointer(&fields.updated, "status.updatedReplicas"),
            available: pointer(&fields.available, "status.availableReplicas"),
        }
    }

    fn places(&self) -> Places<'_> {
        Places { template: &self.template, selector: &self.selector, replicas: &self.replicas }
    }
}

impl Target for Declared {
    fn kind(&self) -> (&str, &str) {
        (&self.group, &self.kind)
    }

    fn is_known(&self) -> bool {
        false
    }

    fn template(&self) -> &str {
        &self.template
    }

    fn selector(&self, object: &Value) -> Value {
        selector(object, &self.selector)
    }

    fn check(&self, object: &Value) -> Result<(), String> {
        if !object.pointer(&self.template).is_some_and(Value::is_object) {
            return Err(format!("it has no template of pods at {}", dotted(&self.template)));
        }
        if !object.pointer(&self.selector).is_some_and(Value::is_object) {
            return Err(format!("it has no selector of pods at {}", dotted(&self.selector)));
        }
        Ok(())
    }

    fn replicas(&self, object: &Value) -> Option<u32> {
        object.pointer(&self.replicas).map(|stated| count(stated, 1))
    }

    /// A controller that counts no pods of the newest template is never taken to be done with them.
    fn side(&self, live: &Value) -> Side {
        let at = |pointer: &str| live.pointer(pointer);
        let number = |pointer: &str| at(pointer).map_or(0, |found| count(found, 0));
        let size = self.replicas(live).unwrap_or(1);
        let seen = match &live["status"]["observedGeneration"] {
            Value::Null => true,
            observed => observed.as_i64() >= live["metadata"]["generation"].as_i64(),
        };
        let (pods, updated, available) = (number(&self.pods), number(&self.updated), number(&self.available));
        let untold =
            [&self.pods, &self.updated, &self.available].into_iter().find(|place| at(place).is_none());
        let obstacle = match untold {
            Some(place) if size > 0 && !live["status"].is_null() => {
                format!("its status has no {}", dotted(place))
            }
            _ => String::new(),
        };
        Side {
            digest: revision_of(live),
            size,
            pods,
            available,
            settled: seen && updated == size && pods == size,
            obstacle,
            ..Side::default()
        }
    }

    fn sized(&self, object: &mut Value, pods: u32) {
        put(object, &self.replicas, pods.into());
    }

    fn candidate(&self, object: &Value, beside: &Beside<'_>) -> Result<Value> {
        twin(object, &self.places(), beside)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::target::Owner;
    use serde_json::json;

    fn pool() -> Declared {
        let text = |text: &str| text.to_owned();
        let fields = TargetFields {
            template: text("spec.worker.template"),
            selector: text(".spec.worker.labels"),
            replicas: text("spec.size"),
            available: text("status.ready"),
            ..TargetFields::default()
        };
        Declared::new(&Gvk::parse("example.org/v1", "Pool"), &fields)
    }

    fn object() -> Value {
        json!({"apiVersion": "example.org/v1", "kind": "Pool", "metadata": {"name": "fraud", "namespace": "ml"},
            "spec": {"size": 3, "worker": {"labels": {"app": "fraud"},
                "template": {"metadata": {"labels": {"app": "fraud"}}, "spec": {}}}}})
    }

    #[test]
    fn a_twin_has_labels_of_its_own_wherever_they_stand() {
        let owner = Owner::default();
        let beside =
            Beside { policy: "p", owner: &owner, label: "ml.x", revision: "bb", pods: 2, copies: &[] };
        let twin = pool().candidate(&object(), &beside).unwrap();
        assert_eq!(twin["metadata"]["name"], "fraud-candidate");
        let worker = &twin["spec"]["worker"];
        let own = json!({"app": "fraud-candidate", "driftless.dev/rollout": "p"});
        assert_eq!((&worker["labels"], &worker["template"]["metadata"]["labels"]), (&own, &own));
        assert_eq!(twin["spec"]["size"], 2);
        assert_eq!(pool().selector(&twin)["matchLabels"], own);
    }

    #[test]
    fn what_is_not_at_its_place_is_said() {
        assert!(pool().check(&object()).is_ok());
        assert!(pool().check(&json!({})).unwrap_err().contains("spec.worker.template"));
        let mut bare = object();
        bare["spec"]["worker"]["labels"] = Value::Null;
        assert!(pool().check(&bare).unwrap_err().contains("spec.worker.labels"));
        bare["spec"].as_object_mut().unwrap().remove("size");
        assert_eq!(pool().replicas(&bare), None);
        let mut sized = json!({});
        pool().sized(&mut sized, 2);
        assert_eq!(sized, json!({"spec": {"size": 2}}));
    }

    #[test]
    fn nothing_is_done_that_is_not_counted() {
        let mut live = object();
        live["metadata"]["generation"] = 2.into();
        live["status"] = json!({"observedGeneration": 2, "replicas": 3, "ready": 3});
        let side = pool().side(&live);
        assert_eq!((side.size, side.available, side.settled), (3, 3, false));
        assert_eq!(side.obstacle, "its status has no status.updatedReplicas");
        live["status"]["updatedReplicas"] = 3.into();
        assert!(pool().side(&live).settled);
        live["metadata"]["generation"] = 3.into();
        assert!(!pool().side(&live).settled, "its controller has not seen it");
    }
}
