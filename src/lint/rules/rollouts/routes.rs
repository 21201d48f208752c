//! What kinds of routes can do, and what steps ask of them.

use serde_json::Value;

use super::{POLICY, ROUTE_ROUTER, has};
use crate::lint::rule::Out;
use crate::lint::set::Subject;
use crate::model::Gvk;

/// A kind of route, or one of those who carry an Ingress out.
pub(super) struct Known {
    group: &'static str,
    kind: &'static str,
    /// Of an Ingress.
    router: &'static str,
    /// The lists of its backends, and in them the name.
    backends: &'static str,
    name: &'static str,
    copies: bool,
    /// How it tells requests by headers.
    headers: &'static [&'static str],
    /// By so many of them.
    most: usize,
}

const GATEWAY: &str = "gateway.networking.k8s.io";
const INGRESS: &str = "networking.k8s.io";

const fn known(group: &'static str, kind: &'static str, at: [&'static str; 2]) -> Known {
    Known { group, kind, router: "", backends: at[0], name: at[1], copies: false, headers: &[], most: 8 }
}

const IN_RULES: [&str; 2] = ["spec.rules[*].backendRefs", "name"];
const IN_PATHS: [&str; 2] = ["spec.rules[*].http.paths", "backend.service.name"];
const IN_SERVICES: [&str; 2] = ["spec.weighted.services", "name"];
const IN_ROUTE: [&str; 2] = ["spec.http[*].route", "destination.host"];

const KNOWN: &[Known] = &[
    Known { copies: true, headers: &["exact", "regex"], ..known(GATEWAY, "HTTPRoute", IN_RULES) },
    Known { copies: true, headers: &["exact", "regex"], ..known(GATEWAY, "GRPCRoute", IN_RULES) },
    known(GATEWAY, "TLSRoute", IN_RULES),
    known(GATEWAY, "TCPRoute", IN_RULES),
    known(GATEWAY, "UDPRoute", IN_RULES),
    Known {
        copies: true,
        headers: &["exact", "regex", "prefix"],
        ..known("networking.istio.io", "VirtualService", IN_ROUTE)
    },
    known("traefik.io", "TraefikService", IN_SERVICES),
    known("traefik.containo.us", "TraefikService", IN_SERVICES),
    // Which of them it is, its class may say.
    Known { headers: &["exact", "regex", "prefix"], ..known(INGRESS, "Ingress", IN_PATHS) },
    Known { router: "nginx", headers: &["exact", "regex"], most: 1, ..known(INGRESS, "Ingress", IN_PATHS) },
    Known { router: "alb", headers: &["exact", "prefix"], ..known(INGRESS, "Ingress", IN_PATHS) },
];

const WAYS: &[&str] = &["exact", "regex", "prefix"];

fn gvk(route: &Value) -> Gvk {
    let text = |field: &str| route.get(field).and_then(Value::as_str).unwrap_or_default();
    Gvk::parse(text("apiVersion"), text("kind"))
}

fn states_fields(route: &Value) -> bool {
    route.get("fields").is_some_and(|fields| !fields.is_null())
}

/// What is known of a kind of route; `router` is who carries an Ingress out, as far as that is known.
fn find(route: &Value, router: &str) -> Option<&'static Known> {
    let Gvk { group, kind, .. } = gvk(route);
    KNOWN.iter().find(|known| known.group == group && known.kind == kind && known.router == router)
}

pub(super) fn is_ingress(route: &Value) -> bool {
    let Gvk { group, kind, .. } = gvk(route);
    group == INGRESS && kind == "Ingress" && !states_fields(route)
}

/// Where a kind of route has the lists of its backends and in them the name; none where that is not known.
pub(super) fn fields(route: &Value) -> Option<(String, String)> {
    let text = |path: &str| route.pointer(path).and_then(Value::as_str).unwrap_or_default();
    if states_fields(route) {
        return Some((text("/fields/backends").to_owned(), text("/fields/name").to_owned()));
    }
    find(route, "").map(|known| (known.backends.to_owned(), known.name.to_owned()))
}

/// The router of an Ingress: the one that is named, or that of its class.
fn router<'a>(route: &'a Value, ingress: Option<&'a Subject>) -> &'a str {
    if let Some(named) = route.get("router").and_then(Value::as_str) {
        return named;
    }
    ingress.and_then(class).unwrap_or_default()
}

fn class(ingress: &Subject) -> Option<&str> {
    let stated = Some(ingress.text("/spec/ingressClassName")).filter(|class| !class.is_empty());
    stated.or_else(|| ingress.annotation("kubernetes.io/ingress.class"))
}

