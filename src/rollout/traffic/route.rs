//! Kinds that send parts of the traffic to Services: lists of backends, each with a name and a weight.
//!
//! A kind is a row of data, and a policy can bring its own.

use serde_json::{Value, json};

use crate::api::TrafficRoute;
use crate::rollout::machine::Routed;
use crate::rollout::target::candidate_name;

/// How a kind copies traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Copies {
    /// It does not.
    Not,
    /// A filter of the rule (Gateway API).
    Filter,
    /// A field of the rule (Istio).
    Field,
}

/// Where a kind has its backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    /// The path of the lists, such as `spec.rules[*].backendRefs`.
    lists: Vec<String>,
    /// The path of the Service's name in a backend.
    name: Vec<String>,
    /// The path of the weight in a backend.
    weight: Vec<String>,
    /// The weight of a backend that states none.
    usual: u64,
    /// Weights of a list come to 100.
    percent: bool,
    copies: Copies,
    /// Parents say in the status which generation they have taken.
    parents: bool,
}

const GATEWAY: &str = "gateway.networking.k8s.io";

fn path(text: &str) -> Vec<String> {
    text.replace("[*]", ".*").trim_start_matches('.').split('.').map(str::to_owned).collect()
}

impl Fields {
    fn new(lists: &str, name: &str, weight: &str) -> Self {
        Self {
            lists: path(lists),
            name: path(name),
            weight: path(weight),
            usual: 1,
            percent: false,
            copies: Copies::Not,
            parents: false,
        }
    }

    /// Whether all of it is within `spec`.
    pub fn is_in_spec(&self) -> bool {
        self.lists.first().is_some_and(|first| first == "spec")
    }

    /// Of a route: those that it states, or those that are known of its kind.
    pub(super) fn of(route: &TrafficRoute, group: &str) -> Result<Self, String> {
        if let Some(stated) = &route.fields {
            let all = [&stated.backends, &stated.name, &stated.weight];
            if all.iter().any(|text| text.is_empty() || text.contains("..")) {
                return Err(
                    "fields: backends, name and weight are paths such as spec.rules[*].backendRefs".into()
                );
            }
            return Ok(Self::new(&stated.backends, &stated.name, &stated.weight));
        }
        match (group, route.kind.as_str()) {
            (GATEWAY, kind @ ("HTTPRoute" | "GRPCRoute" | "TLSRoute" | "TCPRoute" | "UDPRoute")) => {
                let copies =
                    if matches!(kind, "HTTPRoute" | "GRPCRoute") { Copies::Filter } else { Copies::Not };
                let fields = Self::new("spec.rules[*].backendRefs", "name", "weight");
                Ok(Self { copies, parents: true, ..fields })
            }
            ("networking.istio.io", "VirtualService") => {
                let fields = Self::new("spec.http[*].route", "destination.host", "weight");
                Ok(Self { usual: 100, percent: true, copies: Copies::Field, ..fields })
            }
            ("traefik.io" | "traefik.containo.us", "TraefikService") => {
                Ok(Self::new("spec.weighted.services", "name", "weight"))
            }
            (_, kind) => Err(format!(
                "{kind} is no route that is known (HTTPRoute, GRPCRoute, TLSRoute, TCPRoute, VirtualService, TraefikService); state its fields"
            )),
        }
    }

    pub(super) fn can_copy(&self) -> bool {
        self.copies != Copies::Not
    }

    /// The route as Git has it, with the traffic of a Service divided.
    ///
    /// # Errors
    /// Why it cannot: no backend is this Service.
    pub fn divided(&self, route: &Value, service: &str, routed: Routed) -> Result<Value, String> {
        let mut divided = route.clone();
        let mut known = 0;
        self.each_list(&mut divided, &mut |rule, list| {
            let Some(at) = list.iter().position(|backend| self.is(backend, service)) else { return };
            known += 1;
            let candidate = self.candidate(&list[at], service);
            if routed.weight > 0 {
                self.divide(list, at, candidate.clone(), u64::from(routed.weight.min(100)));
            }
            if routed.mirror > 0 {
                self.copy(rule, &candidate, routed.mirror);
            }
        });
        if known == 0 {
            return Err(format!("none of its backends is the Service {service}"));
        }
        Ok(divided)
    }

