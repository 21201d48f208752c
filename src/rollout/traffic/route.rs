//! Kinds that send parts of the traffic to Services: lists of backends, each with a name and a weight.
//!
//! A kind is a row of data, and a policy can bring its own. Requests by their headers have a rule of their own, in front of
//! the one that it stems from: the same matches and the headers, the same filters, and no backend but the candidate. A
//! rule whose only Service is the candidate's is nobody's but ours, so it is known again without a mark.

use serde_json::{Map, Value, json};

use super::Router;
use crate::api::{HeaderMatch, TrafficRoute};
use crate::rollout::machine::Routed;
use crate::rollout::target::candidate_name;

/// What the rules of a kind say beside weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rules {
    /// Nothing that is known here.
    Weights,
    /// `matches` with a list of headers, copies by a filter (`HTTPRoute` and `GRPCRoute` of the Gateway API).
    Gateway,
    /// `match` with an object of headers, copies by a field (Istio).
    Istio,
}

/// Where a kind has its backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::rollout) struct Fields {
    /// As people call it.
    kind: String,
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
    /// The greatest weight.
    most: u64,
    rules: Rules,
    /// Parents say in the status which generation they have taken.
    parents: bool,
    /// The candidate's Service has the same subsets.
    keeps_subsets: bool,
}

const GATEWAY: &str = "gateway.networking.k8s.io";

/// Rules that an `HTTPRoute` and a `GRPCRoute` have at most, by their CRDs.
const RULES: usize = 16;

/// Matches of all their rules, and headers of one match.
const MATCHES: usize = 128;
const HEADERS: usize = 16;

/// The greatest weight of a Gateway API backend; that of others is not stated.
const MOST: u64 = 1_000_000;

fn path(text: &str) -> Vec<String> {
    text.replace("[*]", ".*").trim_start_matches('.').split('.').map(str::to_owned).collect()
}

impl Fields {
    fn new(kind: &str, lists: &str, name: &str, weight: &str) -> Self {
        Self {
            lists: path(lists),
            name: path(name),
            weight: path(weight),
            kind: kind.to_owned(),
            usual: 1,
            percent: false,
            most: MOST,
            rules: Rules::Weights,
            parents: false,
            keeps_subsets: false,
        }
    }

    /// Whether the candidate's Service has the subsets of the target's.
    pub(super) fn with_subsets(self, keeps_subsets: bool) -> Self {
        Self { keeps_subsets, ..self }
    }

    /// The target groups of an ALB's forward action.
    pub(super) fn target_groups() -> Self {
        let fields = Self::new("Ingress of an ALB", "forwardConfig.targetGroups", "serviceName", "weight");
        Self { most: 999, ..fields }
    }

    /// Of a route: those that it states, or those that are known of its kind.
    pub(in crate::rollout) fn of(route: &TrafficRoute, group: &str) -> Result<Self, String> {
        if let Some(stated) = &route.fields {
            let all = [&stated.backends, &stated.name, &stated.weight];
            if all.iter().any(|text| text.is_empty() || text.contains("..")) {
                return Err(
                    "fields: backends, name and weight are paths such as spec.rules[*].backendRefs".into()
                );
            }
            return Ok(Self::new(&route.kind, &stated.backends, &stated.name, &stated.weight));
        }
        match (group, route.kind.as_str()) {
            (GATEWAY, kind @ ("HTTPRoute" | "GRPCRoute" | "TLSRoute" | "TCPRoute" | "UDPRoute")) => {
                let speaks = matches!(kind, "HTTPRoute" | "GRPCRoute");
                let rules = if speaks { Rules::Gateway } else { Rules::Weights };
                let fields = Self::new(kind, "spec.rules[*].backendRefs", "name", "weight");
                Ok(Self { rules, parents: true, ..fields })
            }
            ("networking.istio.io", kind @ "VirtualService") => {
                let fields = Self::new(kind, "spec.http[*].route", "destination.host", "weight");
                Ok(Self { usual: 100, percent: true, rules: Rules::Istio, ..fields })
            }
            ("traefik.io" | "traefik.containo.us", kind @ "TraefikService") => {
                Ok(Self::new(kind, "spec.weighted.services", "name", "weight"))
            }
            (_, kind) => Err(format!(
                "{kind} is no route that is known (HTTPRoute, GRPCRoute, TLSRoute, TCPRoute, VirtualService, TraefikService, Ingress); state its fields"
            )),
        }
    }

