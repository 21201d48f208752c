//! KServe: InferenceServices, graphs, runtimes.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::containers::is_template;
use super::references::missing;
use super::traffic::TRAFFIC_SUM;
use crate::lint::rule::{Out, rules};
use crate::lint::set::{Set, Subject};
use crate::render::explain::below;

rules! { "KServe":
    MUTABLE_MODEL_URI "mutable-model-uri" Warning Likely
        "a model that is another one tomorrow under the same address"
        "An alias, a stage, `latest` or a folder without a version is looked up when a pod begins: two replicas may serve different models, and a revert of the commit brings nothing back. Write the version, and keep what lies there unchanged."
    MODEL_URI_SCHEME "model-uri-scheme" Error Certain
        "a model address that KServe cannot read"
        "KServe reads gs, s3, pvc, hdfs, webhdfs, http, https, oci, hf, file and Azure blob addresses; others need a ClusterStorageContainer. models:/ of MLflow is none of them: write the address that the version resolves to."
    CANARY_PERCENT "canary-percent" Error Certain
        "a canary share outside of 0 to 100"
        "The API server takes it and Knative refuses the Route later: the new model never gets traffic."
    CANARY_IGNORED "canary-ignored" Error Certain
        "a canary share that nothing reads"
        "canaryTrafficPercent belongs to Knative. Under deploymentMode Standard (RawDeployment) it is ignored, and the new model gets everything at once. Use spec.canary (KServe 0.20), or the Knative mode."
    PREDICTOR "inference-service-predictor" Error Certain
        "a predictor that KServe's webhook refuses"
        "Exactly one model, framework or list of containers says what is served; bounds of replicas must not contradict each other."
    LEGACY_FRAMEWORK "kserve-legacy-framework" Info Certain
        "a predictor in the old form"
        "KServe rewrites predictor.sklearn and its like to predictor.model with modelFormat.name on the server, which comparing tools show as a difference for ever (kserve#2232). Write the new form."
    RUNTIME_PRIORITY "serving-runtime-priority" Warning Certain
        "two runtimes of one priority for the same format"
        "KServe refuses a second automatically selected runtime with the same format, version and priority. Give them different priorities."
    GRAPH "inference-graph" Error Certain
        "an InferenceGraph that KServe refuses, or that never ends"
        "A graph needs a node called root; each step goes to exactly one of nodeName, serviceName and serviceUrl; a Splitter gives every step a weight, 100 in all; nodes must exist and not lead back to themselves."
}

const FRAMEWORKS: &[&str] = &[
    "sklearn",
    "xgboost",
    "tensorflow",
    "pytorch",
    "triton",
    "onnx",
    "huggingface",
    "pmml",
    "lightgbm",
    "paddle",
];

/// Schemes of addresses that some version of KServe reads.
const SCHEMES: &[&str] = &[
    "gs",
    "s3",
    "pvc",
    "file",
    "https",
    "http",
    "hdfs",
    "webhdfs",
    "oci",
    "oci+native",
    "oci+fetch",
    "hf",
    "modelscope",
    "model-registry",
    "abfs",
    "abfss",
];

pub(super) fn check(subject: &Subject, set: &Set<'_>, out: &mut Out) {
    if subject.gvk.group != "serving.kserve.io" {
        return;
    }
    match subject.gvk.kind.as_str() {
        "InferenceService" => service(subject, set, out),
        "InferenceGraph" => graph(subject, set, out),
        "TrainedModel" => uri(subject, "/spec/model/storageUri", set, out),
        "LocalModelCache" => uri(subject, "/spec/sourceModelUri", set, out),
        "LLMInferenceService" => uri(subject, "/spec/model/uri", set, out),
        "ServingRuntime" | "ClusterServingRuntime" => runtime(subject, set, out),
        _ => {}
    }
}