    fn divide(&self, list: &mut Vec<Value>, at: usize, mut candidate: Value, weight: u64) {
        let alone = list.len() == 1;
        let whole = if alone { 100 } else { self.weight_of(&list[at]) };
        // Where weights are shares of each other, all of them grow, and none is rounded away.
        let grow = if alone || self.percent { 1 } else { 100 };
        let part =
            if alone || !self.percent { whole * grow * weight / 100 } else { (whole * weight + 50) / 100 };
        for (place, backend) in list.iter_mut().enumerate() {
            let now = if place == at { whole * grow - part } else { self.weight_of(backend) * grow };
            if place == at || grow > 1 {
                put(backend, &self.weight, now.into());
            }
        }
        put(&mut candidate, &self.weight, part.into());
        list.insert(at + 1, candidate);
    }

    fn copy(&self, rule: Option<&mut Value>, candidate: &Value, percent: u32) {
        let Some(rule) = rule.and_then(Value::as_object_mut) else { return };
        match self.copies {
            Copies::Not => {}
            Copies::Filter => {
                let mut to = json!({});
                for field in ["group", "kind", "name", "namespace", "port"] {
                    if let Some(value) = candidate.get(field) {
                        put(&mut to, &[field.to_owned()], value.clone());
                    }
                }
                let filter =
                    json!({"type": "RequestMirror", "requestMirror": {"backendRef": to, "percent": percent}});
                match rule.entry("filters").or_insert_with(|| json!([])) {
                    Value::Array(filters) => filters.push(filter),
                    other => *other = json!([filter]),
                }
            }
            Copies::Field => {
                rule.insert("mirror".into(), candidate["destination"].clone());
                rule.insert("mirrorPercentage".into(), json!({"value": percent}));
            }
        }
    }

    /// What a live route does with the traffic of a Service; `None` where its rules differ, or where whoever carries it
    /// out has not taken it.
    pub fn observed(&self, live: &Value, service: &str) -> Option<Routed> {
        if self.parents && !is_taken(live) {
            return None;
        }
        let other = candidate_name(service);
        let mut all = Vec::new();
        let mut copy = live.clone();
        self.each_list(&mut copy, &mut |rule, list| {
            let sum = |name: &str| -> u64 {
                let found = list.iter().filter(|backend| self.is(backend, name));
                found.map(|backend| self.weight_of(backend)).sum()
            };
            let (stable, candidate) = (sum(service), sum(&other));
            let named = list.iter().any(|backend| self.is(backend, service) || self.is(backend, &other));
            if !named {
                return;
            }
            // As the percentage that was asked for, where it is that but for the rounding.
            let weight = (candidate * 200 + stable + candidate) / (2 * (stable + candidate).max(1));
            let mirror = rule.map_or(0, |rule| self.copied(rule, &other));
            let weight = u32::try_from(weight).unwrap_or(100);
            all.push(Routed { weight, mirror });
        });
        let first = *all.first()?;
        all.iter().all(|one| *one == first).then_some(first)
    }

    fn copied(&self, rule: &Value, candidate: &str) -> u32 {
        let percent = match self.copies {
            Copies::Not => None,
            Copies::Filter => {
                let mut filters = rule["filters"].as_array().into_iter().flatten();
                let found = filters.find(|filter| filter["requestMirror"]["backendRef"]["name"] == candidate);
                found.map(|filter| filter["requestMirror"]["percent"].as_f64().unwrap_or(100.0))
            }
            Copies::Field => {
                let is_it = rule["mirror"]["host"].as_str().is_some_and(|host| is_host(host, candidate));
                is_it.then(|| rule["mirrorPercentage"]["value"].as_f64().unwrap_or(100.0))
            }
        };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a percentage")]
        percent.map_or(0, |percent| percent.clamp(0.0, 100.0).round() as u32)
    }

    /// Every list, with the rule that it is in.
    fn each_list(&self, route: &mut Value, see: &mut dyn FnMut(Option<&mut Value>, &mut Vec<Value>)) {
        walk(route, &self.lists, see);
    }

    fn is(&self, backend: &Value, service: &str) -> bool {
        let other_kind = backend["kind"].as_str().is_some_and(|kind| kind != "Service");
        let name = get(backend, &self.name).and_then(Value::as_str);
        !other_kind && name.is_some_and(|name| is_host(name, service))
    }

