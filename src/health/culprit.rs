//! Which pod, container and event keep a workload from being healthy.
//!
//! [`selector`] says which pods are a workload's, [`name`] picks the one that is worst off and puts it in words:
//! `pod fraud-7c9f-x2v container server: CrashLoopBackOff, exit 137 OOMKilled, 5 restarts; last event ...`.

use serde_json::Value;

use super::builtin::{containers, is_stuck};
use super::{condition, text};
use crate::model::Key;

/// Longest text of one event or message; a scheduler names every reason of every node.
const LONGEST: usize = 300;

/// How the pods of a workload are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// By these labels, known from the name alone.
    Labels(String),
    /// By the selector in the workload's own spec.
    OwnSpec,
    /// It is a pod.
    Itself,
}

/// How the pods of this object are found; `None` where it has none.
pub fn selector(key: &Key) -> Option<Selector> {
    let label = match (key.group.as_str(), key.kind.as_str()) {
        ("", "Pod") => return Some(Selector::Itself),
        ("apps", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet")
        | ("", "ReplicationController")
        | ("batch", "Job")
        | ("argoproj.io", "Rollout") => return Some(Selector::OwnSpec),
        ("serving.kserve.io", "InferenceService") => "serving.kserve.io/inferenceservice",
        ("serving.kserve.io", "InferenceGraph") => "serving.kserve.io/inferencegraph",
        ("serving.kserve.io", "LLMInferenceService") => "app.kubernetes.io/name",
        ("serving.knative.dev", "Service") => "serving.knative.dev/service",
        ("serving.knative.dev", "Revision") => "serving.knative.dev/revision",
        ("argoproj.io", "Workflow") => "workflows.argoproj.io/workflow",
        ("argoproj.io", "Sensor") => "sensor-name",
        ("argoproj.io", "EventSource") => "eventsource-name",
        (
            "kubeflow.org",
            "PyTorchJob" | "TFJob" | "XGBoostJob" | "MPIJob" | "JAXJob" | "PaddleJob" | "MXJob",
        ) => "training.kubeflow.org/job-name",
        ("kubeflow.org", "Notebook") => "notebook-name",
        ("trainer.kubeflow.org", "TrainJob") | ("jobset.x-k8s.io", "JobSet") => {
            "jobset.sigs.k8s.io/jobset-name"
        }
        ("ray.io", "RayCluster") => "ray.io/cluster",
        ("ray.io", "RayService" | "RayJob") => "ray.io/originated-from-cr-name",
        ("batch.volcano.sh", "Job") => "volcano.sh/job-name",
        ("machinelearning.seldon.io", "SeldonDeployment") => "seldon-deployment-id",
        ("mlops.seldon.io", "Server") => "seldon-server-name",
        _ => return None,
    };
    // A label's value is no longer than this; what is longer was cut by its controller in a way of its own.
    (key.name.len() <= 63).then(|| Selector::Labels(format!("{label}={}", key.name)))
}

/// The label selector in a workload's spec, as the API takes it.
pub fn own_selector(workload: &Value) -> Option<String> {
    let selector = workload["spec"]["selector"].as_object()?;
    let mut parts = Vec::new();
    // A ReplicationController has labels only.
    let bare = !selector.contains_key("matchLabels") && !selector.contains_key("matchExpressions");
    let labels = if bare { Some(selector) } else { selector.get("matchLabels").and_then(Value::as_object) };
    for (name, value) in labels.into_iter().flatten() {
        parts.push(format!("{name}={}", value.as_str()?));
    }
    for one in selector.get("matchExpressions").and_then(Value::as_array).into_iter().flatten() {
        let name = one["key"].as_str()?;
        let values: Vec<&str> =
            one["values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let values = values.join(",");
        parts.push(match one["operator"].as_str()? {
            "In" => format!("{name} in ({values})"),
            "NotIn" => format!("{name} notin ({values})"),
            "Exists" => name.to_owned(),
            "DoesNotExist" => format!("!{name}"),
            _ => return None,
        });
    }
    // An empty selector is every pod of the namespace.
    (!parts.is_empty()).then(|| parts.join(","))
}

/// What is wrong with a pod, and how wrong: the larger, the worse.
fn trouble(pod: &Value) -> Option<(u8, String)> {
    if pod["metadata"]["deletionTimestamp"].is_string() || pod["status"]["phase"] == "Succeeded" {
        return None;
    }
    let said = |container: &Value, why: &str| {
        let name = container["name"].as_str().unwrap_or("?");
        let restarts = container["restartCount"].as_i64().unwrap_or_default();
        let restarts = match restarts {
            0 => String::new(),
            1 => ", 1 restart".into(),
            many => format!(", {many} restarts"),
        };
        format!(" container {name}: {why}{restarts}")
    };
    let ended = |state: &Value| {
        let ended = state["terminated"].as_object()?;
        let code = ended.get("exitCode").and_then(Value::as_i64).unwrap_or_default();
        let reason = ended.get("reason").and_then(Value::as_str).filter(|reason| *reason != "Error");
        let message =
            ended.get("message").and_then(Value::as_str).filter(|message| !message.trim().is_empty());
        let part = |text: Option<&str>| text.map(|text| format!(" {}", short(text))).unwrap_or_default();
        (code != 0).then(|| format!("exit {code}{}{}", part(reason), part(message)))
    };
    let mut found: Vec<(u8, String)> = Vec::new();
    for container in containers(pod) {
        let (state, last) = (&container["state"], &container["lastState"]);
        if let Some(reason) = state["waiting"]["reason"].as_str().filter(|reason| is_stuck(reason)) {
            let why = match ended(last) {
                // "back-off 5m0s restarting failed container" says less than why it failed.
                Some(ended) if reason == "CrashLoopBackOff" => format!("{reason}, {ended}"),
                _ => short(&text(&state["waiting"])),
            };
            found.push((6, said(container, &why)));
        } else if let Some(ended) = ended(state) {
            found.push((5, said(container, &ended)));
        } else if let Some(ended) = ended(last).filter(|_| container["ready"] != true) {
            found.push((4, said(container, &format!("ended before with {ended}"))));
        } else if state["running"].is_object() && container["ready"] == false {
            found.push((2, said(container, "runs, and is not ready")));
        } else if let Some(reason) = state["waiting"]["reason"].as_str() {
            found.push((1, said(container, reason)));
        }
    }
    if pod["status"]["phase"] == "Failed" && found.is_empty() {
        found.push((5, format!(": {}", short(&text(&pod["status"])))));
    }
    match condition(pod, "PodScheduled").filter(|found| found["status"] == "False") {
        Some(unscheduled) => found.push((3, format!(": {}", short(&text(unscheduled))))),
        None if condition(pod, "Ready").is_none_or(|found| found["status"] != "True") => {
            let unready = condition(pod, "Ready").filter(|found| found["status"] == "False");
            found.push((
                1,
                format!(": {}", unready.map_or_else(|| "it is starting".into(), |found| short(&text(found)))),
            ));
        }
        None => {}
    }
    // Of equals the first.
    found.into_iter().rev().max_by_key(|(rank, _)| *rank)
}

fn short(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.len() <= LONGEST { line } else { line.chars().take(LONGEST - 3).chain("...".chars()).collect() }
}

/// The pod that is worst off: its place in the list.
pub fn worst_pod(pods: &[Value]) -> Option<usize> {
    let troubled = pods.iter().enumerate().filter_map(|(place, pod)| Some((trouble(pod)?.0, place)));
    // Of equals the first, which a list by name keeps stable.
    troubled.max_by_key(|(rank, place)| (*rank, std::cmp::Reverse(*place))).map(|(_, place)| place)
}

fn when(event: &Value) -> &str {
    let times = [
        &event["series"]["lastObservedTime"],
        &event["lastTimestamp"],
        &event["eventTime"],
        &event["firstTimestamp"],
    ];
    times.iter().find_map(|time| time.as_str()).unwrap_or_default()
}

/// The newest warning, in words.
fn last_warning(events: &[Value]) -> Option<String> {
    let warnings = events.iter().filter(|event| event["type"] == "Warning" && event["reason"] != "BackOff");
    let newest = warnings.max_by_key(|event| when(event))?;
    Some(short(&text(newest)))
}

/// Names what keeps a workload from being healthy. `events` are those of [`worst_pod`], or of the workload where no pod is
/// in trouble. `None` where nothing is wrong with either.
pub fn name(pods: &[Value], events: &[Value]) -> Option<String> {
    let event = last_warning(events);
    let Some(pod) = worst_pod(pods).and_then(|place| pods.get(place)) else {
        let event = event?;
        return Some(if pods.is_empty() {
            format!("it has no pod; last event {event}")
        } else {
            format!("last event {event}")
        });
    };
    let (_, why) = trouble(pod)?;
    let name = pod["metadata"]["name"].as_str().unwrap_or("?");
    // What the pod says of itself need not be said twice.
    let event = event.filter(|event| !why.contains(event.as_str()));
    let event = event.map(|event| format!("; last event {event}")).unwrap_or_default();
    Some(format!("pod {name}{why}{event}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each fixture: the text that is expected, the pods and the events.
    #[test]
    fn fixtures() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/health/culprit.yaml");
        let text = std::fs::read(path).unwrap();
        let cases = crate::model::yaml::read(&text, "culprit.yaml").unwrap();
        assert!(cases.len() >= 14, "{}", cases.len());
        for case in cases {
            let list = |field: &str| case.value[field].as_array().cloned().unwrap_or_default();
            let named = name(&list("pods"), &list("events"));
            assert_eq!(named.as_deref(), case.value["says"].as_str(), "line {}", case.line);
        }
    }

    #[test]
    fn selectors() {
        let key = |group: &str, kind: &str, name: &str| Key {
            group: group.into(),
            kind: kind.into(),
            namespace: "ml".into(),
            name: name.into(),
        };
        assert_eq!(selector(&key("apps", "Deployment", "a")), Some(Selector::OwnSpec));
        assert_eq!(selector(&key("", "Pod", "a")), Some(Selector::Itself));
        assert_eq!(selector(&key("", "ConfigMap", "a")), None);
        assert_eq!(
            selector(&key("serving.kserve.io", "InferenceService", "fraud")),
            Some(Selector::Labels("serving.kserve.io/inferenceservice=fraud".into()))
        );
        assert_eq!(selector(&key("ray.io", "RayCluster", &"a".repeat(64))), None);
        let own = |selector: Value| own_selector(&serde_json::json!({"spec": {"selector": selector}}));
        assert_eq!(
            own(serde_json::json!({"matchLabels": {"app": "a", "b": "c"}})).as_deref(),
            Some("app=a,b=c")
        );
        assert_eq!(own(serde_json::json!({"app": "a"})).as_deref(), Some("app=a"));
        assert_eq!(own(serde_json::json!({"matchLabels": {}})), None);
        assert_eq!(
            own(serde_json::json!({"matchExpressions": [
                {"key": "a", "operator": "In", "values": ["x", "y"]}, {"key": "b", "operator": "NotIn", "values": ["z"]},
                {"key": "c", "operator": "Exists"}, {"key": "d", "operator": "DoesNotExist"}]}))
            .as_deref(),
            Some("a in (x,y),b notin (z),c,!d")
        );
    }
}
