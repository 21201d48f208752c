//! `InferenceServices` without Knative: KServe (0.20 and later) has a list of canaries beside the predictor, each with a share.
//!
//! The predictor stays the stable revision's, and the new one's stands in the list. In the end the predictor becomes the
//! new one while the canary keeps all of the traffic, and then the list goes.

use serde_json::{Value, json};

use super::{Measure, Side, Within, count, entry, is_seen, revision_of};
use crate::api::TrafficRoute;
use crate::rollout::machine::Routed;
use crate::rollout::traffic::Fields;

pub(super) struct CanaryList;

/// Name of the predictor in the list.
const NAME: &str = "candidate";
/// On the object while the predictor is the new revision already and the canary still has the traffic.
const KEEPS: &str = "driftless.dev/keeps";
/// What decides how many there are, which a canary may not say.
const SIZES: &[&str] = &["minReplicas", "maxReplicas", "scaleTarget", "scaleMetric", "autoScaling"];
/// Blocks that are a container. The full CRD of 0.20 wants their name in a canary, though not in the predictor.
const CONTAINERS: &[&str] = &[
    "model",
    "sklearn",
    "xgboost",
    "tensorflow",
    "pytorch",
    "triton",
    "onnx",
    "huggingface",
    "pmml",
    "lightgbm",
    "paddle",
];
/// The only name that KServe takes for one.
const CONTAINER: &str = "kserve-container";
const GATEWAY: &str = "gateway.networking.k8s.io";

fn stated(live: &Value) -> Option<&Value> {
    live["spec"]["canary"].as_array()?.iter().find(|canary| canary["predictor"]["name"] == NAME)
}

fn keeps(live: &Value) -> bool {
    live["metadata"]["annotations"][KEEPS] == NAME
}

/// A spec but for the predictor, which alone can be had twice.
fn rest(object: &Value) -> Value {
    let mut spec = object["spec"].clone();
    if let Some(fields) = spec.as_object_mut() {
        fields.remove("predictor");
        fields.remove("canary");
    }
    spec
}

fn ready(live: &Value) -> bool {
    let mut conditions = live["status"]["conditions"].as_array().into_iter().flatten();
    let is_ready = conditions.any(|found| found["type"] == "Ready" && found["status"] == "True");
    // An old model serves on where a new one does not load.
    let loads = matches!(
        live["status"]["modelStatus"]["transitionStatus"].as_str(),
        Some("InProgress" | "BlockedByFailedLoad" | "InvalidSpec")
    );
    is_seen(live) && is_ready && !loads
}

fn failure(status: &Value) -> String {
    let said = &status["modelStatus"]["lastFailureInfo"];
    [&said["reason"], &said["message"]].into_iter().filter_map(Value::as_str).collect::<Vec<_>>().join(": ")
}

fn one(live: &Value, ready: bool, obstacle: String) -> Side {
    let (digest, available) = (revision_of(live), u32::from(ready));
    Side { digest, size: 1, pods: 1, available, settled: ready, obstacle, ..Side::default() }
}

impl Within for CanaryList {
    fn kind(&self) -> (&'static str, &'static str) {
        ("serving.kserve.io", "InferenceService")
    }

    /// Its size is none.
    fn revision(&self, object: &Value) -> Value {
        let mut spec = object["spec"].clone();
        if let Some(predictor) = spec["predictor"].as_object_mut() {
            predictor.retain(|name, _| !SIZES.contains(&name.as_str()));
        }
        spec
    }

    fn takes(&self, object: &Value) -> bool {
        let mode = object["metadata"]["annotations"]["serving.kserve.io/deploymentMode"].as_str();
        matches!(mode, Some("Standard" | "RawDeployment"))
    }

    fn measure(&self) -> Measure {
        Measure::Traffic
    }

    fn check(&self, object: &Value) -> Result<(), String> {
        let spec = &object["spec"];
        let why = if !spec["canary"].is_null() {
            "it states spec.canary, which the rollout sets"
        } else if !spec["predictor"]["canaryTrafficPercent"].is_null() {
            "it states canaryTrafficPercent, which KServe ignores in this mode"
        } else if !spec["transformer"].is_null() || !spec["explainer"].is_null() {
            "it has a transformer or an explainer, past which KServe sends the traffic of a canary; `rolling` is for it"
        } else if spec["predictor"]["workerSpec"].is_object() {
            "it has a workerSpec, and KServe has no canary over several nodes; `rolling` is for it"
        } else if count(&spec["predictor"]["minReplicas"], 1) == 0 {
            "its minReplicas are 0, and KServe gives a canary no more than these"
        } else {
            return Ok(());
        };
        Err(why.to_owned())
    }

