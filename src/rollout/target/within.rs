//! Kinds that hold two revisions themselves, or go from one to the other in their own way.
//!
//! The new revision is written into the target, with a field that says how much of it there is to be: `rolling` for
//! any kind has no such field, and is judged by its health.

use serde_json::{Value, json};

use super::argo_rollout::ArgoRollout;
use super::daemon_set::DaemonSet;
use super::kserve_canary::CanaryList;
use super::{Side, count, entry, is_ready, revision_of};
use crate::api::TrafficRoute;
use crate::rollout::machine::Routed;

/// What tells how far a kind has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Pods of each revision, of which the kind has a fixed number.
    Pods,
    /// Traffic, by the kind's own router.
    Traffic,
    /// Nothing but its health.
    Health,
    /// What its own controller, which goes in steps itself, says of it.
    Word,
}

/// What a controller that goes in steps itself is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// On from where it waits.
    Promote,
    /// All of it, now.
    PromoteFull,
    /// Back.
    Abort,
}

/// A kind.
pub trait Within: Sync {
    /// Group and kind.
    fn kind(&self) -> (&'static str, &'static str);

    /// Whether it is for this object, where a kind can be had in two ways.
    fn takes(&self, _object: &Value) -> bool {
        true
    }

    /// What makes a revision.
    fn revision(&self, object: &Value) -> Value;

    /// What is measured.
    fn measure(&self) -> Measure;

    /// Why an object cannot be rolled out so.
    ///
    /// # Errors
    /// The reason.
    fn check(&self, _object: &Value) -> Result<(), String> {
        Ok(())
    }

    /// Whether the object has both revisions in full: then `share` and `check_change` get the stable one as Git had it instead
    /// of what is live.
    fn needs_stable(&self) -> bool {
        false
    }

    /// Why its kind cannot go from what is live to this revision so.
    ///
    /// # Errors
    /// The reason.
    fn check_change(&self, _wanted: &Value, _live: &Value) -> Result<(), String> {
        Ok(())
    }

    /// Writes into the new revision's object how much of it there is to be: pods, or percent of the traffic.
    fn share(&self, wanted: &mut Value, live: &Value, much: u32);

    /// Writes into the new revision's object what it keeps of the way until it is up itself.
    fn promoted(&self, _wanted: &mut Value, _live: &Value) {}

    /// Whether a live object has nothing of a second revision.
    fn is_whole(&self, live: &Value) -> bool;

    /// The new revision, as it is seen; `pods` are those of the target.
    fn candidate(&self, live: &Value, pods: &[Value]) -> Side;

    /// All of it, as it is seen when it has one revision.
    fn whole(&self, live: &Value) -> Side;

    /// Whether what is seen is of this generation of it. Where not, what was known of the candidate counts.
    fn is_seen(&self, live: &Value) -> bool {
        is_seen(live)
    }

    /// The label selector of the new revision's pods, or of all where they have none of their own; they tell why it does not
    /// come. `None` where that is not known, or its pods are counted anyway.
    fn selector(&self, _live: &Value) -> Option<String> {
        None
    }

    /// Another object that tells how the traffic is divided.
    fn router(&self, _live: &Value) -> Option<TrafficRoute> {
        None
    }

    /// How its router divides the traffic; `route` is that other object, where it is there.
    fn routed(&self, _live: &Value, _route: Option<&Value>) -> Option<Routed> {
        None
    }

    /// The status, as a merge patch, that makes its controller hear a wish; `None` where it has nothing to hear.
    fn wish(&self, _live: &Value, _wish: Wish) -> Option<Value> {
        None
    }

    /// Whether its revisions stand in `ControllerRevisions` alone. Whoever looks writes the newest one's hash into
    /// `status.updateRevision`, where a `StatefulSet` has it.
    fn has_revisions_apart(&self) -> bool {
        false
    }

    /// Whether its pods become those of another revision by nobody's hand but the agent's.
    fn is_by_hand(&self, _live: &Value) -> bool {
        false
    }

    /// Pods that are left of another revision than its own, on the way back; `None` where nobody needs to wait for them.
    fn left(&self, _live: &Value, _pods: &[Value]) -> Option<u32> {
        None
    }

