//! What the API server refuses of a `RolloutPolicy` beyond its schema, in CEL, as `x-kubernetes-validations`.
//!
//! The agent refuses the same (`rollout::Policy`), but only after the merge; lint does before it. Every list that is walked
//! has a limit in the schema, or the rules cost more than the API server allows.

use serde_json::{Value, json};

use super::Gate;

/// A rule about a field below the one that it stands at.
fn rule(field: &str, rule: &str, message: &str) -> Value {
    json!({"fieldPath": field, "rule": rule, "message": message})
}

/// The same; its words are themselves CEL.
fn telling(field: &str, rule: &str, words: &str, message: &str) -> Value {
    json!({"fieldPath": field, "rule": rule, "messageExpression": words, "message": message})
}

/// Where gates are named: of a strategy, the lists of names.
const NAMED: &[(&str, &[&str])] = &[
    ("canary", &["background", "after.gates"]),
    ("blueGreen", &["before", "after"]),
    ("shadow", &["gates"]),
    ("rolling", &["gates", "background"]),
];

/// A strategy and a list of it, where both are there.
fn list(strategy: &str, list: &str) -> (String, String) {
    let all = format!("self.strategy.{strategy}.{list}");
    let outer = list
        .split_once('.')
        .map_or(String::new(), |(outer, _)| format!("has(self.strategy.{strategy}.{outer}) && "));
    (format!("has(self.strategy.{strategy}) && {outer}has({all})"), all)
}

/// Whether a name is named anywhere.
fn is_named(name: &str) -> String {
    let lists = NAMED.iter().flat_map(|(strategy, lists)| lists.iter().map(|one| list(strategy, one)));
    let lists = lists.map(|(given, all)| format!("({given} && {name} in {all})"));
    let steps = format!(
        "(has(self.strategy.canary) && self.strategy.canary.steps.exists(s, has(s.gates) && {name} in s.gates))"
    );
    lists.chain([steps]).collect::<Vec<_>>().join(" || ")
}

