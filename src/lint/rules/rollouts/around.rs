//! A policy beside its target, the Services in front of it and the routes to them.

use serde_json::Value;

use super::{
    DEADLINE, FIELD_UNUSED, ROUTE_ELSEWHERE, ROUTE_MISSING, SERVICE, SERVICE_MISSING, TARGET, TARGET_MISSING,
    TARGET_TWICE, Target, WEIGHT_CUT, has, routes as known,
};
use crate::lint::pods::{Pod, matches, pods};
use crate::lint::rule::Out;
use crate::lint::rules::containers::{is_template, selects};
use crate::lint::set::{Set, Subject, same_namespace};
use crate::model::{GROUP, Gvk, duration};

/// Seconds of progressDeadline where it is not given.
const USUAL: u64 = 600;

pub(super) fn check(policy: &Subject, target: &Target, set: &Set<'_>, out: &mut Out) {
    let Target { group, kind, name, .. } = target;
    if name.is_empty() || kind.is_empty() || is_template(name) {
        return;
    }
    unused(policy, target, out);
    twice(policy, target, set, out);
    if set.nowhere(group, kind, &policy.namespace, name) {
        let why = format!("its target, the {kind} {name}, is not in the tree");
        out.add(&TARGET_MISSING, "/spec/targetRef/name", why);
    }
    let found = set.find(group, kind, &policy.namespace, name).filter(|found| !found.is_hook());
    let mut service = None;
    if let Some(found) = found {
        deadline(policy, found, out);
        let rolls = has(policy, "rolling");
        let why = if rolls { delegated(found) } else { obstacle(policy, target, found) };
        if let Some(why) = why {
            out.add(&TARGET, "/spec/targetRef/name", format!("{}: {why}", found.title()));
        }
        if !rolls && target.has_twin() {
            makes_place(policy, found, set, out);
            weights(policy, found, set, out);
            service = in_front(policy, found, set, out);
        }
    }
    if target.has_twin() && !has(policy, "rolling") {
        let named = policy.text("/spec/traffic/service");
        routes(policy, service.unwrap_or(named), set, out);
    }
}

fn twice(policy: &Subject, target: &Target, set: &Set<'_>, out: &mut Out) {
    let mut before = set.all(GROUP, "RolloutPolicy").take_while(|one| !std::ptr::eq(*one, policy));
    let same = |one: &&Subject| {
        let other = Target::of(one);
        one.namespace == policy.namespace
            && !one.is_hook()
            && other.is(&target.group, &target.kind)
            && other.name == target.name
    };
    if let Some(other) = before.find(same) {
        let why = format!("{} {} is the target of {} too", target.kind, target.name, other.title());
        out.add(&TARGET_TWICE, "/spec/targetRef/name", why);
    }
}

/// Why an object cannot be judged on its kind's own way.
fn delegated(found: &Subject) -> Option<String> {
    let elsewhere = found.is("argoproj.io", "Rollout") && found.at("/spec/workloadRef").is_some();
    elsewhere.then(|| "its template is that of another object (spec.workloadRef)".into())
}

/// A place of the target: the one that its policy says, or the usual one.
fn place(policy: &Subject, field: &str, usual: &str) -> String {
    let stated = policy.text(&format!("/spec/targetRef/fields/{field}"));
    let path = if stated.is_empty() { usual } else { stated };
    format!("/{}", path.trim_start_matches('.').replace('.', "/"))
}

