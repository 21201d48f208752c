//! How traffic is divided between a target and its candidate.
//!
//! With routes, a Service of the candidate's pods is named beside the target's in each of them, with a weight. A blue-green
//! rollout without routes turns the selector of the Service. Otherwise the number of pods is the traffic: a slice of
//! the Service's endpoints holds the candidate's pods, which its selector does not select.

mod route;
mod service;

use serde_json::{Map, Value};

pub use route::Fields;
pub use service::{Slice, candidate_service, slices};

use super::machine::Routed;
use super::target::{self, selects};
use crate::api::{RolloutPolicySpec, RolloutTraffic, TrafficRoute};
use crate::error::{Code, Error, Result};
use crate::model::{Gvk, Key};

/// What divides the traffic of a policy, by the places of the objects among the wanted ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Division {
    /// Nothing but the number of pods, behind these Services.
    Pods(Vec<usize>),
    /// The selector of a Service.
    Switch(usize),
    /// Routes to a Service.
    Routes(usize, Vec<(usize, Fields)>),
    /// The target's kind itself.
    Kind,
}

impl Division {
    /// The objects that are written otherwise than Git has them while a rollout is on its way.
    pub fn leased(&self) -> Vec<usize> {
        match self {
            Self::Pods(_) | Self::Kind => Vec::new(),
            Self::Switch(service) => vec![*service],
            Self::Routes(_, routes) => routes.iter().map(|(at, _)| *at).collect(),
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
    if routes.is_empty() {
        let turns = spec.strategy.blue_green.is_some() && !in_front.is_empty();
        if spec.strategy.shadow.is_some() {
            return Err(invalid(
                "traffic.routes",
                "only a route can copy traffic, and there is none".to_owned(),
            ));
        }
        return if turns { one("traffic").map(Division::Switch) } else { Ok(Division::Pods(in_front)) };
    }
    let service = one("traffic")?;
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
        let fields = Fields::of(route, &group).map_err(|why| invalid(&field, why))?;
        let name = &objects[service].1.name;
        // What Git has must lead to the Service, or no weight will ever be seen.
        fields.divided(objects[at].2, name, Routed::default()).map_err(|why| invalid(&field, why))?;
        if spec.strategy.shadow.is_some() && !fields.can_copy() {
            return Err(invalid(&field, format!("a {kind} copies no traffic as far as is known here")));
        }
        found.push((at, fields));
    }
    Ok(Division::Routes(service, found))
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
    Routed { weight: if to_candidate { 100 } else { 0 }, mirror: 0 }
}