/// Of the whole spec.
pub(super) fn policy() -> Value {
    let known = |name: &str| format!("(has(self.gates) && self.gates.exists(g, g.name == {name}))");
    let missing = "names a gate that spec.gates does not have";
    let mut rules = vec![telling(
        ".gates",
        "!has(self.gates) || self.gates.all(g, self.gates.exists_one(h, h.name == g.name))",
        "'there are two gates ' + self.gates.map(g, !self.gates.exists_one(h, h.name == g.name), g.name)[0]",
        "two gates have one name",
    )];
    for (strategy, lists) in NAMED {
        for name in *lists {
            let (given, all) = list(strategy, name);
            rules.push(telling(
                &format!(".strategy.{strategy}.{name}"),
                &format!("!({given}) || {all}.all(n, {})", known("n")),
                &format!("'spec.gates has no gate ' + {all}.filter(n, !{})[0]", known("n")),
                missing,
            ));
        }
    }
    for strategy in ["canary", "rolling"] {
        let (given, all) = list(strategy, "background");
        let people = "self.gates.exists(g, g.name == n && has(g.approval))";
        rules.push(rule(
            &format!(".strategy.{strategy}.background"),
            &format!("!({given}) || !has(self.gates) || {all}.all(n, !{people})"),
            "names a gate that people approve, which only a step waits for",
        ));
    }
    let known = known("n");
    rules.push(telling(
        ".strategy.canary.steps",
        &format!(
            "!has(self.strategy.canary) || self.strategy.canary.steps.all(s, !has(s.gates) || s.gates.all(n, {known}))"
        ),
        &format!(
            "'spec.gates has no gate ' + self.strategy.canary.steps.filter(s, has(s.gates) && !s.gates.all(n, {known}))[0].gates.filter(n, !{known})[0]"
        ),
        missing,
    ));
    let named = is_named("g.name");
    rules.push(telling(
        ".gates",
        &format!("!has(self.gates) || self.gates.all(g, {named})"),
        &format!("'no step and no background names the gate ' + self.gates.map(g, !({named}), g.name)[0]"),
        "a gate is named by no step and no background",
    ));
    let routed = "has(self.traffic) && has(self.traffic.routes) && self.traffic.routes.size() > 0";
    let divided = format!("({routed}) || has(self.traffic) && has(self.traffic.service)");
    let is = |group: &str, kind: &str| {
        format!("(self.targetRef.apiVersion.startsWith('{group}/') && self.targetRef.kind == '{kind}')")
    };
    let deployment = is("apps", "Deployment");
    let set = format!("({} || {})", is("apps", "StatefulSet"), is("apps", "DaemonSet"));
    let (model, service) =
        (is("serving.kserve.io", "InferenceService"), is("serving.knative.dev", "Service"));
    let known = format!("{deployment} || {set} || {model} || {service}");
    let declared = "has(self.targetRef.fields)";
    rules.push(rule(
        ".targetRef",
        &format!("has(self.strategy.rolling) || {declared} || {known}"),
        "this kind does not go in steps (Deployment, StatefulSet, DaemonSet, InferenceService of KServe and Service of Knative do); say in fields where it has its pods, or take `rolling`, which is for any",
    ));
    rules.push(rule(
        ".targetRef.fields",
        &format!("!{declared} || !(has(self.strategy.rolling) || {known})"),
        "fields are read for a kind that is not known, and not with `rolling`",
    ));
    rules.push(rule(
        ".traffic",
        &format!("!({divided}) || ({deployment} || {declared}) && !has(self.strategy.rolling)"),
        "routes and services divide the traffic of a Deployment or of a kind with fields, and not with `rolling`",
    ));
    rules.push(rule(
        ".traffic.routes",
        &format!("!has(self.strategy.shadow) || ({routed})"),
        "shadow needs a route: nothing else can copy traffic",
    ));
    rules.push(rule(
        ".traffic.routes",
        &format!(
            "!has(self.strategy.shadow) || !({routed}) || self.traffic.routes.all(r, !has(r.fields) && r.kind in ['HTTPRoute', 'GRPCRoute', 'VirtualService'])"
        ),
        "only HTTPRoute, GRPCRoute and VirtualService copy traffic",
    ));
    rules.extend(requests(routed));
    rules.push(rule(
        ".strategy.shadow",
        &format!("!has(self.strategy.shadow) || {deployment} || {declared}"),
        "only the traffic of a Deployment or of a kind with fields is copied",
    ));
    rules.push(rule(
        ".strategy.blueGreen",
        &format!("!has(self.strategy.blueGreen) || !{set}"),
        "StatefulSets and DaemonSets cannot have all pods twice",
    ));
    let makes_place = "has(self.unschedulable) && self.unschedulable == 'NoSurge'";
    rules.push(rule(
        ".unschedulable",
        &format!("!({makes_place}) || has(self.strategy.canary) && {deployment}"),
        "NoSurge is for a canary of a Deployment: the other strategies need both sides in full, other kinds hold both themselves",
    ));
    rules.push(rule(
        ".strategy.canary.maxUnavailable",
        &format!(
            "!({makes_place}) || !has(self.strategy.canary) || !has(self.strategy.canary.maxUnavailable) || !self.strategy.canary.maxUnavailable.matches('^0+%?$')"
        ),
        "is 0, and with NoSurge one pod at least makes place",
    ));
    Value::Array(rules)
}

/// What steps ask of routes.
fn requests(routed: &str) -> Vec<Value> {
    let steps =
        |asks: &str| format!("(has(self.strategy.canary) && self.strategy.canary.steps.exists(s, {asks}))");
    let headers = |which: &str| steps(&format!("has(s.headers) && {which}"));
    let any = |which: &str| headers(&format!("s.headers.exists(h, has(h.{which}))"));
    let kinds = |kinds: &str| format!("self.traffic.routes.all(r, !has(r.fields) && r.kind in [{kinds}])");
    let router = |name: &str| {
        format!("(({routed}) && self.traffic.routes.exists(r, has(r.router) && r.router == '{name}'))")
    };
    let (mirrors, speaks) = (steps("has(s.mirror)"), headers("s.headers.size() > 0"));
    [
        (
            format!("!{mirrors} || ({routed}) && {}", kinds("'HTTPRoute', 'GRPCRoute', 'VirtualService'")),
            "mirror needs routes that copy traffic: HTTPRoute, GRPCRoute and VirtualService do",
        ),
        (
            format!(
                "!{speaks} || ({routed}) && {}",
                kinds("'HTTPRoute', 'GRPCRoute', 'VirtualService', 'Ingress'")
            ),
            "headers need routes that tell requests by them: HTTPRoute, GRPCRoute, VirtualService and Ingress do",
        ),
        (
            format!("!{} || ({routed}) && {}", any("prefix"), kinds("'VirtualService', 'Ingress'")),
            "an HTTPRoute and a GRPCRoute match a header by exact or regex, not by prefix",
        ),
        (
            format!("!{} || !{} && !{}", router("nginx"), any("prefix"), headers("s.headers.size() > 1")),
            "NGINX tells requests by one header, by exact or regex",
        ),
        (
            format!("!{} || !{}", router("alb"), any("regex")),
            "an ALB matches a header by exact or prefix, not by regex",
        ),
    ]
    .into_iter()
    .map(|(holds, message)| rule(".strategy.canary.steps", &holds, message))
    .collect()
}