fn service(subject: &Subject, set: &Set<'_>, out: &mut Out) {
    for part in ["predictor", "transformer", "explainer"] {
        let Some(component) = subject.at(&format!("/spec/{part}")).and_then(Value::as_object) else {
            continue;
        };
        for (name, inner) in component {
            if inner.get("storageUri").is_some() {
                uri(subject, &format!("{}/storageUri", below(&format!("/spec/{part}"), name)), set, out);
            }
        }
        let number = |field: &str| component.get(field).and_then(Value::as_i64);
        if let (Some(least), Some(most)) = (number("minReplicas"), number("maxReplicas"))
            && most > 0
            && least > most
        {
            let why = format!("at least {least} and at most {most} replicas");
            out.add(&PREDICTOR, format!("/spec/{part}/minReplicas"), why);
        }
        if let Some(percent) = number("canaryTrafficPercent") {
            let at = format!("/spec/{part}/canaryTrafficPercent");
            let mode = subject.annotation("serving.kserve.io/deploymentMode").unwrap_or_default();
            if !(0..=100).contains(&percent) {
                out.add(&CANARY_PERCENT, at, format!("{percent} is not between 0 and 100"));
            } else if matches!(mode, "RawDeployment" | "Standard") {
                let why = format!("the mode {mode} has no canary: the new model gets all traffic");
                out.add(&CANARY_IGNORED, at, why);
            }
        }
    }
    let Some(predictor) = subject.at("/spec/predictor").and_then(Value::as_object) else { return };
    let given: Vec<&str> = (FRAMEWORKS.iter().copied())
        .chain(["model"])
        .filter(|name| predictor.get(*name).is_some_and(|value| !value.is_null()))
        .collect();
    // `workerSpec` and `containers` may stand beside a model: they add to it.
    let containers =
        predictor.get("containers").and_then(Value::as_array).is_some_and(|list| !list.is_empty());
    if given.len() > 1 {
        let why = format!("{} are given, and only one may be", given.join(" and "));
        out.add(&PREDICTOR, "/spec/predictor", why);
    } else if given.is_empty() && !containers {
        out.add(&PREDICTOR, "/spec/predictor", "it says neither model nor containers, so nothing is served");
    }
    if let Some(old) = given.iter().find(|name| **name != "model") {
        let why = format!(
            "predictor.{old} is rewritten to predictor.model with modelFormat.name {old} on the server"
        );
        out.add(&LEGACY_FRAMEWORK, format!("/spec/predictor/{old}"), why);
    }
    let wanted = subject.text("/spec/predictor/model/runtime");
    let cluster = set.all("serving.kserve.io", "ClusterServingRuntime").any(|one| one.name() == wanted);
    if !wanted.is_empty() && !cluster {
        let at = "/spec/predictor/model/runtime";
        missing(subject, set, "serving.kserve.io", "ServingRuntime", wanted, at, out);
    }
    canaries(subject, out);
}

/// `spec.canary`, from 0.20 on.
fn canaries(subject: &Subject, out: &mut Out) {
    let list = subject.list("/spec/canary");
    let mut sum = 0;
    let mut names = HashSet::from([subject.text("/spec/predictor/name")]);
    for (at, canary) in list.iter().enumerate() {
        let percent = canary.get("trafficPercent").and_then(Value::as_i64).unwrap_or_default();
        if !(0..=100).contains(&percent) {
            let path = format!("/spec/canary/{at}/trafficPercent");
            out.add(&CANARY_PERCENT, path, format!("{percent} is not between 0 and 100"));
        }
        sum += percent;
        let name = canary.pointer("/predictor/name").and_then(Value::as_str).unwrap_or_default();
        if !names.insert(name) {
            out.add(
                &PREDICTOR,
                format!("/spec/canary/{at}"),
                "each canary needs a predictor.name of its own",
            );
        }
    }
    if sum > 100 {
        out.add(
            &CANARY_PERCENT,
            "/spec/canary",
            format!("the canaries get {sum} in all, more than there is"),
        );
    }
}

fn uri(subject: &Subject, path: &str, set: &Set<'_>, out: &mut Out) {
    let text = subject.text(path);
    if text.is_empty() || is_template(text) {
        return;
    }
    let custom = set.all("serving.kserve.io", "ClusterStorageContainer").next().is_some();
    if let Some((scheme, _)) = text.split_once("://") {
        if !SCHEMES.contains(&scheme) && !custom {
            out.add(&MODEL_URI_SCHEME, path, format!("KServe reads no {scheme}:// addresses"));
            return;
        }
    } else if text.starts_with("models:/") || text.starts_with("runs:/") {
        out.add(
            &MODEL_URI_SCHEME,
            path,
            format!("{text} is an address of MLflow, which KServe does not read"),
        );
    }
    if let Some(why) = mutable(text) {
        out.add(&MUTABLE_MODEL_URI, path, format!("{text} {why}"));
    }
}

/// Why the model at an address may change.
fn mutable(text: &str) -> Option<String> {
    if let Some(rest) = text.strip_prefix("models:/") {
        if let Some((_, alias)) = rest.rsplit_once('@') {
            return Some(format!("follows the alias {alias}"));
        }
        let stage = rest.rsplit('/').next().unwrap_or_default();
        let moves =
            ["production", "staging", "latest", "archived", "none"].contains(&&*stage.to_ascii_lowercase());
        return moves.then(|| format!("follows the stage {stage}"));
    }
    if text.starts_with("oci") {
        let last = text.rsplit('/').next().unwrap_or_default();
        let pinned = text.contains('@') || last.split_once(':').is_some_and(|(_, tag)| tag != "latest");
        return (!pinned).then(|| "names no version, which means latest".to_owned());
    }
    if let Some(rest) = text.strip_prefix("hf://") {
        // hf://ORGANISATION/MODEL[:REVISION]
        let revision =
            rest.rsplit('/').next().unwrap_or_default().split_once(':').map(|(_, revision)| revision);
        let moves = revision.is_none_or(|revision| matches!(revision, "main" | "latest"));
        return moves.then(|| {
            "follows the branch main; write a revision (hf://organisation/model:COMMIT)".to_owned()
        });
    }
    let path = text.split_once("://").map_or(text, |(_, path)| path);
    let word = path.split('/').find(|part| {
        let part = part.to_ascii_lowercase();
        ["latest", "current", "production", "staging", "champion"].contains(&&*part)
    });
    word.map(|word| format!("lies below {word}, which is another model after the next training"))
}