    fn weight_of(&self, backend: &Value) -> u64 {
        get(backend, &self.weight).and_then(Value::as_u64).unwrap_or(self.usual)
    }

    /// The backend of the candidate: the same with its name.
    fn candidate(&self, backend: &Value, service: &str) -> Value {
        let mut candidate = backend.clone();
        let name = get(backend, &self.name).and_then(Value::as_str).unwrap_or(service);
        let other = format!("{}{}", candidate_name(service), name.strip_prefix(service).unwrap_or_default());
        put(&mut candidate, &self.name, other.into());
        if let Some(destination) = candidate.get_mut("destination").and_then(Value::as_object_mut) {
            // Subsets are of the other host.
            destination.remove("subset");
        }
        candidate
    }
}

/// A Service by its name, or by its name in the cluster's DNS.
fn is_host(host: &str, service: &str) -> bool {
    host.strip_prefix(service).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Whether every parent that speaks of the route speaks of this generation of it, and accepts it.
fn is_taken(live: &Value) -> bool {
    let generation = live["metadata"]["generation"].as_i64();
    let mut parents = live["status"]["parents"].as_array().into_iter().flatten().peekable();
    parents.peek().is_some()
        && parents.all(|parent| {
            parent["conditions"].as_array().into_iter().flatten().any(|condition| {
                condition["type"] == "Accepted"
                    && condition["status"] == "True"
                    && condition["observedGeneration"].as_i64() >= generation
            })
        })
}

fn get<'a>(value: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, field| value.get(field))
}

fn put(value: &mut Value, path: &[String], new: Value) {
    let Some((field, rest)) = path.split_first() else {
        *value = new;
        return;
    };
    if !value.is_object() {
        *value = json!({});
    }
    if let Some(fields) = value.as_object_mut() {
        put(fields.entry(field.clone()).or_insert(Value::Null), rest, new);
    }
}