/// Of the strategy.
pub(super) fn strategy() -> Value {
    json!([{
        "rule": "[has(self.canary), has(self.blueGreen), has(self.shadow), has(self.rolling)].filter(given, given).size() == 1",
        "message": "states one of canary, blueGreen, shadow and rolling",
    }])
}

/// Of `canary`.
pub(super) fn canary() -> Value {
    let stepped = "self.steps.exists(s, has(s.gates) && n in s.gates) || has(self.after) && has(self.after.gates) && n in self.after.gates";
    json!([
        rule(
            ".steps",
            "self.steps.map(s, s.weight).isSorted()",
            "a weight is less than that of the step before; a rollout only goes up",
        ),
        rule(
            ".steps",
            "self.steps.all(s, !has(s.headers) || s.headers.all(h, s.headers.exists_one(g, g.name.lowerAscii() == h.name.lowerAscii())))",
            "a step has two matches of one header; all must hold, so say it in one",
        ),
        telling(
            ".background",
            &format!("!has(self.background) || self.background.all(n, !({stepped}))"),
            &format!(
                "self.background.filter(n, {stepped})[0] + ' is a gate of a step and of the background'"
            ),
            "names a gate of a step",
        ),
    ])
}

/// Of what comes after a canary's steps.
pub(super) fn after() -> Value {
    json!([{"rule": "has(self.hold) && self.hold != '' || has(self.gates) && self.gates.size() > 0",
        "message": "states hold, gates or both"}])
}

/// Of `rolling`.
pub(super) fn rolling() -> Value {
    json!([telling(
        ".background",
        "!has(self.background) || !has(self.gates) || self.background.all(n, !(n in self.gates))",
        "self.background.filter(n, n in self.gates)[0] + ' is a gate of a step and of the background'",
        "names a gate of `gates`",
    )])
}

/// Of a gate.
pub(super) fn gate() -> Value {
    let stated: Vec<String> = Gate::ASKS.iter().map(|(name, _)| format!("has(self.{name})")).collect();
    let one = format!("[{}].filter(stated, stated).size() <= 1", stated.join(", "));
    json!([
        {"rule": one, "message": format!("give one of {}", Gate::all())},
        rule(
            ".approval",
            "!has(self.approval) || !has(self.limits) && !has(self.interval) && !has(self.initialDelay)",
            "people are not asked again and again: interval, initialDelay and limits are for gates that measure",
        ),
    ])
}

/// Of a step's `scale`.
pub(super) fn scale() -> Value {
    json!([{"rule": "has(self.replicas) != has(self.percent)", "message": "states replicas or percent"}])
}

/// Of a header of a step.
pub(super) fn header() -> Value {
    json!([{
        "rule": "[has(self.exact), has(self.regex), has(self.prefix)].filter(stated, stated).size() == 1",
        "message": "states one of exact, regex and prefix",
    }])
}

/// Of a route.
pub(super) fn route() -> Value {
    let gateway = "self.apiVersion.startsWith('gateway.networking.k8s.io/') && self.kind in ['HTTPRoute', 'GRPCRoute', 'TLSRoute', 'TCPRoute', 'UDPRoute']";
    let istio = "self.apiVersion.startsWith('networking.istio.io/') && self.kind == 'VirtualService'";
    let traefik = "(self.apiVersion.startsWith('traefik.io/') || self.apiVersion.startsWith('traefik.containo.us/')) && self.kind == 'TraefikService'";
    let ingress = "self.apiVersion.startsWith('networking.k8s.io/') && self.kind == 'Ingress'";
    json!([
        rule(
            ".kind",
            &format!("has(self.fields) || {gateway} || {istio} || {traefik} || {ingress}"),
            "is no route that is known (HTTPRoute, GRPCRoute, TLSRoute, TCPRoute, VirtualService, TraefikService, Ingress); state its fields",
        ),
        rule(
            ".kind",
            &format!("!has(self.router) && !has(self.annotationPrefix) || !has(self.fields) && {ingress}"),
            "router and annotationPrefix are of an Ingress",
        ),
    ])
}
