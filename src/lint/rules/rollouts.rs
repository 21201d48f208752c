//! Rollouts of driftless: policies, and what stands around them.

mod around;
mod routes;

use std::collections::HashSet;

use serde_json::Value;

use crate::lint::rule::{Out, rules};
use crate::lint::set::{Set, Subject};
use crate::model::{GROUP, Gvk};

rules! { "Rollouts":
    POLICY "rollout-policy" Error Certain
        "a RolloutPolicy that the API server refuses"
        "It states exactly one strategy; weights never go down; gates are declared once in spec.gates, each asks one thing and is named by a step or the background, not by both; what people approve is named by a step; a scale is replicas or percent; only the traffic of a Deployment, or of a kind with targetRef.fields, is divided by routes, and shadow and mirror need one that copies, headers one that tells requests by them; kinds that do not go in steps need targetRef.fields, or take rolling."
    TARGET_MISSING "rollout-target-missing" Warning Likely
        "a RolloutPolicy whose target is not in the tree"
        "The target is an object of the same Application and namespace. While it is not there, nothing of the commit is applied. The name is misspelt, or the target was renamed or removed."
    TARGET_TWICE "rollout-target-twice" Error Certain
        "two RolloutPolicies of one target"
        "Only one can decide about it: nothing of the commit is applied. Remove one."
    TARGET "rollout-target" Error Certain
        "a target that cannot be rolled out in steps as it stands"
        "A StatefulSet needs RollingUpdate without a partition of its own, an InferenceService neither canaryTrafficPercent nor, without Knative, a canary, a transformer, an explainer or a workerSpec, a Knative Service no traffic of its own: the rollout sets these fields. A Deployment needs a label in spec.selector.matchLabels, or it would adopt the pods of its candidate; so does a kind with targetRef.fields, with a template and a selector where these say. The strategy rolling works with all of them, but for an Argo Rollout with a workloadRef, whose template is not its own."
    ROUTE_MISSING "rollout-route-missing" Warning Likely
        "a RolloutPolicy with a route that is not in the tree"
        "A route is an object of the same Application and namespace. While it is not there, nothing of the commit is applied."
    ROUTE_ELSEWHERE "rollout-route-elsewhere" Error Certain
        "a route of a RolloutPolicy none of whose backends is the Service of the target"
        "There is nothing in it to divide. Name the Service of the target among its backends, or another route."
    ROUTE_ROUTER "rollout-route-router" Error Certain
        "an Ingress of a RolloutPolicy that nobody known carries out, or who cannot do what a step asks"
        "NGINX and ALB divide traffic by annotations of their own. Which of them it is, router says, or the class of the Ingress where that is nginx or alb. NGINX tells requests by one header (exact or regex), an ALB by exact or prefix; neither copies traffic."
    SERVICE "rollout-service" Error Certain
        "a Service of a RolloutPolicy that is not the one in front of the target"
        "Routes and blueGreen need exactly one Service that selects the target's pods. Where several do, spec.traffic.service says which is meant; the one that is named must select them."
    SERVICE_MISSING "rollout-service-missing" Warning Likely
        "routes of a RolloutPolicy without a Service in front of its target"
        "Routes lead to a Service of the same Application that selects the target's pods. While there is none, nothing of the commit is applied."
    DEADLINE "rollout-deadline" Warning Likely
        "a RolloutPolicy that may reject a pod which is only slow to begin"
        "After progressDeadline (10m where not given) without one more available pod the revision is rejected. It must be longer than the startup probe lets a pod take, and minReadySeconds after that."
    WEIGHT_CUT "rollout-weight-cut" Warning Certain
        "a weight above a half that pods cannot make under an autoscaler"
        "Where an autoscaler sizes the target and no route divides the traffic, the candidate has at most as many pods as the target: half of the traffic. Add a route, or leave steps above 50 out; the target takes the revision after the last step."
    FIELD_UNUSED "rollout-field-unused" Warning Certain
        "a field of a RolloutPolicy that nothing reads for this target"
        "minReplicas and dynamicStableScale are read with routes only, maxSurge without routes only; of a kind that holds both revisions itself none of them is read, but maxUnavailable for a DaemonSet, and a scale only where the kind counts pods. NoSurge makes place only among two replicas or more that no autoscaler sizes."
}

/// Kinds that go in steps.
const STEPS: &[(&str, &str)] = &[
    ("apps", "Deployment"),
    ("apps", "StatefulSet"),
    ("apps", "DaemonSet"),
    ("serving.kserve.io", "InferenceService"),
    ("serving.knative.dev", "Service"),
];

const STRATEGIES: &[&str] = &["canary", "blueGreen", "shadow", "rolling"];