fn walk(value: &mut Value, path: &[String], see: &mut dyn FnMut(Option<&mut Value>, &mut Vec<Value>)) {
    match path {
        [] => {}
        [last] if last != "*" => {
            // The list leaves its rule while both are changed.
            let Some(Value::Array(mut list)) = value.get_mut(last).map(Value::take) else { return };
            see(Some(value), &mut list);
            value[last.as_str()] = Value::Array(list);
        }
        [first, rest @ ..] if first == "*" => {
            value.as_array_mut().into_iter().flatten().for_each(|item| walk(item, rest, see));
        }
        [first, rest @ ..] => {
            if let Some(inner) = value.get_mut(first) {
                walk(inner, rest, see);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(group: &str, kind: &str) -> Fields {
        let route = TrafficRoute { kind: kind.into(), ..TrafficRoute::default() };
        Fields::of(&route, group).unwrap()
    }

    fn routed(weight: u32, mirror: u32) -> Routed {
        Routed { weight, mirror }
    }

    fn accepted(mut route: Value) -> Value {
        route["status"] = json!({"parents": [{"conditions": [
            {"type": "Accepted", "status": "True", "observedGeneration": 3}]}]});
        route["metadata"] = json!({"generation": 3});
        route
    }

    #[test]
    fn gateway_routes_keep_what_is_not_of_the_service() {
        let http = fields(GATEWAY, "HTTPRoute");
        let git = json!({"spec": {"hostnames": ["x"], "rules": [
            {"matches": [{"path": {"value": "/"}}], "filters": [{"type": "URLRewrite"}],
                "backendRefs": [{"name": "fraud", "port": 80}]},
            {"backendRefs": [{"name": "other", "port": 80}]},
            {"backendRefs": [{"name": "fraud", "port": 80, "weight": 3}, {"name": "other", "port": 80}]}]}});
        let made = http.divided(&git, "fraud", routed(20, 0)).unwrap();
        assert_eq!(
            made["spec"]["rules"][0]["backendRefs"],
            json!([
            {"name": "fraud", "port": 80, "weight": 80}, {"name": "fraud-candidate", "port": 80, "weight": 20}])
        );
        assert_eq!(made["spec"]["rules"][0]["filters"], json!([{"type": "URLRewrite"}]));
        assert_eq!(made["spec"]["rules"][1], git["spec"]["rules"][1]);
        assert_eq!(
            made["spec"]["rules"][2]["backendRefs"],
            json!([
            {"name": "fraud", "port": 80, "weight": 240}, {"name": "fraud-candidate", "port": 80, "weight": 60},
            {"name": "other", "port": 80, "weight": 100}])
        );
        assert_eq!(http.observed(&accepted(made.clone()), "fraud"), Some(routed(20, 0)));
        assert_eq!(http.observed(&made, "fraud"), None, "nobody has taken it");
        assert_eq!(http.divided(&git, "fraud", routed(0, 0)).unwrap(), git);
        assert_eq!(http.observed(&accepted(git.clone()), "fraud"), Some(routed(0, 0)));
        assert!(http.divided(&git, "nobody", routed(20, 0)).unwrap_err().contains("nobody"));
        let mut late = accepted(made.clone());
        late["metadata"]["generation"] = 4.into();
        assert_eq!(http.observed(&late, "fraud"), None, "the weight counts when it was taken");
        let mut edited = accepted(made);
        edited["spec"]["rules"][0]["backendRefs"][1]["weight"] = 0.into();
        assert_eq!(http.observed(&edited, "fraud"), None, "its rules differ");
    }

    #[test]
    fn every_weight_is_seen_as_it_was_asked_for() {
        for (group, kind, git) in [
            (
                GATEWAY,
                "GRPCRoute",
                json!({"spec": {"rules": [{"backendRefs": [{"name": "s", "weight": 7}, {"name": "o", "weight": 2}]}]}}),
            ),
            (
                "networking.istio.io",
                "VirtualService",
                json!({"spec": {"http": [{"route": [{"destination": {"host": "s.ns.svc", "subset": "v1"}}]}]}}),
            ),
            (
                "traefik.io",
                "TraefikService",
                json!({"spec": {"weighted": {"services": [{"name": "s", "port": 80}]}}}),
            ),
        ] {
            let fields = fields(group, kind);
            for weight in 0..=100 {
                let made = accepted(fields.divided(&git, "s", routed(weight, 0)).unwrap());
                assert_eq!(fields.observed(&made, "s"), Some(routed(weight, 0)), "{kind} {made}");
            }
        }
    }

    #[test]
    fn istio_hosts_and_sums() {
        let istio = fields("networking.istio.io", "VirtualService");
        let git = json!({"spec": {"http": [{"route": [
            {"destination": {"host": "fraud.ml.svc.cluster.local", "subset": "v1"}, "weight": 60},
            {"destination": {"host": "other"}, "weight": 40}]}]}});
        let made = istio.divided(&git, "fraud", routed(10, 0)).unwrap();
        let list = made["spec"]["http"][0]["route"].as_array().unwrap();
        assert_eq!(
            list[1],
            json!({"destination": {"host": "fraud-candidate.ml.svc.cluster.local"}, "weight": 6})
        );
        assert_eq!(list.iter().map(|one| one["weight"].as_u64().unwrap()).sum::<u64>(), 100);
    }

    #[test]
    fn copies() {
        let http = fields(GATEWAY, "HTTPRoute");
        let git = json!({"spec": {"rules": [{"backendRefs": [{"name": "s", "port": 80}]}]}});
        let made = http.divided(&git, "s", routed(0, 25)).unwrap();
        assert_eq!(
            made["spec"]["rules"][0]["filters"][0]["requestMirror"],
            json!({"backendRef": {"name": "s-candidate", "port": 80}, "percent": 25})
        );
        assert_eq!(made["spec"]["rules"][0]["backendRefs"], git["spec"]["rules"][0]["backendRefs"]);
        assert_eq!(http.observed(&accepted(made), "s"), Some(routed(0, 25)));
        let istio = fields("networking.istio.io", "VirtualService");
        let git = json!({"spec": {"http": [{"route": [{"destination": {"host": "s"}}]}]}});
        let made = istio.divided(&git, "s", routed(0, 5)).unwrap();
        assert_eq!(made["spec"]["http"][0]["mirror"], json!({"host": "s-candidate"}));
        assert_eq!(istio.observed(&made, "s"), Some(routed(0, 5)));
    }
}
