//! What pods say of themselves.

use serde_json::Value;

/// Why pods do not come up: a resource that no node has, an image that is not there, a container that ends. Empty where
/// none says anything.
pub fn obstacle(pods: &[Value]) -> String {
    let said = pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null()).find_map(|pod| {
        let status = &pod["status"];
        let unscheduled = status["conditions"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|condition| condition["type"] == "PodScheduled" && condition["status"] == "False");
        if let Some(condition) = unscheduled {
            return Some(format!("a pod cannot be scheduled: {}", text(&condition["message"])));
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
