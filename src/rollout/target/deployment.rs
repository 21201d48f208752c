//! Deployments: the candidate is another Deployment.

use serde_json::{Map, Value};

use super::{Beside, Side, Target, candidate_name, count, entry, invalid, mounts, revision_of, selects};
use crate::error::Result;

pub(super) struct Deployment;

impl Target for Deployment {
    fn kind(&self) -> (&'static str, &'static str) {
        ("apps", "Deployment")
    }

    fn replicas(&self, object: &Value) -> u32 {
        count(&object["spec"]["replicas"], 1)
    }

    fn side(&self, live: &Value) -> Side {
        let status = &live["status"];
        let size = self.replicas(live);
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
        }
    }

    fn sized(&self, object: &mut Value, pods: u32) {
        if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
            spec.insert("replicas".into(), pods.into());
        }
    }

    fn candidate(&self, object: &Value, beside: &Beside<'_>) -> Result<Value> {
        let mut twin = object.clone();
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let selector = object["spec"]["selector"].clone();
        let own = |labels: &mut Map<String, Value>| {
            let named =
                selector["matchLabels"].as_object().into_iter().flatten().map(|(key, _)| key.as_str());
            let said = selector["matchExpressions"].as_array().into_iter().flatten();
            let keys: Vec<&str> = named.chain(said.filter_map(|one| one["key"].as_str())).collect();
            for key in keys {
                if let Some(value) = labels.get(key).and_then(Value::as_str) {
                    let own = candidate_name(value);
                    labels.insert(key.to_owned(), own.into());
                }
            }
        };
        let Some(fields) = twin.as_object_mut() else { return Err(invalid("it is no object")) };
        let metadata = entry(fields, "metadata");
        metadata.insert("name".into(), candidate_name(name).into());
        own(entry(metadata, "labels"));
        let spec = entry(fields, "spec");
        let template = entry(spec, "template");
        let labels = entry(entry(template, "metadata"), "labels");
        own(labels);
        if selects(&selector, labels) {
            let why = format!(
                "the pods of a candidate cannot be told from those of {name}: its selector {selector} selects both"
            );
            return Err(invalid(why).hint("name a label in spec.selector.matchLabels"));
        }
        labels.insert(super::ROLLOUT_LABEL.into(), beside.policy.into());
        let own_labels: Map<String, Value> = selector["matchLabels"]
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(key, _)| Some((key.clone(), labels.get(key)?.clone())))
            .chain([(super::ROLLOUT_LABEL.to_owned(), beside.policy.into())])
            .collect();
        if let Some(template) = spec.get_mut("template") {
            mounts::rename(template, |mount| {
                beside.copies.contains(mount).then(|| candidate_name(&mount.name))
            });
        }
        spec.insert("selector".into(), serde_json::json!({"matchLabels": own_labels}));
        spec.insert("replicas".into(), beside.pods.into());
        beside.claim(&mut twin);
        Ok(twin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::target::{Mount, Owner};
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
