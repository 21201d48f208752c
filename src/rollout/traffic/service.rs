//! The Service of a candidate, and the candidate's pods as endpoints of the target's Service.

use serde_json::{Value, json};

use crate::model::Key;
use crate::rollout::target::{Beside, candidate_name, is_ready};

/// Endpoints of one slice at most, as the API server has it.
const ENDPOINTS: usize = 1000;

/// A Service of the candidate's pods alone: the target's, with their labels (`labels`) as its selector.
pub fn candidate_service(service: &Value, labels: &Value, beside: &Beside<'_>) -> Value {
    let name = service["metadata"]["name"].as_str().unwrap_or_default();
    let ports: Vec<Value> = service["spec"]["ports"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|port| {
            let mut port = port.clone();
            if let Some(fields) = port.as_object_mut() {
                fields.remove("nodePort");
            }
            port
        })
        .collect();
    let mut made = json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": candidate_name(name), "namespace": service["metadata"]["namespace"],
            "labels": service["metadata"]["labels"]},
        "spec": {"selector": labels, "ports": ports}});
    if !made["metadata"]["labels"].is_object() {
        made["metadata"]["labels"] = json!({});
    }
    if service["spec"]["clusterIP"] == "None" {
        made["spec"]["clusterIP"] = "None".into();
    }
    beside.claim(&mut made);
    made
}

/// A slice of endpoints.
#[derive(Clone, Debug, PartialEq)]
pub struct Slice {
    /// Its name.
    pub name: String,
    /// The object.
    pub body: Value,
}

/// The candidate's pods as endpoints of a Service: a slice for each family of addresses, also where it is empty.
pub fn slices(service: &Key, body: &Value, pods: &[Value], beside: &Beside<'_>) -> Vec<Slice> {
    let families = [("IPv4", false), ("IPv6", true)];
    let made = families.into_iter().map(|(family, is_six)| {
        let endpoints: Vec<Value> =
            pods.iter().filter_map(|pod| endpoint(pod, is_six)).take(ENDPOINTS).collect();
        let name = format!("{}-{}", candidate_name(&service.name), family.to_lowercase());
        let mut slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": name, "namespace": service.namespace, "labels": {
                "kubernetes.io/service-name": service.name,
                "endpointslice.kubernetes.io/managed-by": "driftless.dev"}},
            "addressType": family, "endpoints": endpoints, "ports": ports(body, pods)});
        beside.claim(&mut slice);
        (is_six, Slice { name, body: slice })
    });
    // No family is made up where no pod has it.
    made.filter(|(is_six, slice)| !is_six || slice.body["endpoints"] != json!([]))
        .map(|(_, slice)| slice)
        .collect()
}

fn endpoint(pod: &Value, is_six: bool) -> Option<Value> {
    let status = &pod["status"];
    let listed = status["podIPs"].as_array().into_iter().flatten().filter_map(|one| one["ip"].as_str());
    let address = listed.chain(status["podIP"].as_str()).find(|address| address.contains(':') == is_six)?;
    if matches!(status["phase"].as_str(), Some("Succeeded" | "Failed")) {
        return None;
    }
    let serving = is_ready(pod);
    let terminating = !pod["metadata"]["deletionTimestamp"].is_null();
    let mut made = json!({"addresses": [address],
        "conditions": {"ready": serving && !terminating, "serving": serving, "terminating": terminating},
        "targetRef": {"kind": "Pod", "name": pod["metadata"]["name"], "namespace": pod["metadata"]["namespace"],
            "uid": pod["metadata"]["uid"]}});
    if let Some(node) = pod["spec"]["nodeName"].as_str() {
        made["nodeName"] = node.into();
    }
    Some(made)
}

/// The Service's ports as its pods have them. A name stands for the same number in all pods of a revision.
fn ports(service: &Value, pods: &[Value]) -> Vec<Value> {
    let named = |name: &str| {
        let containers = pods.first().and_then(|pod| pod["spec"]["containers"].as_array());
        let mut all =
            containers.into_iter().flatten().flat_map(|one| one["ports"].as_array().into_iter().flatten());
        all.find(|port| port["name"] == name).map(|port| port["containerPort"].clone())
    };
    let all = service["spec"]["ports"].as_array().into_iter().flatten();
    all.filter_map(|port| {
        let number = match &port["targetPort"] {
            Value::String(name) => named(name)?,
            Value::Null => port["port"].clone(),
            number => number.clone(),
        };
        let protocol = port["protocol"].as_str().unwrap_or("TCP");
        let mut made =
            json!({"name": port["name"].as_str().unwrap_or_default(), "port": number, "protocol": protocol});
        if let Some(app) = port["appProtocol"].as_str() {
            made["appProtocol"] = app.into();
        }
        Some(made)
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::target::Owner;

    fn beside<T>(made: impl FnOnce(&Beside<'_>) -> T) -> T {
        let owner = Owner::default();
        made(&Beside { policy: "p", owner: &owner, label: "ml.x", revision: "r", pods: 1, copies: &[] })
    }

    #[test]
    fn ready_pods_are_endpoints() {
        let service = json!({"metadata": {"name": "fraud", "namespace": "ml"}, "spec": {"ports": [
            {"name": "http", "port": 80, "targetPort": "web"}, {"name": "grpc", "port": 90, "appProtocol": "h2c"}]}});
        let pod = |name: &str, ip: &str, ready: &str| {
            json!({"metadata": {"name": name, "namespace": "ml", "uid": name},
            "spec": {"nodeName": "n", "containers": [{"ports": [{"name": "web", "containerPort": 8080}]}]},
            "status": {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": ready}]}})
        };
        let mut leaving = pod("c", "10.0.0.3", "True");
        leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        let pods =
            [pod("a", "10.0.0.1", "True"), pod("b", "10.0.0.2", "False"), leaving, json!({"status": {}})];
        let key = Key {
            group: String::new(),
            kind: "Service".into(),
            namespace: "ml".into(),
            name: "fraud".into(),
        };
        let made = beside(|beside| slices(&key, &service, &pods, beside));
        assert_eq!(made.len(), 1);
        let body = &made[0].body;
        assert_eq!(body["metadata"]["labels"]["kubernetes.io/service-name"], "fraud");
        let ready: Vec<bool> = body["endpoints"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["conditions"]["ready"].as_bool().unwrap())
            .collect();
        assert_eq!(ready, [true, false, false]);
        assert_eq!(
            body["ports"],
            json!([{"name": "http", "port": 8080, "protocol": "TCP"},
            {"name": "grpc", "port": 90, "protocol": "TCP", "appProtocol": "h2c"}])
        );
    }

    #[test]
    fn a_candidate_has_a_service_of_its_own() {
        let service = json!({"metadata": {"name": "fraud", "namespace": "ml", "labels": {"a": "b"}},
            "spec": {"type": "LoadBalancer", "clusterIP": "10.0.0.1", "selector": {"app": "fraud"},
                "ports": [{"port": 80, "nodePort": 30000}]}});
        let labels = json!({"app": "fraud-candidate"});
        let made = beside(|beside| candidate_service(&service, &labels, beside));
        assert_eq!(made["metadata"]["name"], "fraud-candidate");
        assert_eq!(made["spec"], json!({"selector": {"app": "fraud-candidate"}, "ports": [{"port": 80}]}));
    }
}