    /// Pods that are to go now, so that its controller makes them anew, when `most` may be missing; what the object says
    /// where the policy says nothing.
    fn expelled<'a>(&self, _live: &Value, _pods: &'a [Value], _most: Option<u32>) -> Vec<&'a Value> {
        Vec::new()
    }
}

pub(super) const KINDS: &[&dyn Within] =
    &[&StatefulSet, &DaemonSet, &CanaryList, &InferenceService, &KnativeService];

/// Kinds whose own way of changing is known better than by their health.
pub(super) const ROLLING: &[&dyn Within] = &[&ArgoRollout];

pub(super) fn is_seen(live: &Value) -> bool {
    live["status"]["observedGeneration"].as_i64() >= live["metadata"]["generation"].as_i64()
}

fn condition<'a>(live: &'a Value, kind: &str) -> Option<&'a Value> {
    live["status"]["conditions"].as_array().into_iter().flatten().find(|condition| condition["type"] == kind)
}

/// Any kind, by its own way of changing.
pub(super) struct Rolling;

impl Within for Rolling {
    fn kind(&self) -> (&'static str, &'static str) {
        ("", "")
    }

    fn revision(&self, object: &Value) -> Value {
        let mut spec = object["spec"].clone();
        if let Some(fields) = spec.as_object_mut() {
            fields.remove("replicas");
        }
        spec
    }

    fn measure(&self) -> Measure {
        Measure::Health
    }

    fn share(&self, _wanted: &mut Value, _live: &Value, _much: u32) {}

    fn selector(&self, live: &Value) -> Option<String> {
        if live["kind"] == "InferenceService" {
            return Some(format!("{MODEL}={}", live["metadata"]["name"].as_str()?));
        }
        let labels = live["spec"]["selector"]["matchLabels"].as_object()?.iter();
        let each = labels.filter_map(|(name, value)| Some(format!("{name}={}", value.as_str()?)));
        Some(each.collect::<Vec<_>>().join(",")).filter(|all| !all.is_empty())
    }

    fn is_whole(&self, _live: &Value) -> bool {
        true
    }

    fn candidate(&self, live: &Value, _pods: &[Value]) -> Side {
        self.whole(live)
    }

    /// Its health is told by whoever judges kinds.
    fn whole(&self, live: &Value) -> Side {
        Side { digest: revision_of(live), size: 1, pods: 1, available: 0, settled: false, ..Side::default() }
    }
}

struct StatefulSet;

impl StatefulSet {
    fn replicas(live: &Value) -> u32 {
        count(&live["spec"]["replicas"], 1)
    }

    fn partition(live: &Value) -> u32 {
        count(&live["spec"]["updateStrategy"]["rollingUpdate"]["partition"], 0)
    }
}

impl Within for StatefulSet {
    fn kind(&self) -> (&'static str, &'static str) {
        ("apps", "StatefulSet")
    }

    fn revision(&self, object: &Value) -> Value {
        object["spec"]["template"].clone()
    }

    fn measure(&self) -> Measure {
        Measure::Pods
    }

    fn check(&self, object: &Value) -> Result<(), String> {
        let strategy = &object["spec"]["updateStrategy"];
        if strategy["type"] == "OnDelete" {
            return Err("its updateStrategy is OnDelete, and only RollingUpdate has a partition".into());
        }
        if Self::partition(object) > 0 {
            return Err("it has a partition, which the rollout sets".into());
        }
        Ok(())
    }

    /// The pods with the highest ordinals are of the new revision.
    fn share(&self, wanted: &mut Value, live: &Value, much: u32) {
        let partition = Self::replicas(live).saturating_sub(much);
        let Some(fields) = wanted.as_object_mut() else { return };
        let strategy = entry(entry(fields, "spec"), "updateStrategy");
        strategy.insert("type".into(), "RollingUpdate".into());
        entry(strategy, "rollingUpdate").insert("partition".into(), partition.into());
    }

    fn is_whole(&self, live: &Value) -> bool {
        Self::partition(live) == 0
    }

