//! How traffic is divided between a target and its candidate.
//!
//! With routes, a Service of the candidate's pods is named beside the target's in each of them, with a weight; an Ingress
//! of NGINX has a copy of its own for that. A blue-green
//! rollout without routes turns the selector of the Service. Otherwise the number of pods is the traffic: a slice of
//! the Service's endpoints holds the candidate's pods, which its selector does not select.

mod alb;
mod destination;
mod ingress;
mod nginx;
mod route;
mod service;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

pub use destination::{candidate_rule, is_rule_of};
pub(super) use route::Fields;
pub use service::{Slice, candidate_service, slices};

use super::machine::Routed;
use super::target::{self, selects};
use crate::api::{HeaderMatch, RolloutPolicySpec, RolloutTraffic, TrafficRoute};
use crate::error::{Code, Error, Result};
use crate::model::{Gvk, Key};

/// Who divides traffic by what an object says. One file is one; nothing else knows any.
pub trait Router: Debug + Send + Sync {
    /// Whether all that it reads is in `spec` and metadata, which is what watches bring besides the status.
    fn is_in_spec(&self) -> bool {
        true
    }

    /// Whether it copies requests.
    ///
    /// # Errors
    /// Why not, for people.
    fn copies(&self) -> Result<(), String>;

    /// Whether it tells requests by these headers, all of which one has.
    ///
    /// # Errors
    /// Why not, for people.
    fn matches(&self, headers: &[HeaderMatch]) -> Result<(), String>;

    /// The object as Git has it, with the traffic of a Service divided.
    ///
    /// # Errors
    /// Why it cannot: no backend is this Service, or a rule that stands in the way.
    fn divided(&self, route: &Value, service: &str, routed: &Routed) -> Result<Value, String>;

    /// What was divided, with the candidate named where it has no weight yet, so that its backends are ready before
    /// anything is sent to them.
    fn warmed(&self, divided: Value, _service: &str) -> Value {
        divided
    }

    /// Whether backends take their time; then the candidate is named before it has pods.
    fn warms(&self) -> bool {
        false
    }

    /// The object beside it that divides in its place, for those whose own object stays as it is.
    fn beside(&self, _route: &Value, _service: &str, _routed: &Routed) -> Option<Value> {
        None
    }

    /// Whether there is such an object.
    fn stands_beside(&self) -> bool {
        false
    }

    /// What the live object, or the one beside it, does with the traffic of a Service; `None` where its rules differ, or
    /// where whoever carries it out has not taken it.
    fn observed(&self, live: &Value, beside: Option<&Value>, service: &str) -> Option<Routed>;

    /// How long after it was written it counts, where nothing in the cluster tells that it was carried out.
    fn settles(&self) -> Duration {
        Duration::ZERO
    }
}

/// What divides the traffic of a policy, by the places of the objects among the wanted ones.
#[derive(Clone, Debug)]
pub enum Division {
    /// Nothing but the number of pods, behind these Services.
    Pods(Vec<usize>),
    /// The selector of a Service.
    Switch(usize),
    /// Routes to a Service.
    Routes(usize, Vec<(usize, Arc<dyn Router>)>),
    /// The target's kind itself.
    Kind,
}

impl Division {
    /// The objects that are written otherwise than Git has them while a rollout is on its way.
    pub fn leased(&self) -> Vec<usize> {
        match self {
            Self::Pods(_) | Self::Kind => Vec::new(),
            Self::Switch(service) => vec![*service],
            Self::Routes(_, routes) => {
                routes.iter().filter(|(_, router)| !router.stands_beside()).map(|(at, _)| *at).collect()
            }
        }
    }

    /// The Service that is divided, and the objects beside which others divide it.
    pub fn doubled(&self) -> Vec<(usize, usize, &dyn Router)> {
        match self {
            Self::Pods(_) | Self::Kind | Self::Switch(_) => Vec::new(),
            Self::Routes(service, routes) => {
                let beside = routes.iter().filter(|(_, router)| router.stands_beside());
                beside.map(|(at, router)| (*service, *at, &**router)).collect()
            }
        }
    }