/// Why an object cannot go in steps.
fn obstacle(policy: &Subject, target: &Target, found: &Subject) -> Option<String> {
    let (template, selector) =
        (place(policy, "template", "spec.template"), place(policy, "selector", "spec.selector"));
    if target.declared {
        let missing = [("template", &template), ("selector", &selector)]
            .into_iter()
            .find(|(_, place)| !found.at(place).is_some_and(Value::is_object));
        if let Some((what, place)) = missing {
            let field = place.trim_start_matches('/').replace('/', ".");
            return Some(format!("it has no {what} of pods at {field}"));
        }
    }
    match (found.gvk.group.as_str(), found.gvk.kind.as_str()) {
        _ if target.has_twin() => selects_any(found, &template, &selector).then(|| {
            "its selector would select the candidate's pods too; name a label in matchLabels".into()
        }),
        ("apps", "StatefulSet") => {
            let partition = found.at("/spec/updateStrategy/rollingUpdate/partition").and_then(Value::as_i64);
            if found.text("/spec/updateStrategy/type") == "OnDelete" {
                Some("its updateStrategy is OnDelete, and only RollingUpdate has a partition".into())
            } else {
                partition
                    .filter(|partition| *partition > 0)
                    .map(|partition| format!("it has the partition {partition}, which the rollout sets"))
            }
        }
        ("serving.kserve.io", "InferenceService") => {
            let mode = found.annotation("serving.kserve.io/deploymentMode").unwrap_or_default();
            let states = |pointer: &str| found.at(pointer).is_some();
            let standard = matches!(mode, "Standard" | "RawDeployment");
            if mode == "ModelMesh" {
                Some("its mode is ModelMesh, where KServe has no canary".into())
            } else if states("/spec/predictor/canaryTrafficPercent") {
                Some("it states canaryTrafficPercent, which the rollout sets".into())
            } else if !standard {
                None
            } else if states("/spec/canary") {
                Some("it states spec.canary, which the rollout sets".into())
            } else if states("/spec/transformer") || states("/spec/explainer") {
                Some(
                    "it has a transformer or an explainer, past which KServe sends the traffic of a canary"
                        .into(),
                )
            } else if states("/spec/predictor/workerSpec") {
                Some("it has a workerSpec, and KServe has no canary over several nodes".into())
            } else {
                let none = found.at("/spec/predictor/minReplicas").and_then(Value::as_u64) == Some(0);
                none.then(|| "its minReplicas are 0, and KServe gives a canary no more than these".into())
            }
        }
        ("serving.knative.dev", "Service") => match found.list("/spec/traffic") {
            [] => None,
            [all] if all["latestRevision"] == true => None,
            _ => Some("it states spec.traffic, which the rollout sets".into()),
        },
        _ => None,
    }
}

/// Whether the selector still selects pods whose labels it names have other values.
fn selects_any(found: &Subject, template: &str, selector: &str) -> bool {
    let labels = found.at(&format!("{template}/metadata/labels"));
    let other = |key: &str| labels?.get(key)?.as_str().map(|value| format!("{value}-candidate"));
    let equal = found.at(&format!("{selector}/matchLabels")).and_then(Value::as_object);
    let expressions = found.list(&format!("{selector}/matchExpressions"));
    equal.is_none_or(serde_json::Map::is_empty)
        && !expressions.is_empty()
        && expressions.iter().all(|one| {
            let value = one["key"].as_str().and_then(other);
            let listed = value.as_ref().is_some_and(|value| {
                one["values"].as_array().into_iter().flatten().any(|listed| listed.as_str() == Some(value))
            });
            match one["operator"].as_str() {
                Some("In") => listed,
                Some("NotIn") => !listed,
                Some("Exists") => value.is_some(),
                Some("DoesNotExist") => value.is_none(),
                _ => false,
            }
        })
}