    fn divide(
        &self,
        list: &mut Vec<Value>,
        at: usize,
        mut candidate: Value,
        weight: u64,
    ) -> Result<(), String> {
        let alone = list.len() == 1;
        let whole = if alone { 100 } else { self.weight_of(&list[at]) };
        // Where weights are shares of each other, all of them grow, and none is rounded away.
        let greatest = list.iter().map(|backend| self.weight_of(backend)).max().unwrap_or(0);
        let fits = |grow: &u64| greatest * grow <= self.most;
        let grow = if alone || self.percent { 1 } else { [100, 10].into_iter().find(fits).unwrap_or(1) };
        let part = (whole * grow * weight + 50) / 100;
        if whole > 0 && percent(part, whole * grow) != weight {
            return Err(format!(
                "{weight} % of a backend with the weight {whole} cannot be said in whole numbers"
            ));
        }
        for (place, backend) in list.iter_mut().enumerate() {
            let now = if place == at { whole * grow - part } else { self.weight_of(backend) * grow };
            if place == at || grow > 1 {
                put(backend, &self.weight, now.into());
            }
        }
        put(&mut candidate, &self.weight, part.into());
        list.insert(at + 1, candidate);
        Ok(())
    }

    fn copy(&self, rule: Option<&mut Value>, candidate: &Value, percent: u32) -> Result<(), String> {
        let Some(rule) = rule.and_then(Value::as_object_mut) else { return Ok(()) };
        match self.rules {
            Rules::Weights => return self.copies(),
            Rules::Gateway => {
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
            Rules::Istio => {
                if ["mirror", "mirrors"].iter().any(|field| rule.contains_key(*field)) {
                    return Err("a rule of it copies its traffic already".into());
                }
                rule.insert("mirror".into(), candidate["destination"].clone());
                rule.insert("mirrorPercentage".into(), json!({"value": percent}));
            }
        }
        Ok(())
    }

    /// What a live route does between two Services; `None` where its rules differ, or where whoever carries it out has not
    /// taken it.
    pub(in crate::rollout) fn between(&self, live: &Value, service: &str, other: &str) -> Option<Routed> {
        if self.parents && !is_taken(live) {
            return None;
        }
        let mut all = Vec::new();
        // A rule for headers, until the one that it stems from is seen.
        let (mut ahead, mut broken) = (None, false);
        let mut copy = live.clone();
        self.each_list(&mut copy, &mut |rule, list| {
            let sum = |name: &str| -> u64 {
                let found = list.iter().filter(|backend| self.is(backend, name));
                found.map(|backend| self.weight_of(backend)).sum()
            };
            let has = |name: &str| list.iter().any(|backend| self.is(backend, name));
            let (stable, candidate) = (sum(service), sum(other));
            if has(other) && !has(service) && self.rules != Rules::Weights {
                broken |= ahead.is_some();
                ahead = rule.map(|rule| rule.clone());
                return;
            }
            let headers = match (ahead.take(), rule.as_deref()) {
                (Some(ahead), Some(rule)) => self.asked(&ahead, rule),
                _ => Some(Vec::new()),
            };
            let Some(headers) = headers.filter(|headers| headers.is_empty() || has(service)) else {
                broken = true;
                return;
            };
            if stable + candidate == 0 {
                return;
            }
            let mirror = rule.map_or(0, |rule| self.copied(rule, other));
            let weight = u32::try_from(percent(candidate, stable + candidate)).unwrap_or(100);
            all.push(Routed { weight, mirror, headers });
        });
        let first = all.first().filter(|_| ahead.is_none() && !broken)?;
        all.iter().all(|one| one == first).then(|| first.clone())
    }

    fn copied(&self, rule: &Value, candidate: &str) -> u32 {
        let percent = match self.rules {
            Rules::Weights => None,
            Rules::Gateway => {
                let mut filters = rule["filters"].as_array().into_iter().flatten();
                let found = filters.find(|filter| filter["requestMirror"]["backendRef"]["name"] == candidate);
                found.map(|filter| filter["requestMirror"]["percent"].as_f64().unwrap_or(100.0))
            }
            Rules::Istio => {
                let is_it = rule["mirror"]["host"].as_str().is_some_and(|host| is_host(host, candidate));
                is_it.then(|| rule["mirrorPercentage"]["value"].as_f64().unwrap_or(100.0))
            }
        };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a percentage")]
        percent.map_or(0, |percent| percent.clamp(0.0, 100.0).round() as u32)
    }

    /// Puts the rules for requests with headers in front of those that they stem from.
    fn lead(&self, route: &mut Value, service: &str, headers: &[HeaderMatch]) -> Result<(), String> {
        let Some(list) = self.lists.last().filter(|_| self.rules != Rules::Weights) else {
            return self.matches(headers);
        };
        let place = self.lists.iter().position(|field| field == "*").unwrap_or_default();
        let pointer: String = self.lists[..place].iter().map(|field| format!("/{field}")).collect();
        let Some(rules) = route.pointer_mut(&pointer).and_then(Value::as_array_mut) else { return Ok(()) };
        let mut all = Vec::with_capacity(rules.len() * 2);
        for rule in std::mem::take(rules) {
            let mut backends = rule[list].as_array().into_iter().flatten();
            // What Git sends nothing to gets nothing.
            if let Some(backend) =
                backends.find(|backend| self.is(backend, service) && self.weight_of(backend) > 0)
            {
                let mut candidate = self.candidate(backend, service);
                if let Some(fields) = candidate.as_object_mut() {
                    fields.remove("weight");
                }
                all.push(self.ahead(&rule, list, &candidate, headers)?);
            }
            all.push(rule);
        }
        if self.rules == Rules::Gateway {
            let matches = all.iter().map(|rule| rule["matches"].as_array().map_or(1, |all| all.len().max(1)));
            let counts = [("rules", all.len(), RULES), ("matches", matches.sum(), MATCHES)];
            if let Some((what, count, most)) = counts.into_iter().find(|(_, count, most)| count > most) {
                let why = "with rules for headers it would have";
                return Err(format!("{why} {count} {what}, and {most} are allowed"));
            }
        }
        *rules = all;
        Ok(())
    }

    /// The same rule for requests with these headers, to this backend alone.
    fn ahead(
        &self,
        rule: &Value,
        list: &str,
        backend: &Value,
        headers: &[HeaderMatch],
    ) -> Result<Value, String> {
        let mut made = rule.clone();
        made[list] = json!([backend]);
        if let Some(name) = rule["name"].as_str() {
            made["name"] = format!("{name}-candidate").into();
        }
        let matches = &mut made[self.matches_field()];
        if matches.as_array().is_none_or(Vec::is_empty) {
            *matches = json!([{}]);
        }
        for one in matches.as_array_mut().into_iter().flatten() {
            let known = self.headers_of(one);
            if self.rules == Rules::Gateway && known.len() + headers.len() > HEADERS {
                let count = known.len() + headers.len();
                return Err(format!("a match would ask for {count} headers, and {HEADERS} are allowed"));
            }
            for header in headers {
                if known.iter().any(|known| known.name == header.name) {
                    return Err(format!("a rule of it asks for the header {} already", header.name));
                }
                self.add(one, header);
            }
        }
        Ok(made)
    }

    fn matches_field(&self) -> &'static str {
        if self.rules == Rules::Istio { "match" } else { "matches" }
    }