    /// Whether the candidate is named before it has pods.
    pub fn warms(&self) -> bool {
        match self {
            Self::Pods(_) | Self::Kind | Self::Switch(_) => false,
            Self::Routes(_, routes) => routes.iter().any(|(_, router)| router.warms()),
        }
    }

    /// How long after it was written a division counts.
    pub fn settles(&self) -> Duration {
        match self {
            Self::Pods(_) | Self::Kind | Self::Switch(_) => Duration::ZERO,
            Self::Routes(_, routes) => {
                routes.iter().map(|(_, router)| router.settles()).max().unwrap_or_default()
            }
        }
    }

    /// Those of them whose traffic stands in their `spec`, which is what watches bring besides metadata and status.
    pub fn watched(&self) -> Vec<usize> {
        match self {
            Self::Pods(_) | Self::Kind | Self::Switch(_) => self.leased(),
            Self::Routes(_, routes) => {
                routes.iter().filter(|(_, fields)| fields.is_in_spec()).map(|(at, _)| *at).collect()
            }
        }
    }

    /// The Services in front of the target.
    pub fn services(&self) -> Vec<usize> {
        match self {
            Self::Kind => Vec::new(),
            Self::Pods(services) => services.clone(),
            Self::Switch(service) | Self::Routes(service, _) => vec![*service],
        }
    }
}

/// Finds what divides the traffic of a target. `objects`: kind, identity and body of all that is wanted.
///
/// # Errors
/// `RolloutInvalid` for what is named and not there, and where it is not clear which Service is meant.
pub fn divide(
    spec: &RolloutPolicySpec,
    objects: &[(&Gvk, &Key, &Value)],
    namespace: &str,
    labels: &Map<String, Value>,
) -> Result<Division> {
    let invalid = |field: &str, why: String| Error::new(Code::RolloutInvalid, format!("spec.{field}: {why}"));
    let RolloutTraffic { service, routes } = &spec.traffic;
    let here = |key: &Key| key.namespace == namespace;
    let in_front: Vec<usize> = objects
        .iter()
        .enumerate()
        .filter(|(_, (gvk, key, body))| {
            let selector = &body["spec"]["selector"];
            let wanted = service.as_ref().is_none_or(|wanted| *wanted == key.name);
            let selector = serde_json::json!({"matchLabels": selector});
            gvk.is("", "Service")
                && here(key)
                && wanted
                && body["spec"]["selector"].as_object().is_some_and(|named| !named.is_empty())
                && selects(&selector, labels)
        })
        .map(|(at, _)| at)
        .collect();
    if let (Some(name), true) = (service, in_front.is_empty()) {
        let why = format!("no Service {name} of the Application selects the pods of the target");
        return Err(invalid("traffic.service", why));
    }
    let one = |field: &str| match in_front.as_slice() {
        [one] => Ok(*one),
        [] => Err(invalid(field, "no Service of the Application selects the pods of the target".to_owned())),
        more => {
            let names: Vec<&str> = more.iter().map(|at| objects[*at].1.name.as_str()).collect();
            let why = format!("the Services {} select the pods of the target; name one", names.join(", "));
            Err(invalid("traffic.service", why))
        }
    };
    let asked = asked(spec);
    if routes.is_empty() {
        if let Some(asked) = asked.iter().find(|asked| asked.headers.is_some() || asked.mirror) {
            let what = if asked.mirror { "copy traffic" } else { "tell requests by their headers" };
            return Err(invalid(&asked.field, format!("only a route can {what}, and there is none")));
        }
        let turns = spec.strategy.blue_green.is_some() && !in_front.is_empty();
        return if turns { one("traffic").map(Division::Switch) } else { Ok(Division::Pods(in_front)) };
    }
    let service = one("traffic")?;
    let has_rules =
        objects.iter().any(|(gvk, key, body)| here(key) && is_rule_of(gvk, body, &objects[service].1.name));
    let mut found = Vec::new();
    for (number, route) in routes.iter().enumerate() {
        let field = format!("traffic.routes[{number}]");
        let TrafficRoute { api_version, kind, name, .. } = route;
        let group = Gvk::parse(api_version, kind).group;
        let known =
            objects.iter().position(|(gvk, key, _)| gvk.is(&group, kind) && here(key) && key.name == *name);
        let Some(at) = known else {
            let why = format!("there is no {kind} {namespace}/{name} among the objects of its Application");
            return Err(invalid(&field, why));
        };
        let body = objects[at].2;
        let router = router(route, &group, body, has_rules).map_err(|why| invalid(&field, why))?;
        let name = &objects[service].1.name;
        // What Git has must lead to the Service, or no weight will ever be seen.
        router.divided(body, name, &Routed::default()).map_err(|why| invalid(&field, why))?;
        for asked in &asked {
            let refused =
                |why: String| invalid(&asked.field, format!("{} {}: {why}", route.kind, route.name));
            if asked.mirror {
                router.copies().map_err(refused)?;
            }
            router.matches(asked.headers.unwrap_or_default()).map_err(refused)?;
            router.divided(body, name, &asked.routed()).map_err(refused)?;
        }
        found.push((at, router));
    }
    Ok(Division::Routes(service, found))
}

