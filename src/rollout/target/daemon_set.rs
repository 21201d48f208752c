//! `DaemonSets`: the new revision has a share of the nodes.
//!
//! Its controller knows no share. While a rollout is on its way the strategy is `OnDelete`, an annotation says how many nodes
//! are to have the new revision, and the pods of so many nodes are deleted, in the order of the nodes' names; the controller
//! makes them anew. In the end the strategy is Git's again.

use serde_json::Value;

use super::{Measure, Side, Within, count, entry, is_ready, obstacle, revision_of};

pub(super) struct DaemonSet;

/// On the object: on how many nodes its newest revision is to run.
const NODES: &str = "driftless.dev/nodes";

/// What its pods say.
struct Pods<'a> {
    /// Of the template that it has now, those on their way out too: they come back so.
    new: Vec<&'a Value>,
    /// Of another one.
    old: Vec<&'a Value>,
    /// Of another one, and on their way out.
    leaving: usize,
}

fn leaves(pod: &Value) -> bool {
    !pod["metadata"]["deletionTimestamp"].is_null()
}

fn serves(pod: &Value) -> bool {
    is_ready(pod) && !leaves(pod)
}

/// Pods that were broken before: they count as missing, and may be what the rollout waits for.
fn broken(old: &[&Value]) -> String {
    let mut nodes: Vec<&str> =
        old.iter().filter(|pod| !serves(pod)).filter_map(|pod| pod["spec"]["nodeName"].as_str()).collect();
    nodes.sort_unstable();
    match nodes.as_slice() {
        [] => String::new(),
        [first, rest @ ..] => {
            let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
            format!("the pod of before on {first}{more} does not serve, which counts towards maxUnavailable")
        }
    }
}

fn many(pods: usize) -> u32 {
    u32::try_from(pods).unwrap_or(u32::MAX)
}

impl DaemonSet {
    fn nodes(live: &Value) -> u32 {
        count(&live["status"]["desiredNumberScheduled"], 0)
    }

    fn goal(live: &Value) -> u32 {
        let stated = live["metadata"]["annotations"][NODES].as_str().and_then(|text| text.parse().ok());
        stated.unwrap_or_else(|| Self::nodes(live))
    }

    /// `None` while nobody can tell which pods are of what.
    fn pods<'a>(live: &Value, pods: &'a [Value]) -> Option<Pods<'a>> {
        let newest = live["status"]["updateRevision"].as_str()?;
        let is_new = |pod: &&Value| pod["metadata"]["labels"]["controller-revision-hash"] == newest;
        let (new, rest): (Vec<&Value>, Vec<&Value>) = pods.iter().partition(is_new);
        let (leaving, old): (Vec<&Value>, Vec<&Value>) = rest.into_iter().partition(|pod| leaves(pod));
        Some(Pods { new, old, leaving: leaving.len() })
    }

    /// Pods that are ready and, as its controller counts by `minReadySeconds`, not available yet.
    fn young(live: &Value, ready: u32) -> u32 {
        match count(&live["spec"]["minReadySeconds"], 0) {
            0 => 0,
            _ => ready.saturating_sub(count(&live["status"]["numberAvailable"], 0)),
        }
    }

    /// Pods that may be missing at once, one at least; a percentage is rounded up, as its controller does.
    fn most(live: &Value) -> u32 {
        let stated = &live["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"];
        let percent = stated.as_str().and_then(|text| text.strip_suffix('%')?.parse::<u32>().ok());
        let most = match percent {
            Some(percent) => Self::nodes(live).saturating_mul(percent.min(100)).div_ceil(100),
            None => count(stated, 1),
        };
        most.max(1)
    }

    fn is_manual(live: &Value) -> bool {
        live["spec"]["updateStrategy"]["type"] == "OnDelete"
    }
}

impl Within for DaemonSet {
    fn kind(&self) -> (&'static str, &'static str) {
        ("apps", "DaemonSet")
    }

    fn revision(&self, object: &Value) -> Value {
        object["spec"]["template"].clone()
    }

    fn measure(&self) -> Measure {
        Measure::Pods
    }

    /// Whatever the strategy is, its controller takes pods off nodes where they are not to run at once.
    fn check_change(&self, wanted: &Value, live: &Value) -> Result<(), String> {
        for field in ["nodeSelector", "affinity", "tolerations"] {
            let of = |object: &Value| object["spec"]["template"]["spec"][field].clone();
            if of(wanted) != of(live) {
                return Err(format!(
                    "spec.template.spec.{field} changes on which nodes its pods run, which its controller does on all nodes at once: no share holds it back"
                ));
            }
        }
        Ok(())
    }

    fn share(&self, wanted: &mut Value, _live: &Value, much: u32) {
        let Some(fields) = wanted.as_object_mut() else { return };
        entry(entry(fields, "spec"), "updateStrategy").insert("type".into(), "OnDelete".into());
        entry(entry(fields, "metadata"), "annotations").insert(NODES.into(), much.to_string().into());
    }

