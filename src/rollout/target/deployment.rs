//! Deployments: the candidate is another Deployment.

use serde_json::Value;

use super::twin::{Places, put, twin};
use super::{Beside, Side, TEMPLATE, Target, count, revision_of};
use crate::error::Result;

pub(super) struct Deployment;

const REPLICAS: &str = "/spec/replicas";

impl Target for Deployment {
    fn kind(&self) -> (&str, &str) {
        ("apps", "Deployment")
    }

    fn replicas(&self, object: &Value) -> Option<u32> {
        object.pointer(REPLICAS).map(|stated| count(stated, 1))
    }

    fn side(&self, live: &Value) -> Side {
        let status = &live["status"];
        let size = self.replicas(live).unwrap_or(1);
        let seen = status["observedGeneration"].as_i64() >= live["metadata"]["generation"].as_i64();
        let (pods, updated) = (count(&status["replicas"], 0), count(&status["updatedReplicas"], 0));
        let failed = status["conditions"].as_array().into_iter().flatten().find(|condition| {
            condition["type"] == "ReplicaFailure" && condition["status"] == "True"
                || condition["reason"] == "ProgressDeadlineExceeded"
        });
        let obstacle = failed.and_then(|condition| condition["message"].as_str()).unwrap_or_default();
        Side {
            digest: revision_of(live),
            size,
            pods,
            available: count(&status["availableReplicas"], 0),
            settled: seen && updated == size && pods == size,
            obstacle: obstacle.to_owned(),
            ..Side::default()
        }
    }

    fn sized(&self, object: &mut Value, pods: u32) {
        put(object, REPLICAS, pods.into());
    }

    fn candidate(&self, object: &Value, beside: &Beside<'_>) -> Result<Value> {
        twin(object, &Places { template: TEMPLATE, selector: "/spec/selector", replicas: REPLICAS }, beside)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::target::{Mount, Owner, selects};
    use serde_json::json;

    fn deployment() -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "fraud", "namespace": "ml", "labels": {"app": "fraud", "driftless.dev/application": "ml.x"},
                "annotations": {"driftless.dev/revision": "aa"}},
            "spec": {"replicas": 4, "selector": {"matchLabels": {"app": "fraud"}}, "template": {
                "metadata": {"labels": {"app": "fraud", "tier": "web"}},
                "spec": {"volumes": [{"name": "c", "configMap": {"name": "settings"}}, {"name": "d", "configMap": {"name": "shared"}}]}}}})
    }

    fn twin(object: &Value, copies: &[Mount]) -> Result<Value> {
        let owner = Owner { uid: "u".into(), ..Owner::default() };
        let beside =
            Beside { policy: "fraud", owner: &owner, label: "ml.x", revision: "bb", pods: 1, copies };
        Deployment.candidate(object, &beside)
    }

    #[test]
    fn a_candidate_has_labels_of_its_own() {
        let copies = [Mount { kind: "ConfigMap", name: "settings".into() }];
        let twin = twin(&deployment(), &copies).unwrap();
        assert_eq!(twin["metadata"]["name"], "fraud-candidate");
        assert_eq!(twin["metadata"]["annotations"]["driftless.dev/revision"], "bb");
        assert_eq!(twin["metadata"]["ownerReferences"][0]["uid"], "u");
        let labels = twin["spec"]["template"]["metadata"]["labels"].as_object().unwrap();
        assert_eq!(labels["app"], "fraud-candidate");
        assert_eq!(labels["tier"], "web");
        assert!(!selects(&deployment()["spec"]["selector"], labels));
        assert!(selects(&twin["spec"]["selector"], labels));
        let stable = deployment()["spec"]["template"]["metadata"]["labels"].as_object().unwrap().clone();
        assert!(!selects(&twin["spec"]["selector"], &stable));
        let volumes = &twin["spec"]["template"]["spec"]["volumes"];
        assert_eq!(volumes[0]["configMap"]["name"], "settings-candidate");
        assert_eq!(volumes[1]["configMap"]["name"], "shared");
        assert_eq!(twin["spec"]["replicas"], 1);
    }

    #[test]
    fn what_cannot_be_told_apart_is_refused() {
        let mut vague = deployment();
        vague["spec"]["selector"] = json!({"matchExpressions": [{"key": "app", "operator": "Exists"}]});
        let error = twin(&vague, &[]).unwrap_err();
        assert!(error.why.contains("cannot be told from those of fraud"), "{error}");
    }

    #[test]
    fn what_is_seen() {
        let mut live = deployment();
        live["metadata"]["generation"] = 2.into();
        live["status"] = json!({"observedGeneration": 2, "replicas": 4, "updatedReplicas": 4,
            "availableReplicas": 3});
        let side = Deployment.side(&live);
        assert_eq!((side.size, side.pods, side.available, side.settled), (4, 4, 3, true));
        assert_eq!(side.digest, "aa");
        live["status"]["replicas"] = 5.into();
        assert!(!Deployment.side(&live).settled, "an old pod is left");
        live["status"]["replicas"] = 4.into();
        assert!(Deployment.side(&live).settled);
        live["metadata"]["generation"] = 3.into();
        assert!(!Deployment.side(&live).settled, "the controller has not seen it");
    }
}