/// What a step asks of a router.
struct Asked<'a> {
    field: String,
    weight: u32,
    mirror: bool,
    percent: u32,
    headers: Option<&'a [HeaderMatch]>,
}

impl Asked<'_> {
    fn routed(&self) -> Routed {
        let stated = self.headers.unwrap_or_default().iter();
        let mut headers: Vec<HeaderMatch> = stated
            .map(|header| {
                let (way, value) = header.way();
                HeaderMatch::new(&header.name, way, value.to_owned())
            })
            .collect();
        headers.sort();
        Routed { weight: self.weight, mirror: self.percent, headers }
    }
}

/// All that steps ask of routers, with the field that does.
fn asked(spec: &RolloutPolicySpec) -> Vec<Asked<'_>> {
    let shadow = spec.strategy.shadow.iter().map(|shadow| Asked {
        field: "strategy.shadow".to_owned(),
        weight: 0,
        mirror: true,
        percent: shadow.percent,
        headers: None,
    });
    let steps = spec.strategy.canary.iter().flat_map(|canary| canary.steps.iter().enumerate());
    let steps = steps.map(|(at, step)| {
        let (mirror, headers) = (step.mirror.unwrap_or(0) > 0, !step.headers.is_empty());
        let end = if headers && !mirror {
            ".headers"
        } else if mirror && !headers {
            ".mirror"
        } else {
            ""
        };
        Asked {
            field: format!("strategy.canary.steps[{at}]{end}"),
            weight: step.weight,
            mirror,
            percent: step.mirror.unwrap_or(0),
            headers: headers.then_some(&step.headers[..]),
        }
    });
    shadow.chain(steps).collect()
}

/// Who carries a route out.
fn router(
    route: &TrafficRoute,
    group: &str,
    body: &Value,
    has_rules: bool,
) -> Result<Arc<dyn Router>, String> {
    if group == ingress::GROUP && route.kind == "Ingress" && route.fields.is_none() {
        return ingress::router(route, body);
    }
    Ok(Arc::new(Fields::of(route, group)?.with_subsets(has_rules)))
}

/// A Service that selects the candidate's pods (`labels`), where it is turned to them.
pub fn turned(service: &Value, labels: &Value, weight: u32) -> Value {
    let mut turned = service.clone();
    if weight > 0
        && let Some(spec) = turned.get_mut("spec").and_then(Value::as_object_mut)
    {
        spec.insert("selector".into(), labels.clone());
    }
    turned
}

/// What the selector of a live Service says.
pub fn turns_to(live: &Value, policy: &str) -> Routed {
    let to_candidate = live["spec"]["selector"][target::ROLLOUT_LABEL].as_str() == Some(policy);
    Routed { weight: if to_candidate { 100 } else { 0 }, ..Routed::default() }
}
