//! What pods say of themselves.

use serde_json::Value;

/// Why pods do not come up: a resource that no node has, an image that is not there, a container that ends. Empty where
/// none says anything.
pub fn obstacle(pods: &[Value]) -> String {
    let said = pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null()).find_map(|pod| {
        let status = &pod["status"];
        if let Some(condition) = unscheduled(pod) {
            return Some(format!(
                "a pod cannot be scheduled: {}",
                short_of(pod, text(&condition["message"]))
            ));
        }
        let lists = [&status["initContainerStatuses"], &status["containerStatuses"]];
        lists.into_iter().flat_map(|list| list.as_array().into_iter().flatten()).find_map(|container| {
            let name = text(&container["name"]);
            let waits = &container["state"]["waiting"];
            match waits["reason"].as_str() {
                None | Some("ContainerCreating" | "PodInitializing") => {
                    let ended = &container["state"]["terminated"];
                    let code = ended["exitCode"].as_i64().filter(|code| *code != 0)?;
                    Some(format!("container {name} ended with {code} ({})", text(&ended["reason"])))
                }
                Some(reason) => {
                    let last = container["lastState"]["terminated"]["exitCode"].as_i64();
                    let last = last.map(|code| format!(", it ended with {code}")).unwrap_or_default();
                    Some(format!("container {name} waits: {reason}{last}"))
                }
            }
        })
    });
    said.unwrap_or_default()
}

/// Whether pods are missing that have no place, and nothing else is wrong with any: the scheduler finds no node, a queue
/// holds them back (`SchedulingGated`), or a quota lets none be made, which their controller says as `obstacle`.
pub fn lack_a_place(pods: &[Value], obstacle: &str) -> bool {
    let is_missing = |pod: &&Value| pod["metadata"]["deletionTimestamp"].is_null() && !is_ready(pod);
    let mut missing = pods.iter().filter(is_missing).peekable();
    if missing.peek().is_none() {
        return obstacle.contains("exceeded quota");
    }
    missing.all(|pod| unscheduled(pod).is_some())
}

/// The condition that says so.
fn unscheduled(pod: &Value) -> Option<&Value> {
    let mut conditions = pod["status"]["conditions"].as_array()?.iter();
    conditions.find(|condition| condition["type"] == "PodScheduled" && condition["status"] == "False")
}

/// What a pod wants that no node has free, as in `0/5 nodes are available: 5 Insufficient nvidia.com/gpu.`, with the
/// scheduler's own words.
fn short_of(pod: &Value, said: &str) -> String {
    let words: Vec<&str> = said.split([' ', ',']).collect();
    let resources = words.windows(2).filter(|pair| pair[0] == "Insufficient").map(|pair| pair[1]);
    let containers = || pod["spec"]["containers"].as_array().into_iter().flatten();
    let wants = resources.filter_map(|resource| {
        let resource = resource.trim_end_matches('.');
        let requests = containers().map(|container| &container["resources"]["requests"][resource]);
        let amounts = requests.filter_map(|amount| match amount {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        });
        let amounts: Vec<String> = amounts.collect();
        (!amounts.is_empty()).then(|| format!("{} {resource}", amounts.join("+")))
    });
    let wants: Vec<String> = wants.collect();
    match pod["metadata"]["name"].as_str() {
        Some(name) if !wants.is_empty() => {
            format!("{name} wants {}, which no node for it has free ({said})", wants.join(" and "))
        }
        _ => said.to_owned(),
    }
}

/// Whether a pod serves.
pub fn is_ready(pod: &Value) -> bool {
    let mut conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default().lines().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_missing_is_named() {
        let said = "0/5 nodes are available: 2 Insufficient memory, 3 Insufficient nvidia.com/gpu. preemption: none.";
        let unscheduled =
            json!([{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": said}]);
        let pod = json!({"metadata": {"name": "fraud-0"}, "status": {"conditions": unscheduled},
            "spec": {"containers": [{"resources": {"requests": {"nvidia.com/gpu": "1"}}},
                {"resources": {"requests": {"nvidia.com/gpu": 2, "cpu": "1"}}}]}});
        assert_eq!(
            obstacle(std::slice::from_ref(&pod)),
            format!(
                "a pod cannot be scheduled: fraud-0 wants 1+2 nvidia.com/gpu, which no node for it has free ({said})"
            )
        );
        let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        let starts = json!({"status": {"conditions": [{"type": "PodScheduled", "status": "True"}]}});
        let mut going = starts.clone();
        going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        assert!(lack_a_place(&[ready.clone(), pod.clone(), going], ""));
        assert!(!lack_a_place(&[starts, pod], ""), "another one only takes its time");
        assert!(!lack_a_place(std::slice::from_ref(&ready), ""));
        let quota = "pods \"a\" is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=1, used: 4, limited: 4";
        assert!(lack_a_place(&[ready], quota));
    }

    #[test]
    fn the_first_reason_counts() {
        let check = |status: Value, expected: &str| {
            assert_eq!(obstacle(&[json!({"status": {}}), json!({ "status": status })]), expected);
        };
        check(json!({}), "");
        check(
            json!({"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/2 nodes are available: 2 Insufficient nvidia.com/gpu.\nmore"}]}),
            "a pod cannot be scheduled: 0/2 nodes are available: 2 Insufficient nvidia.com/gpu.",
        );
        check(
            json!({"containerStatuses": [{"name": "c", "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"exitCode": 1}}}]}),
            "container c waits: CrashLoopBackOff, it ended with 1",
        );
        check(
            json!({"containerStatuses": [{"name": "c", "state": {"waiting": {"reason": "ContainerCreating"}}}]}),
            "",
        );
        check(
            json!({"initContainerStatuses": [{"name": "i", "state": {"terminated": {"exitCode": 3, "reason": "Error"}}}]}),
            "container i ended with 3 (Error)",
        );
    }
}
