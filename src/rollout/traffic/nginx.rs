//! ingress-nginx: a copy of the Ingress that is marked as a canary, with the candidate's Service. The Ingress itself stays
//! as it is.
//!
//! It knows one canary for a rule, and in it one header; what has that goes to the candidate, all else by weight. A copy
//! counts when it has an address, where the Ingress has one: its controller has taken it then. Nothing in the cluster tells
//! when it took a weight.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::Router;
use super::ingress::{CLASS, annotation, backends};
use crate::api::HeaderMatch;
use crate::rollout::machine::Routed;
use crate::rollout::target::candidate_name;

/// It takes changes at most every 3.3 s (`--sync-rate-limit` 0.3), and then needs no reload for a weight.
const SETTLES: Duration = Duration::from_secs(5);

/// Its annotations.
#[derive(Debug)]
pub(super) struct Nginx {
    /// Before the names of annotations.
    pub(super) prefix: String,
}

impl Nginx {
    fn canary(&self, copy: &Value, end: &str) -> Option<String> {
        annotation(copy, &format!("{}/canary{end}", self.prefix)).map(str::to_owned)
    }

    /// The annotations of the copy: those that its controller reads, and what makes it a canary.
    fn annotations(&self, ingress: &Value, routed: &Routed) -> Map<String, Value> {
        let canary = format!("{}/canary", self.prefix);
        let own = ingress["metadata"]["annotations"].as_object().into_iter().flatten();
        let is_read = |name: &str| name == CLASS || name.starts_with(&format!("{}/", self.prefix));
        let mut all: Map<String, Value> = own
            .filter(|(name, _)| is_read(name) && !name.starts_with(&canary))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        all.insert(canary.clone(), "true".into());
        all.insert(format!("{canary}-weight"), routed.weight.to_string().into());
        if let Some(header) = routed.headers.first() {
            let (way, value) = header.way();
            let end = if way == "regex" { "pattern" } else { "value" };
            all.insert(format!("{canary}-by-header"), header.name.clone().into());
            all.insert(format!("{canary}-by-header-{end}"), value.into());
        }
        all
    }

    fn headers(&self, copy: &Value) -> Option<Vec<HeaderMatch>> {
        let Some(name) = self.canary(copy, "-by-header") else { return Some(Vec::new()) };
        let exact = self.canary(copy, "-by-header-value").map(|value| ("exact", value));
        let (way, value) =
            exact.or_else(|| self.canary(copy, "-by-header-pattern").map(|value| ("regex", value)))?;
        Some(vec![HeaderMatch::new(&name, way, value)])
    }
}

impl Router for Nginx {
    fn copies(&self) -> Result<(), String> {
        Err("NGINX copies no share of the traffic".to_owned())
    }

    fn matches(&self, headers: &[HeaderMatch]) -> Result<(), String> {
        match headers {
            [] => Ok(()),
            [one] if one.prefix.is_none() => Ok(()),
            [_] => Err("NGINX has no prefixes of headers; say exact or regex".to_owned()),
            more => Err(format!("NGINX tells requests by one header, not by {}", more.len())),
        }
    }

    fn divided(&self, route: &Value, service: &str, _routed: &Routed) -> Result<Value, String> {
        if self.canary(route, "").as_deref() == Some("true") {
            return Err("it is the canary of another Ingress; name that one".to_owned());
        }
        if backends(route).all(|backend| backend["name"] != service) {
            return Err(format!("none of its backends is the Service {service}"));
        }
        Ok(route.clone())
    }

    fn beside(&self, route: &Value, service: &str, routed: &Routed) -> Option<Value> {
        let (candidate, spec) = (candidate_name(service), &route["spec"]);
        let led = |backend: &Value| {
            let mut led = backend.clone();
            led["service"]["name"] = candidate.clone().into();
            (backend["service"]["name"] == service).then_some(led)
        };
        let mut made = Map::new();
        for field in ["ingressClassName", "tls"] {
            spec.get(field).map(|value| made.insert(field.to_owned(), value.clone()));
        }
        if let Some(backend) = led(&spec["defaultBackend"]) {
            made.insert("defaultBackend".to_owned(), backend);
        }
        let rules: Vec<Value> = spec["rules"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|rule| {
                let paths = rule["http"]["paths"].as_array().into_iter().flatten();
                let paths: Vec<Value> = paths
                    .filter_map(|path| {
                        let mut path = path.clone();
                        path["backend"] = led(&path["backend"])?;
                        Some(path)
                    })
                    .collect();
                let mut rule = rule.clone();
                (!paths.is_empty()).then(|| {
                    rule["http"]["paths"] = paths.into();
                    rule
                })
            })
            .collect();
        if !rules.is_empty() {
            made.insert("rules".to_owned(), rules.into());
        }
        let metadata = &route["metadata"];
        let name = candidate_name(metadata["name"].as_str().unwrap_or_default());
        let labels = if metadata["labels"].is_object() { metadata["labels"].clone() } else { json!({}) };
        Some(json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": {"name": name, "namespace": metadata["namespace"], "labels": labels,
                "annotations": self.annotations(route, routed)},
            "spec": made}))
    }

    fn stands_beside(&self) -> bool {
        true
    }

    fn observed(&self, live: &Value, beside: Option<&Value>, service: &str) -> Option<Routed> {
        let Some(copy) = beside else { return Some(Routed::default()) };
        let has_address = |ingress: &Value| {
            let all = ingress["status"]["loadBalancer"]["ingress"].as_array();
            all.is_some_and(|all| !all.is_empty())
        };
        let candidate = candidate_name(service);
        let leads = backends(copy).all(|backend| backend["name"] == candidate.as_str());
        let is_canary = self.canary(copy, "").as_deref() == Some("true");
        let total = self.canary(copy, "-weight-total").unwrap_or_else(|| "100".to_owned());
        if !leads || !is_canary || total != "100" {
            return None;
        }
        let weight = self.canary(copy, "-weight").map_or(Some(0), |text| text.parse().ok())?;
        let routed = Routed { weight, mirror: 0, headers: self.headers(copy)? };
        // Whoever has not taken it sends nothing, so the way back waits for nobody.
        let is_taken = routed == Routed::default() || !has_address(live) || has_address(copy);
        is_taken.then_some(routed)
    }

    fn settles(&self) -> Duration {
        SETTLES
    }
}
