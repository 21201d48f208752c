//! Shares of traffic, and where they go: Knative, Istio, Gateway API, Seldon.

use std::collections::HashSet;

use serde_json::Value;

use super::references::missing;
use crate::lint::rule::{Out, rules};
use crate::lint::set::{Set, Subject, same_namespace};

rules! { "Traffic":
    TRAFFIC_SUM "traffic-sum" Error Certain
        "shares of traffic that do not add up to 100"
        "Knative refuses a Service or Route whose percents are not 100 in all, Seldon a deployment or InferenceGraph splitter; the old state stays and the new version gets nothing."
    TRAFFIC_SHARES "traffic-shares-off" Warning Likely
        "weights that look like percents and are not 100 in all"
        "Istio and the Gateway API read weights in proportion, so 90 and 20 are not 90% and 20% but 82% and 18%: a canary gets another share than the file says. Make them add up to 100."
    TRAFFIC_ZERO "traffic-zero" Error Certain
        "a route whose weights are all 0"
        "No backend gets anything: every request is answered with an error (500 under the Gateway API)."
    SUBSET_UNKNOWN "subset-unknown" Error Certain
        "a subset that the DestinationRule of the host does not define"
        "Envoy has no such cluster, and requests end in 503. Add the subset to the DestinationRule or correct the name."
}

pub(super) fn check(subject: &Subject, set: &Set<'_>, out: &mut Out) {
    match (subject.gvk.group.as_str(), subject.gvk.kind.as_str()) {
        ("serving.knative.dev", "Service" | "Route") => knative(subject, out),
        ("networking.istio.io", "VirtualService") => istio(subject, set, out),
        ("gateway.networking.k8s.io", "HTTPRoute" | "GRPCRoute") => gateway(subject, set, out),
        ("machinelearning.seldon.io", "SeldonDeployment") => seldon(subject, out),
        _ => {}
    }
}

/// The weights of a list; none where one is not a number.
fn weights(list: &[Value], field: &str) -> Option<Vec<i64>> {
    list.iter().map(|one| one.get(field).map_or(Some(0), Value::as_i64)).collect()
}

fn knative(subject: &Subject, out: &mut Out) {
    let list = subject.list("/spec/traffic");
    if list.is_empty() {
        return;
    }
    if let Some(sum) = weights(list, "percent").map(|all| all.iter().sum::<i64>()).filter(|sum| *sum != 100) {
        out.add(&TRAFFIC_SUM, "/spec/traffic", format!("the percents are {sum} in all, not 100"));
    }
}

fn seldon(subject: &Subject, out: &mut Out) {
    let serving: Vec<Value> = (subject.list("/spec/predictors").iter())
        .filter(|one| one.get("shadow").and_then(Value::as_bool) != Some(true))
        .cloned()
        .collect();
    // One alone gets everything, whatever it says.
    let sum = weights(&serving, "traffic").map(|all| all.iter().sum::<i64>());
    if let Some(sum) = sum.filter(|sum| serving.len() > 1 && *sum != 100) {
        out.add(&TRAFFIC_SUM, "/spec/predictors", format!("the predictors get {sum} in all, not 100"));
    }
}

/// Tells of weights that are 0 in all, or look like percents and are none.
fn proportions(all: &[i64], path: &str, out: &mut Out) {
    let sum: i64 = all.iter().sum();
    if all.is_empty() {
        return;
    }
    if sum == 0 {
        out.add(&TRAFFIC_ZERO, path, "the weights are all 0, so no backend gets a request");
    } else if all.len() > 1 && sum != 100 && (60..=140).contains(&sum) && all.iter().all(|one| *one <= 100) {
        let shares: Vec<String> = all.iter().map(|one| format!("{}%", (one * 100 + sum / 2) / sum)).collect();
        let why = format!("the weights are {sum} in all, so the shares are {}", shares.join(" and "));
        out.add(&TRAFFIC_SHARES, path, why);
    }
}

fn istio(subject: &Subject, set: &Set<'_>, out: &mut Out) {
    for protocol in ["http", "tcp", "tls"] {
        for (at, rule) in subject.list(&format!("/spec/{protocol}")).iter().enumerate() {
            let path = format!("/spec/{protocol}/{at}/route");
            let list = rule.get("route").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            let stated = list.iter().any(|one| one.get("weight").is_some());
            if let Some(all) = weights(list, "weight").filter(|_| stated) {
                proportions(&all, &path, out);
            }
            for (number, route) in list.iter().enumerate() {
                subset(subject, route, &format!("{path}/{number}/destination/subset"), set, out);
            }
        }
    }
}

/// A short name and the full one of a Service in a namespace are one host.
fn host(text: &str, namespace: &str) -> (String, String) {
    let mut parts = text.split('.');
    let name = parts.next().unwrap_or_default();
    let stated = parts.next().filter(|_| text.split('.').count() == 2 || text.contains(".svc"));
    if text.contains('.') && stated.is_none() {
        return (text.to_owned(), String::new());
    }
    (name.to_owned(), stated.unwrap_or(namespace).to_owned())
}

fn subset(subject: &Subject, route: &Value, path: &str, set: &Set<'_>, out: &mut Out) {
    let text = |pointer: &str| route.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (name, wanted) = (text("/destination/host"), text("/destination/subset"));
    if name.is_empty() || wanted.is_empty() {
        return;
    }
    let (own, own_space) = host(name, &subject.namespace);
    let mut rules = set
        .all("networking.istio.io", "DestinationRule")
        .filter(|rule| {
            let (host, space) = host(rule.text("/spec/host"), &rule.namespace);
            host == own && same_namespace(&space, &own_space)
        })
        .peekable();
    let defines = |rule: &Subject| {
        rule.list("/spec/subsets").iter().any(|one| one.get("name").and_then(Value::as_str) == Some(wanted))
    };
    if rules.peek().is_some() && !rules.any(defines) {
        out.add(&SUBSET_UNKNOWN, path, format!("no DestinationRule for {name} has a subset {wanted}"));
    }
}

fn gateway(subject: &Subject, set: &Set<'_>, out: &mut Out) {
    let mut seen = HashSet::new();
    for (at, rule) in subject.list("/spec/rules").iter().enumerate() {
        let path = format!("/spec/rules/{at}/backendRefs");
        let list = rule.get("backendRefs").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        // One that says nothing has the weight 1.
        let all: Option<Vec<i64>> =
            list.iter().map(|one| one.get("weight").map_or(Some(1), Value::as_i64)).collect();
        if let Some(all) = all {
            proportions(&all, &path, out);
        }
        for (number, backend) in list.iter().enumerate() {
            let text = |field: &str, default| backend.get(field).and_then(Value::as_str).unwrap_or(default);
            let (kind, name) = (text("kind", "Service"), text("name", ""));
            let own = text("namespace", &subject.namespace) == subject.namespace;
            if kind == "Service" && text("group", "").is_empty() && own && seen.insert(name) {
                missing(subject, set, "", "Service", name, &format!("{path}/{number}/name"), out);
            }
        }
    }
}
