//! AWS Load Balancer Controller: annotations of the Ingress itself. A backend whose port is `use-annotation` is an action,
//! which forwards to target groups with weights; another annotation has the conditions of its rule.
//!
//! Nothing in the cluster tells when the balancer has what the annotations say. What its target groups do can be told: pods
//! that are made after their group exists have a readiness gate, where the namespace asks for that. So the candidate's group
//! is named before it has pods.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use super::Router;
use super::ingress::{annotation, backends};
use super::route::Fields;
use crate::api::HeaderMatch;
use crate::rollout::machine::Routed;
use crate::rollout::target::candidate_name;

/// Some calls to AWS, one after the other; they take a second or two each.
const SETTLES: Duration = Duration::from_secs(10);

const BY_ANNOTATION: &str = "use-annotation";

/// Its annotations.
#[derive(Debug)]
pub(super) struct Alb {
    /// Before the names of annotations.
    pub(super) prefix: String,
}

fn is_action(backend: &Value) -> bool {
    backend["port"]["name"] == BY_ANNOTATION
}

/// Whether an action forwards to a Service.
fn leads(action: &Value, service: &str) -> bool {
    let groups = action["forwardConfig"]["targetGroups"].as_array();
    groups.is_some_and(|groups| groups.iter().any(|group| group["serviceName"] == service))
}

fn forward(service: &str, port: &Value) -> Value {
    json!({"type": "forward", "forwardConfig": {"targetGroups": [
        {"serviceName": service, "servicePort": port, "weight": 100}]}})
}

/// Fields as they are documented; Go reads them in any case, and Argo Rollouts writes them in another.
fn lowered(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let lower = |name: String| match name.as_bytes().first() {
                Some(first) if first.is_ascii_uppercase() => name[..1].to_lowercase() + &name[1..],
                _ => name,
            };
            fields.into_iter().map(|(name, value)| (lower(name), lowered(value))).collect()
        }
        Value::Array(items) => items.into_iter().map(lowered).collect(),
        other => other,
    }
}

impl Alb {
    fn read(&self, ingress: &Value, what: &str, name: &str) -> Result<Option<Value>, String> {
        let field = format!("{}/{what}.{name}", self.prefix);
        let Some(text) = annotation(ingress, &field) else { return Ok(None) };
        match serde_json::from_str(text) {
            Ok(read) => Ok(Some(lowered(read))),
            Err(error) => Err(format!("the annotation {field} is no JSON: {error}")),
        }
    }

    fn write(&self, ingress: &mut Value, what: &str, name: &str, value: &Value) {
        let annotations = &mut ingress["metadata"]["annotations"];
        if !annotations.is_object() {
            *annotations = json!({});
        }
        annotations[format!("{}/{what}.{name}", self.prefix)] = value.to_string().into();
    }

    /// The actions that lead to a Service, by the name that their backends have. One that names it with its port is an
    /// action that nobody wrote down.
    fn actions(&self, ingress: &Value, service: &str) -> Result<BTreeMap<String, Value>, String> {
        let mut all: BTreeMap<String, Value> = BTreeMap::new();
        for backend in backends(ingress) {
            let name = backend["name"].as_str().unwrap_or_default();
            let action = if is_action(backend) {
                self.read(ingress, "actions", name)?.filter(|action| leads(action, service))
            } else {
                let port = &backend["port"];
                let port = if port["number"].is_null() { &port["name"] } else { &port["number"] };
                (name == service).then(|| forward(service, port))
            };
            let Some(action) = action else { continue };
            if let Some(other) = all.insert(name.to_owned(), action.clone())
                && other != action
            {
                return Err(format!(
                    "its backends name the Service {service} with two ports; write actions for them"
                ));
            }
        }
        Ok(all)
    }

    /// The headers that the rule of an action asks for.
    fn headers(&self, ingress: &Value, name: &str) -> Option<Vec<HeaderMatch>> {
        let conditions = self.read(ingress, "conditions", name).ok()?.unwrap_or_default();
        let all = conditions.as_array().into_iter().flatten().filter_map(|condition| {
            let config = &condition["httpHeaderConfig"];
            // One of several values is none that a step asks for.
            let [Value::String(value)] = config["values"].as_array()?.as_slice() else { return None };
            let (way, value) = match value.strip_suffix('*') {
                Some(begin) => ("prefix", begin),
                None => ("exact", value.as_str()),
            };
            Some(HeaderMatch::new(config["httpHeaderName"].as_str()?, way, value.to_owned()))
        });
        Some(all.collect())
    }