    fn check_change(&self, wanted: &Value, stable: &Value) -> Result<(), String> {
        if rest(wanted) == rest(stable) {
            return Ok(());
        }
        Err("more than spec.predictor changes, and only that can be had twice".to_owned())
    }

    fn needs_stable(&self) -> bool {
        true
    }

    /// `live` is the stable revision as Git had it.
    fn share(&self, wanted: &mut Value, live: &Value, much: u32) {
        let mut canary = wanted["spec"]["predictor"].clone();
        let Some(fields) = canary.as_object_mut() else { return };
        fields.retain(|name, _| !SIZES.contains(&name.as_str()));
        fields.insert("name".into(), NAME.into());
        for (_, block) in fields.iter_mut().filter(|(name, _)| CONTAINERS.contains(&name.as_str())) {
            if let Some(container) = block.as_object_mut() {
                container.entry("name").or_insert_with(|| CONTAINER.into());
            }
        }
        // By its share it would have none before it gets any traffic, and KServe refuses more than the stable side has.
        let stable = count(&live["spec"]["predictor"]["minReplicas"], 1);
        let pods = stable.saturating_mul(much.min(100)).div_ceil(100).max(1);
        fields.insert("minReplicas".into(), pods.into());
        wanted["spec"] = live["spec"].clone();
        wanted["spec"]["canary"] = json!([{"predictor": canary, "trafficPercent": much.min(100)}]);
    }

    fn is_whole(&self, live: &Value) -> bool {
        stated(live).is_none() || keeps(live) && !ready(live)
    }

    fn promoted(&self, wanted: &mut Value, live: &Value) {
        let Some(canary) = stated(live).filter(|_| !keeps(live)) else { return };
        let mut canary = canary.clone();
        canary["trafficPercent"] = 100.into();
        let (had, most) = (&canary["predictor"]["minReplicas"], &wanted["spec"]["predictor"]["minReplicas"]);
        canary["predictor"]["minReplicas"] = count(had, 1).min(count(most, 1)).into();
        let Some(fields) = wanted.as_object_mut() else { return };
        entry(entry(fields, "metadata"), "annotations").insert(KEEPS.into(), NAME.into());
        entry(fields, "spec").insert("canary".into(), json!([canary]));
    }

    fn candidate(&self, live: &Value, _pods: &[Value]) -> Side {
        let mut all = live["status"]["canaryStatuses"].as_array().into_iter().flatten();
        let Some(status) = all.find(|status| status["name"] == NAME) else {
            let why = "KServe says nothing of spec.canary, which it has from 0.20 on";
            return one(live, false, if is_seen(live) { why.to_owned() } else { String::new() });
        };
        one(live, status["ready"] == true, failure(status))
    }

    fn whole(&self, live: &Value) -> Side {
        one(live, ready(live) && stated(live).is_none(), failure(&live["status"]))
    }

    /// Its routes have its name, where a Gateway is in front of it.
    fn router(&self, live: &Value) -> Option<TrafficRoute> {
        let name = live["metadata"]["name"].as_str()?.to_owned();
        let (api_version, kind) = (format!("{GATEWAY}/v1"), "HTTPRoute".to_owned());
        Some(TrafficRoute { api_version, kind, name, ..TrafficRoute::default() })
    }