/// Of the policy alone.
pub(super) fn check(policy: &Subject, out: &mut Out) {
    let routes = policy.list("/spec/traffic/routes");
    for (at, route) in routes.iter().enumerate() {
        let kind = gvk(route).kind;
        let path = format!("/spec/traffic/routes/{at}");
        if fields(route).is_none() {
            let why = format!("{kind} is no route that is known; state its fields");
            out.add(&POLICY, format!("{path}/kind"), why);
        } else if has(policy, "shadow")
            && (states_fields(route) || find(route, "").is_none_or(|one| !one.copies))
        {
            out.add(&POLICY, format!("{path}/kind"), format!("{kind} copies no traffic as far as is known"));
        }
        for field in ["router", "annotationPrefix"] {
            if !is_ingress(route) && route.get(field).is_some_and(|value| !value.is_null()) {
                out.add(
                    &POLICY,
                    format!("{path}/{field}"),
                    format!("{field} is of an Ingress, not of {kind}"),
                );
            }
        }
        let named = route.get("router").and_then(Value::as_str).filter(|_| is_ingress(route));
        for (path, why) in refusals(policy, route, named.unwrap_or_default()) {
            out.add(&POLICY, path, why);
        }
    }
    for (path, header) in headers(policy) {
        if WAYS.iter().filter(|way| !header[**way].is_null()).count() != 1 {
            out.add(&POLICY, path, "a header is matched by one of exact, regex and prefix");
        }
    }
    for (at, step) in policy.list("/spec/strategy/canary/steps").iter().enumerate() {
        let path = format!("/spec/strategy/canary/steps/{at}");
        let asks = ["headers", "mirror"].into_iter().filter(|field| !step[*field].is_null());
        for field in asks.filter(|_| routes.is_empty()) {
            let what = if field == "mirror" { "copy traffic" } else { "tell requests by their headers" };
            out.add(
                &POLICY,
                format!("{path}/{field}"),
                format!("only a route can {what}, and none is named"),
            );
        }
        let mut seen = Vec::new();
        for (number, header) in step["headers"].as_array().into_iter().flatten().enumerate() {
            let name = header["name"].as_str().unwrap_or_default().to_ascii_lowercase();
            if seen.contains(&name) {
                let why = format!("there are two matches of {name}; all must hold, so say it in one");
                out.add(&POLICY, format!("{path}/headers/{number}/name"), why);
            }
            seen.push(name);
        }
    }
}

/// All headers of all steps.
fn headers(policy: &Subject) -> Vec<(String, &Value)> {
    let steps = policy.list("/spec/strategy/canary/steps").iter().enumerate();
    let all = steps.flat_map(|(at, step)| {
        let headers = step["headers"].as_array().into_iter().flatten().enumerate();
        headers.map(move |(number, header)| {
            (format!("/spec/strategy/canary/steps/{at}/headers/{number}"), header)
        })
    });
    all.collect()
}

/// What steps ask that a route cannot do: where, and why.
fn refusals(policy: &Subject, route: &Value, router: &str) -> Vec<(String, String)> {
    let kind = if router.is_empty() { gvk(route).kind } else { router.to_owned() };
    let known = find(route, router).filter(|_| !states_fields(route));
    let (copies, ways, most) =
        known.map_or((false, &[][..], 8), |known| (known.copies, known.headers, known.most));
    let mut all = Vec::new();
    for (at, step) in policy.list("/spec/strategy/canary/steps").iter().enumerate() {
        let path = format!("/spec/strategy/canary/steps/{at}");
        if !copies && !step["mirror"].is_null() {
            all.push((format!("{path}/mirror"), format!("{kind} copies no traffic as far as is known")));
        }
        let headers = step["headers"].as_array().map_or(0, Vec::len);
        if headers > 0 && ways.is_empty() {
            let why = format!("{kind} tells no requests by their headers as far as is known");
            all.push((format!("{path}/headers"), why));
        } else if headers > most {
            let why = format!("{kind} tells requests by {most} header, not by {headers}");
            all.push((format!("{path}/headers"), why));
        }
    }
    for (path, header) in headers(policy).into_iter().filter(|_| !ways.is_empty()) {
        let asked = WAYS.iter().find(|way| !header[**way].is_null() && !ways.contains(way));
        if let Some(way) = asked {
            all.push((
                format!("{path}/{way}"),
                format!("{kind} matches headers by {}, not by {way}", ways.join(" and ")),
            ));
        }
        let value = ["exact", "prefix"].iter().find_map(|way| header[*way].as_str()).unwrap_or_default();
        if router == "alb" && value.contains(['*', '?']) {
            all.push((path, format!("* and ? stand for other characters in an ALB: {value}")));
        }
    }
    all
}

/// An Ingress of the tree: who carries it out, and what that one cannot do.
pub(super) fn ingress(policy: &Subject, at: usize, route: &Value, ingress: &Subject, out: &mut Out) {
    let (path, router) = (format!("/spec/traffic/routes/{at}/name"), router(route, Some(ingress)));
    if find(route, router).is_none() || router.is_empty() {
        let title = ingress.title();
        let class =
            if router.is_empty() { "has no class".to_owned() } else { format!("has the class {router}") };
        let why = format!("{title} {class}, which says no router; state router: nginx or alb");
        out.add(&ROUTE_ROUTER, path, why);
        return;
    }
    if route.get("router").is_none() {
        for (path, why) in refusals(policy, route, router) {
            out.add(&ROUTE_ROUTER, path, why);
        }
    }
    let prefix =
        route.get("annotationPrefix").and_then(Value::as_str).unwrap_or("nginx.ingress.kubernetes.io");
    if router == "nginx" && ingress.annotation(&format!("{prefix}/canary")) == Some("true") {
        let why = format!("{} is the canary of another Ingress; name that one", ingress.title());
        out.add(&ROUTE_ROUTER, path, why);
    }
}

/// Whether an Ingress leads to a Service beside its paths: as its default backend, or by an action of an ALB.
pub(super) fn leads(route: &Value, ingress: &Subject, service: &str) -> bool {
    let prefix = route.get("annotationPrefix").and_then(Value::as_str).unwrap_or("alb.ingress.kubernetes.io");
    let actions = ingress.at("/metadata/annotations").and_then(Value::as_object);
    let mut actions = actions
        .into_iter()
        .flatten()
        .filter(|(name, _)| name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with("/actions.")));
    // Its JSON is read by the agent; here the name among its words will do.
    let named = format!("\"{service}\"");
    ingress.text("/spec/defaultBackend/service/name") == service
        || actions.any(|(_, text)| text.as_str().is_some_and(|text| text.contains(&named)))
}