/// Lists of gates of a strategy, beside those of its steps.
const LISTS: &[&str] = &[
    "canary/background",
    "canary/after/gates",
    "blueGreen/before",
    "blueGreen/after",
    "shadow/gates",
    "rolling/gates",
    "rolling/background",
];

/// What a policy says of its target.
struct Target {
    group: String,
    kind: String,
    name: String,
    /// Whether it says where a kind that is not known has its pods.
    declared: bool,
}

impl Target {
    fn of(policy: &Subject) -> Self {
        let text = |field: &str| policy.text(&format!("/spec/targetRef/{field}"));
        let Gvk { group, kind, .. } = Gvk::parse(text("apiVersion"), text("kind"));
        let declared = policy.at("/spec/targetRef/fields").is_some();
        Self { group, kind, name: text("name").to_owned(), declared }
    }

    fn is(&self, group: &str, kind: &str) -> bool {
        self.group == group && self.kind == kind
    }

    /// Whether its candidate is another object beside it, whose traffic can be divided.
    fn has_twin(&self) -> bool {
        self.is("apps", "Deployment") || self.declared
    }

    fn is_known(&self) -> bool {
        STEPS.contains(&(&*self.group, &*self.kind))
    }
}

pub(super) fn check(subject: &Subject, set: &Set<'_>, out: &mut Out) {
    if !subject.is(GROUP, "RolloutPolicy") {
        return;
    }
    let target = Target::of(subject);
    strategy(subject, &target, out);
    steps(subject, out);
    after(subject, out);
    place(subject, &target, out);
    gates(subject, out);
    asks(subject, out);
    routes::check(subject, out);
    if !subject.is_hook() {
        around::check(subject, &target, set, out);
    }
}

/// Which way of a policy is given.
fn has(policy: &Subject, strategy: &str) -> bool {
    policy.at(&format!("/spec/strategy/{strategy}")).is_some()
}

fn strategy(policy: &Subject, target: &Target, out: &mut Out) {
    let given: Vec<&str> = STRATEGIES.iter().copied().filter(|name| has(policy, name)).collect();
    if given.len() != 1 {
        let said = if given.is_empty() { "none".to_owned() } else { given.join(" and ") };
        let why = format!("it states one of canary, blueGreen, shadow and rolling, not {said}");
        out.add(&POLICY, "/spec/strategy", why);
    }
    let (rolls, shadow) = (has(policy, "rolling"), has(policy, "shadow"));
    let kind = &target.kind;
    if target.declared && (rolls || target.is_known()) {
        let why = if rolls {
            "rolling reads no fields".into()
        } else {
            format!("where a {kind} has its pods is known")
        };
        out.add(&POLICY, "/spec/targetRef/fields", why);
    }
    if !kind.is_empty() && !rolls && !target.declared && !target.is_known() {
        let names: Vec<String> = STEPS.iter().map(|(group, kind)| format!("{kind}.{group}")).collect();
        let why = format!(
            "{kind} does not go in steps, as {} do; fields say where another kind has its pods, and rolling is for any",
            names.join(", ")
        );
        out.add(&POLICY, "/spec/targetRef/kind", why);
    }
    let routed = !policy.list("/spec/traffic/routes").is_empty();
    if (routed || policy.at("/spec/traffic/service").is_some()) && (rolls || !target.has_twin()) {
        let why = if rolls {
            "rolling divides no traffic".into()
        } else {
            format!("{kind} divides its traffic itself")
        };
        out.add(&POLICY, "/spec/traffic", why);
    }
    if shadow && !target.has_twin() {
        out.add(&POLICY, "/spec/strategy/shadow", format!("the traffic of {kind} is not copied"));
    } else if shadow && !routed {
        out.add(&POLICY, "/spec/strategy/shadow", "only a route can copy traffic, and none is named");
    }
    if has(policy, "blueGreen") && (target.is("apps", "StatefulSet") || target.is("apps", "DaemonSet")) {
        out.add(&POLICY, "/spec/strategy/blueGreen", format!("a {kind} cannot have all pods twice"));
    }
}

fn steps(policy: &Subject, out: &mut Out) {
    let mut before = 0;
    for (at, step) in policy.list("/spec/strategy/canary/steps").iter().enumerate() {
        let path = format!("/spec/strategy/canary/steps/{at}");
        let weight = step.get("weight").and_then(Value::as_i64).unwrap_or(before);
        if weight < before {
            let why =
                format!("{weight} is less than the {before} of the step before; a rollout only goes up");
            out.add(&POLICY, format!("{path}/weight"), why);
        }
        before = weight;
        if let Some(scale) = step.get("scale").filter(|scale| scale.is_object()) {
            let given = ["replicas", "percent"].iter().filter(|name| !scale[**name].is_null()).count();
            if given != 1 {
                out.add(&POLICY, format!("{path}/scale"), "a scale is either replicas or percent");
            }
        }
    }
}

