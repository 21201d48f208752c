//! Argo Rollouts: strategies and their steps.

use serde_json::Value;

use super::references::missing;
use crate::lint::rule::{Out, rules};
use crate::lint::set::{Set, Subject};

rules! { "Argo Rollouts":
    STRATEGY "rollout-strategy" Error Certain
        "a strategy that the controller refuses"
        "A Rollout has either blueGreen or canary; with trafficRouting a canary needs a stable and a canary Service, which must differ; maxSurge and maxUnavailable must not both be 0."
    STEP "rollout-step" Error Certain
        "a step that the controller refuses"
        "A step has one of setWeight, pause, experiment and analysis, or does something else (setCanaryScale, plugin, setHeaderRoute, setMirrorRoute); a weight is between 0 and 100 (or maxTrafficWeight); setCanaryScale needs trafficRouting."
}

const STEPS: &[&str] = &[
    "setWeight",
    "pause",
    "setCanaryScale",
    "experiment",
    "analysis",
    "plugin",
    "setHeaderRoute",
    "setMirrorRoute",
    "replicaProgressThreshold",
];

/// Of which the controller takes one in a step.
const ALONE: &[&str] = &["setWeight", "pause", "experiment", "analysis"];

pub(super) fn check(subject: &Subject, set: &Set<'_>, out: &mut Out) {
    if !subject.is("argoproj.io", "Rollout") {
        return;
    }
    let (canary, blue) = (subject.at("/spec/strategy/canary"), subject.at("/spec/strategy/blueGreen"));
    match (canary, blue) {
        (Some(_), Some(_)) => out.add(&STRATEGY, "/spec/strategy", "blueGreen and canary are both given"),
        (None, None) => out.add(&STRATEGY, "/spec", "it has neither a blueGreen nor a canary strategy"),
        _ => {}
    }
    if let Some(blue) = blue {
        let text = |field: &str| blue.get(field).and_then(Value::as_str).unwrap_or_default();
        if !text("activeService").is_empty() && text("activeService") == text("previewService") {
            let why = "the active and the preview Service are the same";
            out.add(&STRATEGY, "/spec/strategy/blueGreen/previewService", why);
        }
        analyses(
            subject,
            blue,
            "/spec/strategy/blueGreen",
            &["prePromotionAnalysis", "postPromotionAnalysis"],
            set,
            out,
        );
    }
    if let Some(canary) = canary {
        self::canary(subject, canary, set, out);
    }
}

fn canary(subject: &Subject, canary: &Value, set: &Set<'_>, out: &mut Out) {
    let path = "/spec/strategy/canary";
    let text = |field: &str| canary.get(field).and_then(Value::as_str).unwrap_or_default();
    let (own, stable) = (text("canaryService"), text("stableService"));
    let routed = canary.get("trafficRouting").and_then(Value::as_object);
    if !own.is_empty() && own == stable {
        out.add(&STRATEGY, format!("{path}/canaryService"), "the canary and the stable Service are the same");
    }
    // Istio may split by subsets of one host, and a ping and a pong Service stand for both.
    let other =
        canary.pointer("/trafficRouting/istio/destinationRule").is_some() || canary.get("pingPong").is_some();
    if routed.is_some_and(|routed| !routed.is_empty()) && !other && (own.is_empty() || stable.is_empty()) {
        let why = "with trafficRouting, canaryService and stableService are needed";
        out.add(&STRATEGY, format!("{path}/trafficRouting"), why);
    }
    let none = |field: &str| {
        canary
            .get(field)
            .is_some_and(|value| value.as_i64() == Some(0) || matches!(value.as_str(), Some("0" | "0%")))
    };
    if none("maxSurge") && none("maxUnavailable") {
        out.add(&STRATEGY, format!("{path}/maxSurge"), "maxSurge and maxUnavailable are both 0");
    }
    let most = canary.pointer("/trafficRouting/maxTrafficWeight").and_then(Value::as_i64).unwrap_or(100);
    for (at, step) in canary.get("steps").and_then(Value::as_array).into_iter().flatten().enumerate() {
        let path = format!("{path}/steps/{at}");
        let Some(fields) = step.as_object() else { continue };
        let given: Vec<&str> =
            fields.keys().map(String::as_str).filter(|name| STEPS.contains(name)).collect();
        let alone: Vec<&str> = given.iter().copied().filter(|name| ALONE.contains(name)).collect();
        if alone.len() > 1 {
            out.add(&STEP, path.as_str(), format!("a step is one thing, not {}", alone.join(" and ")));
        } else if given.is_empty() {
            out.add(&STEP, path.as_str(), "the step does nothing that is known");
        }
        if let Some(weight) =
            step.get("setWeight").and_then(Value::as_i64).filter(|weight| !(0..=most).contains(weight))
        {
            out.add(&STEP, format!("{path}/setWeight"), format!("{weight} is not between 0 and {most}"));
        }
        if step.get("setCanaryScale").is_some() && routed.is_none() {
            out.add(&STEP, format!("{path}/setCanaryScale"), "setCanaryScale needs trafficRouting");
        }
        if step.pointer("/pause/duration").and_then(Value::as_i64).is_some_and(|seconds| seconds < 0) {
            out.add(&STEP, format!("{path}/pause/duration"), "a pause cannot be shorter than 0");
        }
        analyses(subject, step, &path, &["analysis"], set, out);
    }
    analyses(subject, canary, path, &["analysis"], set, out);
}

fn analyses(subject: &Subject, value: &Value, path: &str, fields: &[&str], set: &Set<'_>, out: &mut Out) {
    for field in fields {
        let templates = value.get(*field).and_then(|one| one.get("templates")).and_then(Value::as_array);
        for (at, template) in templates.into_iter().flatten().enumerate() {
            let Some(name) = template.get("templateName").and_then(Value::as_str) else { continue };
            let cluster = template.get("clusterScope").and_then(Value::as_bool) == Some(true);
            let kind = if cluster { "ClusterAnalysisTemplate" } else { "AnalysisTemplate" };
            let at = format!("{path}/{field}/templates/{at}/templateName");
            missing(subject, set, "argoproj.io", kind, name, &at, out);
        }
    }
}