    fn is_whole(&self, live: &Value) -> bool {
        live["metadata"]["annotations"][NODES].is_null()
    }

    fn candidate(&self, live: &Value, pods: &[Value]) -> Side {
        let (new, old) = Self::pods(live, pods).map(|pods| (pods.new, pods.old)).unwrap_or_default();
        let ready = many(pods.iter().filter(|pod| serves(pod)).count());
        let available = many(new.iter().filter(|pod| serves(pod)).count());
        let is_new = |pod: &&Value| new.iter().any(|one| std::ptr::eq(*one, *pod));
        let waiting: Vec<Value> = pods.iter().filter(is_new).cloned().collect();
        Side {
            digest: revision_of(live),
            size: Self::goal(live),
            pods: many(new.len()),
            available: available.saturating_sub(Self::young(live, ready)),
            settled: self.is_seen(live),
            obstacle: Some(obstacle(&waiting)).filter(|why| !why.is_empty()).unwrap_or_else(|| broken(&old)),
            ..Side::default()
        }
    }

    fn whole(&self, live: &Value) -> Side {
        let status = &live["status"];
        let (nodes, pods) = (Self::nodes(live), count(&status["currentNumberScheduled"], 0));
        let updated = count(&status["updatedNumberScheduled"], 0);
        Side {
            digest: revision_of(live),
            size: nodes,
            pods,
            available: count(&status["numberAvailable"], 0),
            settled: self.is_seen(live) && pods == nodes && updated == nodes,
            obstacle: if Self::is_manual(live) && updated < nodes {
                format!("{updated} of {nodes} pods are of this revision, and its updateStrategy is OnDelete")
            } else {
                String::new()
            },
            ..Side::default()
        }
    }

    fn has_revisions_apart(&self) -> bool {
        true
    }

    fn left(&self, live: &Value, pods: &[Value]) -> Option<u32> {
        let found = Self::pods(live, pods).filter(|_| self.is_seen(live));
        // Until it is known, something may be.
        Some(found.map_or(1, |found| many(found.old.len() + found.leaving)))
    }

    fn is_by_hand(&self, live: &Value) -> bool {
        Self::is_manual(live)
    }