    fn add(&self, one: &mut Value, header: &HeaderMatch) {
        let (way, value) = header.way();
        let Some(one) = one.as_object_mut() else { return };
        if self.rules == Rules::Istio {
            let all = one.entry("headers").or_insert_with(|| json!({}));
            all[&header.name] = json!({way: value});
            return;
        }
        let way = if way == "regex" { "RegularExpression" } else { "Exact" };
        let header = json!({"type": way, "name": header.name, "value": value});
        match one.entry("headers").or_insert_with(|| json!([])) {
            Value::Array(all) => all.push(header),
            other => *other = json!([header]),
        }
    }

    /// The headers that a match asks for, by name.
    fn headers_of(&self, one: &Value) -> Vec<HeaderMatch> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut all: Vec<HeaderMatch> = if self.rules == Rules::Istio {
            let all = one["headers"].as_object().into_iter().flatten();
            all.map(|(name, value)| {
                let ways = value.as_object().into_iter().flatten();
                let (way, value) =
                    ways.map(|(way, value)| (way.as_str(), text(value))).next().unwrap_or_default();
                HeaderMatch::new(name, way, value)
            })
            .collect()
        } else {
            let all = one["headers"].as_array().into_iter().flatten();
            all.map(|header| {
                let way = if header["type"] == "RegularExpression" { "regex" } else { "exact" };
                HeaderMatch::new(&text(&header["name"]), way, text(&header["value"]))
            })
            .collect()
        };
        all.sort();
        all
    }

    /// What the rule in front of another asks for beyond it; `None` where it does not stem from it.
    fn asked(&self, ahead: &Value, rule: &Value) -> Option<Vec<HeaderMatch>> {
        let all = |rule: &Value| match rule[self.matches_field()].as_array().filter(|all| !all.is_empty()) {
            Some(all) => all.clone(),
            None => vec![Value::Object(Map::new())],
        };
        let (ours, theirs) = (all(ahead), all(rule));
        let beyond = |(one, other): (&Value, &Value)| -> Vec<HeaderMatch> {
            let known = self.headers_of(other);
            self.headers_of(one).into_iter().filter(|header| !known.contains(header)).collect()
        };
        let mut each = ours.iter().zip(&theirs).map(beyond);
        let first = each.next().filter(|first| !first.is_empty() && ours.len() == theirs.len())?;
        each.all(|other| other == first).then_some(first)
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
        if !self.keeps_subsets
            && let Some(destination) = candidate.get_mut("destination").and_then(Value::as_object_mut)
        {
            // Subsets are of the other host.
            destination.remove("subset");
        }
        candidate
    }
}