    fn candidate(&self, live: &Value, pods: &[Value]) -> Side {
        let revision = &live["status"]["updateRevision"];
        let is_new = |pod: &&Value| {
            &pod["metadata"]["labels"]["controller-revision-hash"] == revision && is_seen(live)
        };
        let new: Vec<&Value> = pods.iter().filter(is_new).collect();
        let ready = |pod: &&&Value| is_ready(pod) && pod["metadata"]["deletionTimestamp"].is_null();
        let many = |pods: usize| u32::try_from(pods).unwrap_or(u32::MAX);
        Side {
            digest: revision_of(live),
            size: Self::replicas(live).saturating_sub(Self::partition(live)),
            pods: many(new.len()),
            available: many(new.iter().filter(ready).count()),
            settled: is_seen(live),
            obstacle: super::obstacle(&new.into_iter().cloned().collect::<Vec<_>>()),
            ..Side::default()
        }
    }

    fn whole(&self, live: &Value) -> Side {
        let status = &live["status"];
        let (size, pods) = (Self::replicas(live), count(&status["replicas"], 0));
        Side {
            digest: revision_of(live),
            size,
            pods,
            available: count(&status["availableReplicas"], 0),
            settled: is_seen(live) && pods == size && status["currentRevision"] == status["updateRevision"],
            ..Side::default()
        }
    }
}

struct InferenceService;

const PERCENT: &str = "canaryTrafficPercent";
/// On pods of KServe: the name of their `InferenceService`.
const MODEL: &str = "serving.kserve.io/inferenceservice";
/// On pods of Knative: the name of their revision.
const SERVED: &str = "serving.knative.dev/revision";

impl Within for InferenceService {
    fn kind(&self) -> (&'static str, &'static str) {
        ("serving.kserve.io", "InferenceService")
    }

    /// Its size, and who has how much of it, are none.
    fn revision(&self, object: &Value) -> Value {
        let mut spec = object["spec"].clone();
        if let Some(predictor) = spec["predictor"].as_object_mut() {
            for field in [PERCENT, "minReplicas", "maxReplicas", "scaleTarget", "scaleMetric"] {
                predictor.remove(field);
            }
        }
        spec
    }

    fn measure(&self) -> Measure {
        Measure::Traffic
    }

    fn check(&self, object: &Value) -> Result<(), String> {
        let mode = object["metadata"]["annotations"]["serving.kserve.io/deploymentMode"].as_str();
        if mode == Some("ModelMesh") {
            return Err(
                "its deploymentMode is ModelMesh, where KServe has no canary; `rolling` is for it".into()
            );
        }
        if !object["spec"]["predictor"][PERCENT].is_null() {
            return Err("it states canaryTrafficPercent, which the rollout sets".into());
        }
        Ok(())
    }

    /// The mode may be the cluster's, which no file says.
    fn check_change(&self, _wanted: &Value, live: &Value) -> Result<(), String> {
        match live["status"]["deploymentMode"].as_str() {
            Some(mode @ ("Standard" | "RawDeployment" | "ModelMesh")) => Err(format!(
                "KServe runs it in the mode {mode}, where it ignores canaryTrafficPercent: say that mode in its annotation serving.kserve.io/deploymentMode"
            )),
            _ => Ok(()),
        }
    }

    fn share(&self, wanted: &mut Value, _live: &Value, much: u32) {
        let Some(fields) = wanted.as_object_mut() else { return };
        entry(entry(fields, "spec"), "predictor").insert(PERCENT.into(), much.into());
    }

    fn is_whole(&self, live: &Value) -> bool {
        live["spec"]["predictor"][PERCENT].is_null()
    }

    fn candidate(&self, live: &Value, _pods: &[Value]) -> Side {
        let status = &live["status"]["components"]["predictor"];
        let created = &status["latestCreatedRevision"];
        let ready = created.is_string() && *created == status["latestReadyRevision"];
        let failure = &live["status"]["modelStatus"]["lastFailureInfo"];
        let obstacle = [&failure["reason"], &failure["message"]].into_iter().filter_map(Value::as_str);
        one(live, ready, obstacle.collect::<Vec<_>>().join(": "))
    }