    /// Those that serve come first, by the names of their nodes: a node that is broken anyway says nothing of the new
    /// revision. What serves nobody may go at any time; of the rest no more than may be missing.
    fn expelled<'a>(&self, live: &Value, pods: &'a [Value], most: Option<u32>) -> Vec<&'a Value> {
        let Some(found) = Self::pods(live, pods).filter(|_| self.is_seen(live)) else { return Vec::new() };
        let gone = many(found.new.len() + found.leaving);
        // A node without a pod gets one of the new revision, so the old ones that are to stay are counted too.
        let stays = Self::nodes(live).saturating_sub(Self::goal(live));
        let due =
            Self::goal(live).saturating_sub(gone).min(many(found.old.len()).saturating_sub(stays)) as usize;
        let ready = many(pods.iter().filter(|pod| serves(pod)).count());
        let serving = ready.saturating_sub(Self::young(live, ready));
        let missing = Self::nodes(live).saturating_sub(serving);
        let most = most.map_or_else(|| Self::most(live), |most| most.max(1));
        let mut leave = if Self::is_manual(live) { most.saturating_sub(missing) } else { 0 };
        let mut old = found.old;
        old.sort_by_key(|pod| (!is_ready(pod), pod["spec"]["nodeName"].as_str()));
        old.truncate(due);
        old.retain(|pod| {
            if !is_ready(pod) {
                return true;
            }
            let may = leave > 0;
            leave = leave.saturating_sub(1);
            may
        });
        old
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn live(nodes: u32, share: &str, strategy: &Value) -> Value {
        json!({"metadata": {"generation": 3, "annotations": {"driftless.dev/revision": "b", NODES: share}},
            "spec": {"updateStrategy": strategy},
            "status": {"observedGeneration": 3, "desiredNumberScheduled": nodes, "updateRevision": "new"}})
    }

    fn pod(node: &str, revision: &str, state: &str) -> Value {
        let ready = if state == "ready" { "True" } else { "False" };
        let leaves = if state == "leaves" { json!("2026-01-01T00:00:00Z") } else { Value::Null };
        json!({"metadata": {"labels": {"controller-revision-hash": revision}, "deletionTimestamp": leaves},
            "spec": {"nodeName": node}, "status": {"conditions": [{"type": "Ready", "status": ready}]}})
    }

    /// The nodes whose pods are to go. A pod is `NODE REVISION STATE`.
    fn goes(live: &Value, pods: &[&str], most: Option<u32>) -> String {
        let made = pods.iter().map(|text| {
            let words: Vec<&str> = text.split(' ').collect();
            pod(words[0], words[1], words[2])
        });
        let pods: Vec<Value> = made.collect();
        let gone = DaemonSet.expelled(live, &pods, most);
        gone.iter().filter_map(|pod| pod["spec"]["nodeName"].as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn pods_go_node_by_node_up_to_the_share() {
        let by_hand = json!({"type": "OnDelete"});
        let two = live(4, "2", &by_hand);
        for (pods, most, expected) in [
            (["d old ready", "b old ready", "a old ready", "c old ready"], None, "a"),
            (["d old ready", "b old ready", "a old ready", "c old ready"], Some(3), "a b"),
            (["a old leaves", "b old ready", "c old ready", "d old ready"], None, ""),
            (["a old leaves", "b old ready", "c old ready", "d old ready"], Some(2), "b"),
            (["a new starts", "b old ready", "c old ready", "d old ready"], None, ""),
            (["a new ready", "b old ready", "c old ready", "d old ready"], None, "b"),
            (["a new ready", "b new ready", "c old ready", "d old ready"], None, ""),
            // What is broken counts as missing, and does not stand for the new revision before others do.
            (["a old starts", "b old ready", "c old ready", "d old ready"], None, ""),
            (["a old starts", "b old ready", "c old ready", "d old ready"], Some(2), "b"),
        ] {
            assert_eq!(goes(&two, &pods, most), expected, "{pods:?} {most:?}");
        }
        let between = ["a new ready", "c old ready", "d old ready"];
        assert_eq!(goes(&two, &between, Some(3)), "", "b's pod is gone, and the new one is not made yet");
        let all = live(2, "2", &by_hand);
        assert_eq!(goes(&all, &["a old starts", "b old ready"], None), "a", "it serves nobody");
        let mut unseen = two;
        unseen["metadata"]["generation"] = 4.into();
        assert_eq!(goes(&unseen, &["a old ready"], None), "", "its controller would make the old one again");
    }

    #[test]
    fn its_own_controller_replaces_what_serves_where_git_says_so() {
        let rolling = json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}});
        let mut back = live(3, "", &rolling);
        back["metadata"]["annotations"] = json!({"driftless.dev/revision": "a"});
        assert_eq!(goes(&back, &["a old ready", "b old starts", "c new ready"], None), "b");
        let pods = [pod("a", "old", "ready"), pod("b", "new", "ready")];
        assert_eq!(DaemonSet.left(&back, &pods), Some(1));
        assert!(DaemonSet.is_whole(&back));
        back["metadata"]["generation"] = 4.into();
        assert_eq!(DaemonSet.left(&back, &[]), Some(1), "nobody has seen it");
    }

    #[test]
    fn where_pods_run_is_no_matter_of_a_share() {
        let at = |spec: Value| json!({"spec": {"template": {"spec": spec}}});
        let (here, other) =
            (at(json!({"nodeSelector": {"a": "b"}})), at(json!({"nodeSelector": {"a": "c"}})));
        assert!(DaemonSet.check_change(&here, &here).is_ok());
        assert!(
            DaemonSet.check_change(&other, &here).unwrap_err().contains("spec.template.spec.nodeSelector")
        );
        let tolerant = at(json!({"nodeSelector": {"a": "b"}, "tolerations": [{"operator": "Exists"}]}));
        assert!(DaemonSet.check_change(&tolerant, &here).unwrap_err().contains("tolerations"));
    }

    #[test]
    fn a_percentage_of_nodes_may_be_missing() {
        let strategy = json!({"type": "OnDelete", "rollingUpdate": {"maxUnavailable": "30%"}});
        assert_eq!(DaemonSet::most(&live(5, "1", &strategy)), 2);
        let surging = json!({"type": "OnDelete", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}});
        assert_eq!(DaemonSet::most(&live(5, "1", &surging)), 1, "two pods of one node cannot be had so");
    }

    #[test]
    fn what_is_seen_of_both_revisions() {
        let mut live = live(3, "2", &json!({"type": "OnDelete"}));
        let pods = [pod("a", "new", "ready"), pod("b", "new", "starts"), pod("c", "old", "ready")];
        let side = DaemonSet.candidate(&live, &pods);
        assert_eq!((side.size, side.pods, side.available), (2, 2, 1));
        assert_eq!(side.obstacle, "");
        let pods_of_before = [pod("b", "old", "starts"), pod("a", "old", "starts"), pod("c", "new", "ready")];
        let said = DaemonSet.candidate(&live, &pods_of_before).obstacle;
        assert_eq!(
            said,
            "the pod of before on a and 1 more does not serve, which counts towards maxUnavailable"
        );
        // One of the two that are ready is too young to count, and it is the new one.
        live["spec"]["minReadySeconds"] = 10.into();
        live["status"]["numberAvailable"] = 1.into();
        assert_eq!(DaemonSet.candidate(&live, &pods).available, 0);
        let mut wanted = json!({"spec": {"updateStrategy": {"rollingUpdate": {"maxUnavailable": 2}}}});
        DaemonSet.share(&mut wanted, &live, 2);
        assert_eq!(
            wanted,
            json!({"metadata": {"annotations": {NODES: "2"}},
                "spec": {"updateStrategy": {"type": "OnDelete", "rollingUpdate": {"maxUnavailable": 2}}}})
        );
    }
}