impl Router for Fields {
    fn is_in_spec(&self) -> bool {
        self.lists.first().is_some_and(|first| first == "spec")
    }

    fn copies(&self) -> Result<(), String> {
        match self.rules {
            Rules::Weights => Err(format!("{} copies no traffic as far as is known here", self.kind)),
            Rules::Gateway | Rules::Istio => Ok(()),
        }
    }

    fn matches(&self, headers: &[HeaderMatch]) -> Result<(), String> {
        let kind = &self.kind;
        match self.rules {
            Rules::Weights if !headers.is_empty() => {
                Err(format!("{kind} tells no requests by their headers as far as is known here"))
            }
            Rules::Gateway => match headers.iter().find(|header| header.prefix.is_some()) {
                Some(header) => {
                    let name = &header.name;
                    Err(format!("{kind} has no prefixes of headers ({name}); say exact or regex"))
                }
                None => Ok(()),
            },
            Rules::Weights | Rules::Istio => Ok(()),
        }
    }

    fn divided(&self, route: &Value, service: &str, routed: &Routed) -> Result<Value, String> {
        let mut divided = route.clone();
        let (mut has_candidate, candidate) = (false, candidate_name(service));
        self.each_list(&mut divided, &mut |_, list| {
            has_candidate |= list.iter().any(|backend| self.is(backend, &candidate));
        });
        if has_candidate {
            // It could not be told from a rule of ours.
            return Err(format!("one of its backends is {candidate}, the Service of the candidate alone"));
        }
        if !routed.headers.is_empty() {
            self.lead(&mut divided, service, &routed.headers)?;
        }
        let (mut known, mut failed) = (0, Ok(()));
        self.each_list(&mut divided, &mut |rule, list| {
            let Some(at) = list.iter().position(|backend| self.is(backend, service)) else { return };
            known += 1;
            let candidate = self.candidate(&list[at], service);
            let mut made = Ok(());
            if routed.weight > 0 {
                made = self.divide(list, at, candidate.clone(), u64::from(routed.weight.min(100)));
            }
            if routed.mirror > 0 && made.is_ok() {
                made = self.copy(rule, &candidate, routed.mirror);
            }
            if failed.is_ok() {
                failed = made;
            }
        });
        failed?;
        if known == 0 {
            return Err(format!("none of its backends is the Service {service}"));
        }
        Ok(divided)
    }