/// What comes after a canary's steps.
fn after(policy: &Subject, out: &mut Out) {
    let path = "/spec/strategy/canary/after";
    let says_nothing = policy.at(path).is_some_and(|after| {
        after["hold"].as_str().is_none_or(str::is_empty)
            && after["gates"].as_array().is_none_or(Vec::is_empty)
    });
    if says_nothing {
        out.add(&POLICY, path, "it states hold, gates or both");
    }
}

/// Pods that make place for others.
fn place(policy: &Subject, target: &Target, out: &mut Out) {
    if policy.text("/spec/unschedulable") != "NoSurge" {
        return;
    }
    if !has(policy, "canary") || !target.is("apps", "Deployment") {
        let why = "NoSurge is for a canary of a Deployment: the other strategies need both sides in full, other kinds hold both themselves";
        out.add(&POLICY, "/spec/unschedulable", why);
    }
    let field = "/spec/strategy/canary/maxUnavailable";
    let share = policy.text(field).trim_end_matches('%');
    if !share.is_empty() && share.bytes().all(|digit| digit == b'0') {
        out.add(&POLICY, field, "it is 0, and with NoSurge one pod at least makes place");
    }
}

/// The gates that are named: where, the name, and whether in a background.
fn named(policy: &Subject) -> Vec<(String, String, bool)> {
    let steps = policy.list("/spec/strategy/canary/steps").len();
    let steps = (0..steps).map(|at| format!("/spec/strategy/canary/steps/{at}/gates"));
    let lists = steps.chain(LISTS.iter().map(|list| format!("/spec/strategy/{list}")));
    let names = lists.flat_map(|list| {
        let names = policy.list(&list).iter().enumerate();
        let named = names.filter_map(|(at, name)| Some((at, name.as_str()?.to_owned())));
        let found = named.map(|(at, name)| (format!("{list}/{at}"), name, list.ends_with("background")));
        found.collect::<Vec<_>>()
    });
    names.collect()
}

fn gates(policy: &Subject, out: &mut Out) {
    let all = policy.list("/spec/gates").iter().enumerate();
    let all: Vec<(usize, &str)> =
        all.filter_map(|(at, gate)| Some((at, gate.get("name")?.as_str()?))).collect();
    let named = named(policy);
    let mut seen = HashSet::new();
    for (at, name) in &all {
        let path = format!("/spec/gates/{at}/name");
        if !seen.insert(*name) {
            out.add(&POLICY, path, format!("there are two gates {name}"));
        } else if !named.iter().any(|(_, other, _)| other == name) {
            out.add(&POLICY, path, format!("no step and no background names the gate {name}"));
        }
    }
    let stated = policy.list("/spec/gates").iter();
    let people: Vec<&str> = stated
        .filter(|gate| gate.get("approval").is_some_and(Value::is_object))
        .filter_map(|gate| gate.get("name")?.as_str())
        .collect();
    for (path, name, is_background) in &named {
        if *is_background && people.contains(&&**name) {
            out.add(&POLICY, path.as_str(), format!("people approve {name}, which only a step waits for"));
        }
        if !seen.contains(&**name) {
            out.add(&POLICY, path.as_str(), format!("spec.gates has no gate {name}"));
        } else if *is_background && named.iter().any(|(_, other, background)| other == name && !background) {
            out.add(&POLICY, path.as_str(), format!("{name} is a gate of a step and of the background"));
        }
    }
}

/// What each gate says, as far as its fields contradict each other.
fn asks(policy: &Subject, out: &mut Out) {
    for (at, gate) in policy.list("/spec/gates").iter().enumerate() {
        let path = format!("/spec/gates/{at}");
        let fields = gate.as_object().into_iter().flatten();
        let asks: Vec<&str> = fields
            .filter(|(name, value)| value.is_object() && *name != "limits")
            .map(|(name, _)| name.as_str())
            .collect();
        if asks.len() > 1 {
            let why = format!("a gate asks one thing, not {}", asks.join(" and "));
            out.add(&POLICY, format!("{path}/{}", asks[1]), why);
        }
        let given = |field: &str| gate.pointer(field).is_some_and(|value| !value.is_null());
        for field in ["interval", "initialDelay", "limits"] {
            if given("/approval") && given(&format!("/{field}")) {
                let why = format!("people are not asked again and again: {field} is for gates that measure");
                out.add(&POLICY, format!("{path}/{field}"), why);
            }
        }
        if given("/workflow") {
            let path = format!("{path}/workflow");
            if given("/workflow/spec") == given("/workflow/workflowTemplateRef") {
                out.add(&POLICY, path.as_str(), "give either spec or workflowTemplateRef");
            }
            if given("/workflow/result") != given("/workflow/pass") {
                let why = "result is the output parameter that pass judges: give both or none";
                out.add(&POLICY, path.as_str(), why);
            }
        }
    }
}