    fn whole(&self, live: &Value) -> Side {
        let status = &live["status"]["components"]["predictor"];
        let all = status["latestRolledoutRevision"] == status["latestReadyRevision"];
        let ready = is_seen(live) && condition(live, "Ready").is_some_and(|found| found["status"] == "True");
        one(live, ready && all, String::new())
    }

    fn selector(&self, live: &Value) -> Option<String> {
        let created = live["status"]["components"]["predictor"]["latestCreatedRevision"].as_str()?;
        Some(format!("{SERVED}={created}"))
    }

    fn routed(&self, live: &Value, _route: Option<&Value>) -> Option<Routed> {
        let status = &live["status"]["components"]["predictor"];
        is_seen(live).then(|| to_latest(&status["traffic"], &status["latestCreatedRevision"]))
    }
}

fn one(live: &Value, ready: bool, obstacle: String) -> Side {
    let available = u32::from(ready);
    Side {
        digest: revision_of(live),
        size: 1,
        pods: 1,
        available,
        settled: ready,
        obstacle,
        ..Side::default()
    }
}

/// Percent of the traffic that goes to the newest revision.
fn to_latest(traffic: &Value, created: &Value) -> Routed {
    let all = traffic.as_array().into_iter().flatten();
    let latest = all.filter(|to| to["latestRevision"] == true || &to["revisionName"] == created);
    let weight = latest.map(|to| count(&to["percent"], 0)).sum::<u32>().min(100);
    Routed { weight, ..Routed::default() }
}

struct KnativeService;

impl Within for KnativeService {
    fn kind(&self) -> (&'static str, &'static str) {
        ("serving.knative.dev", "Service")
    }

    fn revision(&self, object: &Value) -> Value {
        object["spec"]["template"].clone()
    }

    fn measure(&self) -> Measure {
        Measure::Traffic
    }

    fn check(&self, object: &Value) -> Result<(), String> {
        match object["spec"]["traffic"].as_array().map(Vec::as_slice) {
            None | Some([]) => Ok(()),
            Some([all]) if all["latestRevision"] == true => Ok(()),
            Some(_) => Err("it states spec.traffic, which the rollout sets".into()),
        }
    }

    /// The rest goes to the revision that had all of it when the new one came.
    fn share(&self, wanted: &mut Value, live: &Value, much: u32) {
        let mut pinned = live["spec"]["traffic"].as_array().into_iter().flatten();
        let pinned = pinned.find_map(|to| to["revisionName"].as_str());
        let stable = pinned.or_else(|| live["status"]["latestReadyRevisionName"].as_str());
        let (Some(stable), Some(fields)) = (stable, wanted.as_object_mut()) else { return };
        let traffic = json!([{"revisionName": stable, "percent": 100 - much.min(100)},
            {"latestRevision": true, "percent": much.min(100), "tag": "candidate"}]);
        entry(fields, "spec").insert("traffic".into(), traffic);
    }

    fn is_whole(&self, live: &Value) -> bool {
        let mut pinned = live["spec"]["traffic"].as_array().into_iter().flatten();
        pinned.all(|to| to["revisionName"].is_null())
    }

    fn candidate(&self, live: &Value, _pods: &[Value]) -> Side {
        let created = &live["status"]["latestCreatedRevisionName"];
        let ready = created.is_string() && *created == live["status"]["latestReadyRevisionName"];
        let failed = condition(live, "ConfigurationsReady").filter(|found| found["status"] == "False");
        let obstacle = failed.and_then(|found| found["message"].as_str()).unwrap_or_default();
        one(live, ready, obstacle.to_owned())
    }

    fn whole(&self, live: &Value) -> Side {
        let ready = is_seen(live) && condition(live, "Ready").is_some_and(|found| found["status"] == "True");
        one(live, ready, String::new())
    }

    fn selector(&self, live: &Value) -> Option<String> {
        Some(format!("{SERVED}={}", live["status"]["latestCreatedRevisionName"].as_str()?))
    }