/// The name of the Service that is divided, where that is clear.
fn in_front<'a>(policy: &Subject, found: &Subject, set: &Set<'a>, out: &mut Out) -> Option<&'a str> {
    const NAMED: &str = "/spec/traffic/service";
    let (named, routed) = (policy.text(NAMED), !policy.list("/spec/traffic/routes").is_empty());
    let labels = found.at(&format!("{}/metadata/labels", place(policy, "template", "spec.template")));
    let services = || set.all("", "Service").filter(|one| same_namespace(&one.namespace, &policy.namespace));
    let fits = |one: &&Subject| selects(one.at("/spec/selector"), labels);
    let all: Vec<&str> = services()
        .filter(fits)
        .map(Subject::name)
        .filter(|name| named.is_empty() || *name == named)
        .collect();
    match all.as_slice() {
        [one] => return Some(one),
        [] if !named.is_empty() => {
            if services().any(|one| one.name() == named) {
                let why = format!("the Service {named} does not select the pods of {}", found.title());
                out.add(&SERVICE, NAMED, why);
            } else if set.nowhere("", "Service", &policy.namespace, named) {
                out.add(&SERVICE_MISSING, NAMED, format!("the Service {named} is not in the tree"));
            }
        }
        [] if routed => {
            let why = format!("no Service of the tree selects the pods of {}", found.title());
            out.add(&SERVICE_MISSING, "/spec/traffic/routes", why);
        }
        [] => {}
        more if routed || has(policy, "blueGreen") => {
            let why =
                format!("the Services {} select the pods of {}; name one", more.join(", "), found.title());
            out.add(&SERVICE, NAMED, why);
        }
        _ => {}
    }
    None
}

/// `service` is empty where it is not clear.
fn routes(policy: &Subject, service: &str, set: &Set<'_>, out: &mut Out) {
    for (at, route) in policy.list("/spec/traffic/routes").iter().enumerate() {
        let text = |field: &str| route.get(field).and_then(Value::as_str).unwrap_or_default();
        let Gvk { group, kind, .. } = Gvk::parse(text("apiVersion"), text("kind"));
        let (name, path) = (text("name"), format!("/spec/traffic/routes/{at}/name"));
        let Some((backends, named)) = known::fields(route).filter(|_| !name.is_empty() && !is_template(name))
        else {
            continue;
        };
        if set.nowhere(&group, &kind, &policy.namespace, name) {
            out.add(&ROUTE_MISSING, path, format!("the {kind} {name} is not in the tree"));
            continue;
        }
        let Some(found) = set.find(&group, &kind, &policy.namespace, name) else { continue };
        if known::is_ingress(route) {
            known::ingress(policy, at, route, found, out);
        }
        let pointer =
            |text: &str| format!("/{}", text.trim_start_matches('.').replace("[*]", ".*").replace('.', "/"));
        let lists = matches(&found.value, &format!("{}/*", pointer(&backends)));
        let leads = lists.iter().any(|(_, backend)| {
            let other_kind = backend["kind"].as_str().is_some_and(|kind| kind != "Service");
            let host = backend.pointer(&pointer(&named)).and_then(Value::as_str).unwrap_or_default();
            // By its name, or by its name in the cluster's DNS.
            let rest = host.strip_prefix(service);
            !other_kind && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        });
        let leads = leads || known::is_ingress(route) && known::leads(route, found, service);
        if !service.is_empty() && !leads {
            let why = format!("none of the backends of {} is the Service {service}", found.title());
            out.add(&ROUTE_ELSEWHERE, path, why);
        }
    }
}

fn deadline(policy: &Subject, found: &Subject, out: &mut Out) {
    const FIELD: &str = "/spec/progressDeadline";
    let limit = match policy.text(FIELD) {
        "" => USUAL,
        text => match duration(text) {
            Some(limit) => limit.as_secs(),
            None => return,
        },
    };
    let after = found.at("/spec/minReadySeconds").and_then(Value::as_u64).unwrap_or(0);
    let number = |probe: &Value, field: &str, usual| probe[field].as_u64().unwrap_or(usual);
    let all = pods(found);
    let containers = all.iter().flat_map(Pod::containers).filter(|container| !container.init);
    let begin = containers.map(|container| {
        let [startup, readiness] = ["startupProbe", "readinessProbe"].map(|name| &container.value[name]);
        let tries =
            number(startup, "periodSeconds", 10).saturating_mul(number(startup, "failureThreshold", 3));
        let startup =
            startup.is_object().then(|| tries.saturating_add(number(startup, "initialDelaySeconds", 0)));
        startup.unwrap_or(0).max(number(readiness, "initialDelaySeconds", 0))
    });
    let begin = begin.max().unwrap_or(0);
    if begin.saturating_add(after) > limit || after > 0 && after >= limit {
        let why = format!(
            "a pod of {} may take {begin} s to be ready by its probes and {after} s of minReadySeconds; after {limit} s without progress the revision is rejected",
            found.title()
        );
        out.add(&DEADLINE, FIELD, why);
    }
}