    /// Puts a rule for requests with headers in front of each that leads to the Service.
    fn lead(
        &self,
        made: &mut Value,
        git: &Value,
        service: &str,
        headers: &[HeaderMatch],
        actions: &BTreeMap<String, Value>,
    ) -> Result<(), String> {
        let led = |backend: &Value| {
            let name = backend["service"]["name"].as_str()?;
            actions.contains_key(name).then(|| candidate_name(name))
        };
        if led(&git["spec"]["defaultBackend"]).is_some() {
            return Err("its default backend has no rule that could ask for headers; give it one".to_owned());
        }
        let rules = made["spec"]["rules"].as_array_mut();
        for rule in rules.into_iter().flatten() {
            let Some(paths) = rule["http"]["paths"].as_array_mut() else { continue };
            let each = std::mem::take(paths).into_iter().flat_map(|path| {
                let ahead = led(&path["backend"]).map(|name| {
                    let mut ahead = path.clone();
                    ahead["backend"] = json!({"service": {"name": name, "port": {"name": BY_ANNOTATION}}});
                    ahead
                });
                ahead.into_iter().chain([path])
            });
            *paths = each.collect();
        }
        for (name, action) in actions {
            let groups = action["forwardConfig"]["targetGroups"].as_array().into_iter().flatten();
            let port = groups.clone().find(|group| group["serviceName"] == service);
            let port = port.map_or(Value::Null, |group| group["servicePort"].clone());
            let mut conditions = match self.read(git, "conditions", name)? {
                Some(Value::Array(conditions)) => conditions,
                _ => Vec::new(),
            };
            for header in headers {
                let known = conditions.iter();
                let mut known = known.filter_map(|one| one["httpHeaderConfig"]["httpHeaderName"].as_str());
                if known.any(|name| name.eq_ignore_ascii_case(&header.name)) {
                    return Err(format!("a rule of it asks for the header {} already", header.name));
                }
                let (way, value) = header.way();
                let end = if way == "prefix" { "*" } else { "" };
                conditions.push(json!({"field": "http-header", "httpHeaderConfig": {
                    "httpHeaderName": header.name, "values": [format!("{value}{end}")]}}));
            }
            let ahead = candidate_name(name);
            self.write(made, "actions", &ahead, &forward(&candidate_name(service), &port));
            self.write(made, "conditions", &ahead, &conditions.into());
        }
        Ok(())
    }
}

impl Router for Alb {
    fn copies(&self) -> Result<(), String> {
        Err("an ALB copies no traffic".to_owned())
    }

    fn matches(&self, headers: &[HeaderMatch]) -> Result<(), String> {
        for header in headers {
            let ((way, value), name) = (header.way(), &header.name);
            if way == "regex" {
                return Err(format!(
                    "an ALB has no regular expressions of headers ({name}); say exact or prefix"
                ));
            }
            if value.contains(['*', '?']) {
                return Err(format!("* and ? stand for other characters in an ALB ({name}: {value})"));
            }
        }
        Ok(())
    }

    fn divided(&self, route: &Value, service: &str, routed: &Routed) -> Result<Value, String> {
        let actions = self.actions(route, service)?;
        if actions.is_empty() {
            return Err(format!(
                "none of its backends is the Service {service}, or an action that leads to it"
            ));
        }
        let candidate = candidate_name(service);
        if !self.actions(route, &candidate)?.is_empty() {
            return Err(format!("one of its backends is {candidate}, the Service of the candidate alone"));
        }
        let mut made = route.clone();
        // First, because it copies paths as Git has them.
        if !routed.headers.is_empty() {
            self.lead(&mut made, route, service, &routed.headers, &actions)?;
        }
        if routed.weight > 0 {
            let weight = Routed { weight: routed.weight, ..Routed::default() };
            for (name, action) in &actions {
                let divided = Fields::target_groups().divided(action, service, &weight)?;
                self.write(&mut made, "actions", name, &divided);
            }
            by_annotation(&mut made["spec"], service);
        }
        Ok(made)
    }

    fn warmed(&self, mut divided: Value, service: &str) -> Value {
        let candidate = candidate_name(service);
        let actions = self.actions(&divided, service).unwrap_or_default();
        let mut cold = actions.into_iter().filter(|(_, action)| !leads(action, &candidate)).peekable();
        if cold.peek().is_none() {
            return divided;
        }
        for (name, mut action) in cold {
            let groups = action["forwardConfig"]["targetGroups"].as_array_mut();
            let Some(groups) = groups else { continue };
            let Some(own) = groups.iter().position(|group| group["serviceName"] == service) else { continue };
            let mut group = groups[own].clone();
            (group["serviceName"], group["weight"]) = (candidate.as_str().into(), 0.into());
            groups.insert(own + 1, group);
            self.write(&mut divided, "actions", &name, &action);
        }
        by_annotation(&mut divided["spec"], service);
        divided
    }

    fn warms(&self) -> bool {
        true
    }

    fn observed(&self, live: &Value, _: Option<&Value>, service: &str) -> Option<Routed> {
        let candidate = candidate_name(service);
        let (stable, all) = (self.actions(live, service).ok()?, self.actions(live, &candidate).ok()?);
        let ahead: BTreeSet<&String> = all.keys().filter(|name| !stable.contains_key(*name)).collect();
        let known: BTreeSet<String> = stable.keys().map(|name| candidate_name(name)).collect();
        if !ahead.iter().all(|name| known.contains(*name)) {
            return None;
        }
        let mut seen = stable.iter().map(|(name, action)| {
            let ours = candidate_name(name);
            let theirs = self.headers(live, name)?;
            let mut headers = if ahead.contains(&ours) { self.headers(live, &ours)? } else { Vec::new() };
            headers.retain(|header| !theirs.contains(header));
            headers.sort();
            let weight = Fields::target_groups().observed(action, None, service)?.weight;
            Some(Routed { weight, mirror: 0, headers })
        });
        let first = seen.next()??;
        seen.all(|one| one.as_ref() == Some(&first)).then_some(first)
    }

    fn settles(&self) -> Duration {
        SETTLES
    }
}

/// Backends that name the Service with its port become its action.
fn by_annotation(spec: &mut Value, service: &str) {
    let turn = |backend: &mut Value| {
        if backend["service"]["name"] == service {
            backend["service"]["port"] = json!({"name": BY_ANNOTATION});
        }
    };
    if spec.get("defaultBackend").is_some() {
        turn(&mut spec["defaultBackend"]);
    }
    let rules = spec.get_mut("rules").and_then(Value::as_array_mut).into_iter().flatten();
    let http = rules.filter_map(|rule| rule.pointer_mut("/http/paths").and_then(Value::as_array_mut));
    http.flatten().filter_map(|path| path.get_mut("backend")).for_each(turn);
}