    fn routed(&self, live: &Value, _route: Option<&Value>) -> Option<Routed> {
        is_seen(live)
            .then(|| to_latest(&live["status"]["traffic"], &live["status"]["latestCreatedRevisionName"]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_what_the_new_revision_leaves() {
        let live = json!({"metadata": {"generation": 2, "annotations": {"driftless.dev/revision": "b"}},
            "spec": {"replicas": 5, "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 3}}},
            "status": {"observedGeneration": 2, "updateRevision": "s-2", "currentRevision": "s-1", "replicas": 5, "availableReplicas": 5}});
        let mut wanted = json!({"spec": {"updateStrategy": {"rollingUpdate": {"maxUnavailable": 2}}}});
        StatefulSet.share(&mut wanted, &live, 2);
        assert_eq!(
            wanted["spec"]["updateStrategy"],
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 2, "partition": 3}})
        );
        let pod = |revision: &str, ready: &str| {
            json!({"metadata": {"labels": {"controller-revision-hash": revision}},
            "status": {"conditions": [{"type": "Ready", "status": ready}]}})
        };
        let pods = [pod("s-1", "True"), pod("s-2", "True"), pod("s-2", "False")];
        let side = StatefulSet.candidate(&live, &pods);
        assert_eq!((side.size, side.pods, side.available), (2, 2, 1));
        assert!(!StatefulSet.is_whole(&live) && !StatefulSet.whole(&live).settled);
        assert!(StatefulSet.check(&live).unwrap_err().contains("partition"));
    }

    #[test]
    fn kserve_divides_by_percent() {
        let mut wanted = json!({"spec": {"predictor": {"model": {"storageUri": "b"}, "minReplicas": 2}}});
        assert_eq!(InferenceService.revision(&wanted), json!({"predictor": {"model": {"storageUri": "b"}}}));
        InferenceService.share(&mut wanted, &Value::Null, 10);
        assert_eq!(wanted["spec"]["predictor"]["canaryTrafficPercent"], 10);
        let live = json!({"metadata": {"generation": 3}, "spec": wanted["spec"], "status": {"observedGeneration": 3,
            "components": {"predictor": {"latestCreatedRevision": "r2", "latestReadyRevision": "r1", "latestRolledoutRevision": "r1",
                "traffic": [{"revisionName": "r1", "percent": 90, "tag": "prev"}, {"revisionName": "r2", "latestRevision": true, "percent": 10}]}}}});
        assert_eq!(InferenceService.routed(&live, None), Some(Routed { weight: 10, ..Routed::default() }));
        assert_eq!(InferenceService.candidate(&live, &[]).available, 0, "it is not ready");
        let mesh = json!({"metadata": {"annotations": {"serving.kserve.io/deploymentMode": "ModelMesh"}}});
        assert!(InferenceService.check(&mesh).unwrap_err().contains("ModelMesh"));
        let raw = json!({"status": {"deploymentMode": "Standard"}});
        assert!(InferenceService.check_change(&wanted, &raw).unwrap_err().contains("ignores"));
        assert!(InferenceService.check_change(&wanted, &live).is_ok());
    }

    #[test]
    fn knative_pins_what_had_all() {
        let live = json!({"status": {"latestReadyRevisionName": "s-1"}});
        let mut wanted = json!({"spec": {"template": {}}});
        KnativeService.share(&mut wanted, &live, 0);
        let first = wanted["spec"]["traffic"].clone();
        assert_eq!(first[0], json!({"revisionName": "s-1", "percent": 100}));
        let live = json!({"metadata": {"generation": 1}, "spec": wanted["spec"], "status": {"observedGeneration": 1,
            "latestReadyRevisionName": "s-2", "latestCreatedRevisionName": "s-2",
            "traffic": [{"revisionName": "s-1", "percent": 70}, {"revisionName": "s-2", "latestRevision": true, "percent": 30}]}});
        KnativeService.share(&mut wanted, &live, 30);
        assert_eq!(wanted["spec"]["traffic"][0], json!({"revisionName": "s-1", "percent": 70}));
        assert_eq!(KnativeService.routed(&live, None), Some(Routed { weight: 30, ..Routed::default() }));
        assert!(!KnativeService.is_whole(&live) && KnativeService.candidate(&live, &[]).settled);
        assert!(
            KnativeService
                .check(&json!({"spec": {"traffic": [{"latestRevision": true, "percent": 100}]}}))
                .is_ok()
        );
        assert!(KnativeService.check(&live).is_err());
    }
}
