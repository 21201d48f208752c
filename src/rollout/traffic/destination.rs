//! Istio's `DestinationRule`s: TLS, pools, outliers and subsets of a host. They speak of hosts, so what the candidate's Service
//! gets goes by none of them, unless there is one for it too.

use serde_json::Value;

use super::route::is_host;
use crate::model::Gvk;
use crate::rollout::target::{Beside, candidate_name};

/// Whether an object is such a rule for this Service.
pub fn is_rule_of(gvk: &Gvk, rule: &Value, service: &str) -> bool {
    gvk.is("networking.istio.io", "DestinationRule")
        && rule["spec"]["host"].as_str().is_some_and(|host| is_host(host, service))
}

/// The same rule for the candidate's Service. Its subsets select the candidate's pods by what these are told from others
/// (`labels`), and by all else as before.
pub fn candidate_rule(rule: &Value, service: &str, labels: &Value, beside: &Beside<'_>) -> Value {
    let mut made = rule.clone();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    made["metadata"]["name"] = candidate_name(&text(&rule["metadata"]["name"])).into();
    let host = text(&rule["spec"]["host"]);
    let domain = host.strip_prefix(service).unwrap_or_default();
    made["spec"]["host"] = format!("{}{domain}", candidate_name(service)).into();
    let subsets = made.pointer_mut("/spec/subsets").and_then(Value::as_array_mut);
    for subset in subsets.into_iter().flatten() {
        for (name, value) in subset.get_mut("labels").and_then(Value::as_object_mut).into_iter().flatten() {
            if let Some(own) = labels.get(name) {
                value.clone_from(own);
            }
        }
    }
    beside.claim(&mut made);
    made
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::target::Owner;
    use serde_json::json;

    #[test]
    fn a_rule_is_made_for_the_candidate() {
        let gvk = Gvk::parse("networking.istio.io/v1", "DestinationRule");
        let rule = json!({"metadata": {"name": "fraud-tls", "namespace": "ml", "labels": {"team": "ml"}}, "spec": {
            "host": "fraud.ml.svc.cluster.local", "trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}},
            "subsets": [{"name": "gpu", "labels": {"app": "fraud", "tier": "gpu"}}, {"name": "all"}]}});
        assert!(is_rule_of(&gvk, &rule, "fraud") && !is_rule_of(&gvk, &rule, "fra"));
        assert!(!is_rule_of(&Gvk::parse("networking.istio.io/v1", "ServiceEntry"), &rule, "fraud"));
        let owner = Owner {
            api_version: "apps/v1".into(),
            kind: "Deployment".into(),
            name: "fraud-candidate".into(),
            uid: "u".into(),
        };
        let beside =
            Beside { policy: "fraud", owner: &owner, label: "ml.fraud", revision: "r", pods: 0, copies: &[] };
        let labels = json!({"app": "fraud-candidate", "driftless.dev/rollout": "fraud"});
        let made = candidate_rule(&rule, "fraud", &labels, &beside);
        assert_eq!(made["metadata"]["name"], "fraud-tls-candidate");
        assert_eq!(made["metadata"]["ownerReferences"][0]["uid"], "u");
        assert_eq!(
            made["spec"],
            json!({"host": "fraud-candidate.ml.svc.cluster.local", "trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}},
                "subsets": [{"name": "gpu", "labels": {"app": "fraud-candidate", "tier": "gpu"}}, {"name": "all"}]})
        );
    }
}