fn runtime(subject: &Subject, set: &Set<'_>, out: &mut Out) {
    let formats = |one: &Subject| -> Vec<(String, String, i64)> {
        let list = one.list("/spec/supportedModelFormats").iter();
        list.filter(|format| format.get("autoSelect").and_then(Value::as_bool) == Some(true))
            .filter_map(|format| {
                let text =
                    |field: &str| format.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
                Some((text("name"), text("version"), format.get("priority")?.as_i64()?))
            })
            .collect()
    };
    let own = formats(subject);
    let mut others =
        set.all(&subject.gvk.group, &subject.gvk.kind).take_while(|one| !std::ptr::eq(*one, subject));
    let equal = others.find_map(|other| {
        let theirs = formats(other);
        own.iter()
            .find(|format| theirs.contains(format) && other.namespace == subject.namespace)
            .map(|f| (other, f))
    });
    if let Some((other, (name, _, priority))) = equal {
        let why = format!("{} has the priority {priority} for {name} too", other.title());
        out.add(&RUNTIME_PRIORITY, "/spec/supportedModelFormats", why);
    }
}

fn graph(subject: &Subject, set: &Set<'_>, out: &mut Out) {
    let Some(nodes) = subject.at("/spec/nodes").and_then(Value::as_object) else { return };
    if !nodes.contains_key("root") {
        out.add(&GRAPH, "/spec/nodes", "no node is called root, where every request begins");
    }
    let mut edges: HashMap<&str, Vec<&str>> = HashMap::new();
    for (name, node) in nodes {
        let path = below("/spec/nodes", name);
        let steps = node.get("steps").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let router = node.get("routerType").and_then(Value::as_str).unwrap_or_default();
        if router == "Splitter" {
            let sum: i64 = steps.iter().filter_map(|step| step.get("weight").and_then(Value::as_i64)).sum();
            if sum != 100 {
                let why = format!("the weights of the splitter {name} are {sum} in all, not 100");
                out.add(&TRAFFIC_SUM, format!("{path}/steps"), why);
            }
        }
        let mut names = HashSet::new();
        for (at, step) in steps.iter().enumerate() {
            let path = format!("{path}/steps/{at}");
            let text = |field: &str| step.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
            let targets =
                ["nodeName", "serviceName", "serviceUrl"].iter().filter(|field| text(field).is_some());
            if targets.count() != 1 {
                out.add(
                    &GRAPH,
                    path.as_str(),
                    "a step goes to exactly one of nodeName, serviceName and serviceUrl",
                );
            }
            if text("name").is_some_and(|name| !names.insert(name)) {
                out.add(&GRAPH, path.as_str(), "two steps of this node have one name");
            }
            if let Some(target) = text("nodeName") {
                if !nodes.contains_key(target) {
                    out.add(&GRAPH, format!("{path}/nodeName"), format!("there is no node {target}"));
                }
                edges.entry(name).or_default().push(target);
            }
            if let Some(target) = text("serviceName") {
                let at = format!("{path}/serviceName");
                missing(subject, set, "serving.kserve.io", "InferenceService", target, &at, out);
            }
        }
    }
    if let Some(cycle) = cycle(&edges) {
        out.add(&GRAPH, "/spec/nodes", format!("the nodes lead round: {}", cycle.join(" -> ")));
    }
}

/// The nodes of a cycle, the first one again at the end.
pub(super) fn cycle<'a>(edges: &HashMap<&'a str, Vec<&'a str>>) -> Option<Vec<&'a str>> {
    let mut names: Vec<&str> = edges.keys().copied().collect();
    names.sort_unstable();
    let mut done = HashSet::new();
    for name in names {
        // The nodes on the way, and which edge of each comes next.
        let mut way: Vec<(&str, usize)> = vec![(name, 0)];
        while let Some((at, next)) = way.last_mut() {
            let target = edges.get(*at).and_then(|targets| targets.get(*next)).copied();
            *next += 1;
            match target {
                None => {
                    done.insert(*at);
                    way.pop();
                }
                Some(target) if done.contains(target) => {}
                Some(target) => match way.iter().position(|(on, _)| *on == target) {
                    Some(begin) => {
                        let mut cycle: Vec<&str> = way[begin..].iter().map(|(on, _)| *on).collect();
                        cycle.push(target);
                        return Some(cycle);
                    }
                    None => way.push((target, 0)),
                },
            }
        }
    }
    None
}