    fn observed(&self, live: &Value, _: Option<&Value>, service: &str) -> Option<Routed> {
        self.between(live, service, &candidate_name(service))
    }
}

/// The percentage that was asked for, where it is that but for the rounding.
fn percent(part: u64, whole: u64) -> u64 {
    (part * 200 + whole) / (2 * whole.max(1))
}

/// A Service by its name, or by its name in the cluster's DNS.
pub(super) fn is_host(host: &str, service: &str) -> bool {
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
        Routed { weight, mirror, ..Routed::default() }
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
        let made = http.divided(&git, "fraud", &routed(20, 0)).unwrap();
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
        assert_eq!(http.observed(&accepted(made.clone()), None, "fraud"), Some(routed(20, 0)));
        assert_eq!(http.observed(&made, None, "fraud"), None, "nobody has taken it");
        assert_eq!(http.divided(&git, "fraud", &routed(0, 0)).unwrap(), git);
        assert_eq!(http.observed(&accepted(git.clone()), None, "fraud"), Some(routed(0, 0)));
        assert!(http.divided(&git, "nobody", &routed(20, 0)).unwrap_err().contains("nobody"));
        let mut late = accepted(made.clone());
        late["metadata"]["generation"] = 4.into();
        assert_eq!(http.observed(&late, None, "fraud"), None, "the weight counts when it was taken");
        let mut edited = accepted(made);
        edited["spec"]["rules"][0]["backendRefs"][1]["weight"] = 0.into();
        assert_eq!(http.observed(&edited, None, "fraud"), None, "its rules differ");
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
                let made = accepted(fields.divided(&git, "s", &routed(weight, 0)).unwrap());
                assert_eq!(fields.observed(&made, None, "s"), Some(routed(weight, 0)), "{kind} {made}");
            }
        }
    }

    #[test]
    fn istio_hosts_and_sums() {
        let istio = fields("networking.istio.io", "VirtualService");
        let git = json!({"spec": {"http": [{"route": [
            {"destination": {"host": "fraud.ml.svc.cluster.local", "subset": "v1"}, "weight": 60},
            {"destination": {"host": "other"}, "weight": 40}]}]}});
        let made = istio.divided(&git, "fraud", &routed(10, 0)).unwrap();
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
        let made = http.divided(&git, "s", &routed(0, 25)).unwrap();
        assert_eq!(
            made["spec"]["rules"][0]["filters"][0]["requestMirror"],
            json!({"backendRef": {"name": "s-candidate", "port": 80}, "percent": 25})
        );
        assert_eq!(made["spec"]["rules"][0]["backendRefs"], git["spec"]["rules"][0]["backendRefs"]);
        assert_eq!(http.observed(&accepted(made), None, "s"), Some(routed(0, 25)));
        let istio = fields("networking.istio.io", "VirtualService");
        let git = json!({"spec": {"http": [{"route": [{"destination": {"host": "s"}}]}]}});
        let made = istio.divided(&git, "s", &routed(0, 5)).unwrap();
        assert_eq!(made["spec"]["http"][0]["mirror"], json!({"host": "s-candidate"}));
        assert_eq!(istio.observed(&made, None, "s"), Some(routed(0, 5)));
    }
}