    /// What KServe echoes in its status is no traffic: 0.20.0 divides none.
    fn routed(&self, live: &Value, route: Option<&Value>) -> Option<Routed> {
        let name = live["metadata"]["name"].as_str()?;
        let own = live["spec"]["predictor"]["name"].as_str().map(|own| format!("-{own}")).unwrap_or_default();
        let fields = Fields::of(&self.router(live)?, GATEWAY).ok()?;
        let (stable, candidate) = (format!("{name}{own}-predictor"), format!("{name}-{NAME}-predictor"));
        // Without a route nothing is divided.
        let known = route.map_or(Some(Routed::default()), |route| fields.between(route, &stable, &candidate));
        known.filter(|_| is_seen(live))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(uri: &str) -> Value {
        json!({"metadata": {"name": "fraud", "annotations": {"serving.kserve.io/deploymentMode": "Standard"}},
            "spec": {"predictor": {"minReplicas": 3, "maxReplicas": 9, "model": {"storageUri": uri}}}})
    }

    #[test]
    fn the_new_predictor_stands_beside_the_stable_one() {
        let (stable, mut wanted) = (model("s3://1"), model("s3://2"));
        CanaryList.share(&mut wanted, &stable, 0);
        assert_eq!(wanted["spec"]["predictor"], stable["spec"]["predictor"]);
        let canary = |percent: u32, pods: u32| {
            json!([{"trafficPercent": percent,
                "predictor": {"name": "candidate", "minReplicas": pods,
                    "model": {"name": "kserve-container", "storageUri": "s3://2"}}}])
        };
        assert_eq!(wanted["spec"]["canary"], canary(0, 1), "one that waits for traffic is there");
        let live = wanted;
        assert!(!CanaryList.is_whole(&live));
        let mut wanted = model("s3://2");
        CanaryList.share(&mut wanted, &stable, 50);
        assert_eq!(wanted["spec"]["canary"], canary(50, 2));

        // The predictor becomes the new one before its canary goes.
        let mut wanted = model("s3://2");
        CanaryList.promoted(&mut wanted, &live);
        assert_eq!(wanted["spec"]["predictor"]["model"]["storageUri"], "s3://2");
        assert_eq!(wanted["spec"]["canary"], canary(100, 1));
        let mut live = wanted;
        assert!(CanaryList.is_whole(&live), "nothing is written while it comes up");
        assert!(!CanaryList.whole(&live).settled);
        live["status"] = json!({"conditions": [{"type": "Ready", "status": "True"}]});
        assert!(!CanaryList.is_whole(&live));
        let mut wanted = model("s3://2");
        CanaryList.promoted(&mut wanted, &live);
        assert_eq!(wanted, model("s3://2"), "as Git has it");
        assert!(CanaryList.is_whole(&wanted));
    }

    #[test]
    fn what_cannot_be_had_twice_is_refused() {
        let refused = |at: &str, value: Value, word: &str| {
            let mut object = model("a");
            object["spec"][at] = value;
            let why = CanaryList.check(&object).unwrap_err();
            assert!(why.contains(word), "{why}");
        };
        refused("canary", json!([]), "spec.canary");
        refused("transformer", json!({}), "transformer");
        refused("predictor", json!({"minReplicas": 0}), "minReplicas");
        refused("predictor", json!({"workerSpec": {}}), "workerSpec");
        refused("predictor", json!({"canaryTrafficPercent": 5}), "ignores");
        assert!(CanaryList.check(&model("a")).is_ok());
        let mut more = model("b");
        more["spec"]["explainer"] = json!({});
        assert!(CanaryList.check_change(&more, &model("a")).is_err());
        assert!(CanaryList.check_change(&model("b"), &model("a")).is_ok());
    }

    #[test]
    fn weight_is_what_its_route_does() {
        let mut live = model("a");
        live["metadata"]["generation"] = 2.into();
        live["status"] = json!({"observedGeneration": 2, "canaryStatuses": [{"name": "candidate", "ready": true, "trafficPercent": 10}]});
        assert_eq!(CanaryList.candidate(&live, &[]).available, 1);
        let none = Some(Routed::default());
        assert_eq!(CanaryList.routed(&live, None), none, "what it echoes is no traffic");
        let taken =
            json!([{"conditions": [{"type": "Accepted", "status": "True", "observedGeneration": 1}]}]);
        let route = json!({"metadata": {"generation": 1}, "spec": {"rules": [{"backendRefs": [
            {"name": "fraud-predictor", "weight": 90}, {"name": "fraud-candidate-predictor", "weight": 10}]}]},
            "status": {"parents": taken}});
        assert_eq!(CanaryList.routed(&live, Some(&route)), Some(Routed { weight: 10, ..Routed::default() }));
    }
}