/// What sizes the target.
fn scaler<'a>(found: &Subject, set: &Set<'a>) -> Option<&'a Subject> {
    set.subjects().iter().find(|one| {
        let text = |field: &str| one.text(&format!("/spec/scaleTargetRef/{field}"));
        let kind = if text("kind").is_empty() { "Deployment" } else { text("kind") };
        (one.is("autoscaling", "HorizontalPodAutoscaler") || one.is("keda.sh", "ScaledObject"))
            && same_namespace(&one.namespace, &found.namespace)
            && kind == found.gvk.kind
            && text("name") == found.name()
    })
}

/// Whether there is a pod that can make place.
fn makes_place(policy: &Subject, found: &Subject, set: &Set<'_>, out: &mut Out) {
    const FIELD: &str = "/spec/unschedulable";
    if policy.text(FIELD) != "NoSurge" {
        return;
    }
    let replicas = found.at("/spec/replicas").and_then(Value::as_u64).unwrap_or(1);
    let why = match scaler(found, set) {
        Some(scaler) => format!("{} sizes the target", scaler.title()),
        None if replicas < 2 => "its one replica cannot make place without an outage".to_owned(),
        None => return,
    };
    out.add(&FIELD_UNUSED, FIELD, format!("NoSurge is not read: {why}; it waits as with Hold"));
}

/// Pods alone are to make a weight, and an autoscaler has the target's.
fn weights(policy: &Subject, found: &Subject, set: &Set<'_>, out: &mut Out) {
    if !policy.list("/spec/traffic/routes").is_empty() {
        return;
    }
    let Some(scaler) = scaler(found, set) else { return };
    for (at, step) in policy.list("/spec/strategy/canary/steps").iter().enumerate() {
        let weight = step["weight"].as_i64().filter(|weight| *weight > 50 && step["scale"].is_null());
        if let Some(weight) = weight {
            let why = format!(
                "{} sizes the target and no route divides the traffic, so the candidate gets 50% at most, not {weight}%",
                scaler.title()
            );
            out.add(&WEIGHT_CUT, format!("/spec/strategy/canary/steps/{at}/weight"), why);
        }
    }
}

fn unused(policy: &Subject, target: &Target, out: &mut Out) {
    let routed = !policy.list("/spec/traffic/routes").is_empty();
    let canary = "/spec/strategy/canary";
    let (fields, why): (&[&str], String) = match (&*target.group, &*target.kind) {
        _ if target.has_twin() && routed => (&["maxSurge"], "routes divide the traffic".into()),
        _ if target.has_twin() => {
            (&["minReplicas", "dynamicStableScale"], "no route divides the traffic".into())
        }
        ("apps", "DaemonSet") => (
            &["maxSurge", "minReplicas", "dynamicStableScale"],
            "each node has one pod of a DaemonSet".into(),
        ),
        (_, kind) => (
            &["maxSurge", "maxUnavailable", "minReplicas", "dynamicStableScale"],
            format!("{kind} holds both revisions itself"),
        ),
    };
    let mut found: Vec<String> = fields.iter().map(|field| format!("{canary}/{field}")).collect();
    if target.is("serving.kserve.io", "InferenceService") || target.is("serving.knative.dev", "Service") {
        let steps = policy.list(&format!("{canary}/steps")).len();
        found.extend((0..steps).map(|at| format!("{canary}/steps/{at}/scale")));
        found.push("/spec/strategy/blueGreen/previewReplicas".to_owned());
    }
    for path in found.into_iter().filter(|path| policy.at(path).is_some()) {
        let field = path.rsplit('/').next().unwrap_or_default();
        let why = format!("{field} is not read: {why}");
        out.add(&FIELD_UNUSED, path, why);
    }
}
