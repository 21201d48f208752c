//! Ingresses: which controller carries one out, and where it has its backends.

use std::sync::Arc;

use serde_json::Value;

use super::Router;
use super::alb::Alb;
use super::nginx::Nginx;
use crate::api::{IngressRouter, TrafficRoute};

pub(super) const GROUP: &str = "networking.k8s.io";

/// The annotation from before `spec.ingressClassName`.
pub(super) const CLASS: &str = "kubernetes.io/ingress.class";

/// Of an Ingress: the router that the policy names, or that of its class.
pub(super) fn router(route: &TrafficRoute, ingress: &Value) -> Result<Arc<dyn Router>, String> {
    let class = class(ingress);
    let named = match (route.router, class) {
        (Some(named), _) => named,
        (None, Some("nginx")) => IngressRouter::Nginx,
        (None, Some("alb")) => IngressRouter::Alb,
        (None, Some(other)) => {
            return Err(format!(
                "the class {other} of the Ingress says no router; state router: nginx or alb"
            ));
        }
        (None, None) => return Err("the Ingress has no class; state router: nginx or alb".to_owned()),
    };
    let prefix = |usual: &str| route.annotation_prefix.clone().unwrap_or_else(|| usual.to_owned());
    Ok(match named {
        IngressRouter::Nginx => Arc::new(Nginx { prefix: prefix("nginx.ingress.kubernetes.io") }),
        IngressRouter::Alb => Arc::new(Alb { prefix: prefix("alb.ingress.kubernetes.io") }),
    })
}

pub(super) fn class(ingress: &Value) -> Option<&str> {
    let stated = ingress["spec"]["ingressClassName"].as_str();
    stated.or_else(|| ingress["metadata"]["annotations"][CLASS].as_str())
}

/// An annotation of an object.
pub(super) fn annotation<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object["metadata"]["annotations"][name].as_str()
}

/// The Services among its backends, each with its port.
pub(super) fn backends(ingress: &Value) -> impl Iterator<Item = &Value> {
    let spec = &ingress["spec"];
    let paths = spec["rules"].as_array().into_iter().flatten();
    let paths = paths.flat_map(|rule| rule["http"]["paths"].as_array().into_iter().flatten());
    let all = paths.map(|path| &path["backend"]).chain([&spec["defaultBackend"]]);
    all.map(|backend| &backend["service"]).filter(|service| service["name"].is_string())
}
