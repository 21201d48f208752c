//! Names, labels, and objects that stand twice.

use serde_json::Value;

use super::containers::is_template;
use crate::lint::pods::pods;
use crate::lint::rule::{Out, rules};
use crate::lint::set::{Set, Subject};
use crate::render::explain::below;

rules! { "Names":
    INVALID_NAME "invalid-name" Error Certain
        "a name that the API server refuses"
        "Names are lower-case letters, digits and dashes (and dots where the kind allows), and begin and end with a letter or digit. RBAC takes almost anything."
    NAME_TOO_LONG "name-too-long" Error Certain
        "a name that leaves no room for what the controller adds"
        "Controllers make the names of children from this one: the object is accepted, or not, and its children fail. The message says how long the name may be."
    INVALID_LABEL "invalid-label" Error Certain
        "a label that the API server refuses"
        "A value has at most 63 letters, digits, dashes, dots and underscores and begins and ends with a letter or digit; a key may have a DNS name and a slash before it. Longer texts belong in annotations."
    DUPLICATE_OBJECT "duplicate-object" Error Certain
        "two documents describe the same object"
        "Whichever is applied last wins, or the sync refuses both (DL0203). Remove one."
    GENERATE_NAME "generate-name" Warning Certain
        "an object without a name"
        "`kubectl apply`, Argo CD, Flux and driftless compare by name, so an object with generateName cannot be applied; only hooks may have it. Give it a name, which changes with what it runs."
}

/// What a name may be.
enum Shape {
    /// `a-z`, `0-9`, `-`; at most 63.
    Label,
    /// As a label, beginning with a letter.
    Word,
    /// Labels with dots between; at most 253.
    Subdomain,
    /// Anything that fits in a path.
    Path,
}

pub(super) fn check(subject: &Subject, set: &Set<'_>, out: &mut Out) {
    let name = subject.name();
    if name.is_empty() {
        if subject.at("/metadata/generateName").is_some() && !subject.is_hook() {
            let why =
                format!("this {} has generateName and no name, so it cannot be applied", subject.gvk.kind);
            out.add(&GENERATE_NAME, "/metadata/generateName", why);
        }
    } else {
        self::name(subject, name, out);
        twice(subject, set, out);
    }
    labels(subject.at("/metadata/labels"), "/metadata/labels", out);
    for pod in pods(subject).iter().filter(|pod| !pod.pointer.is_empty()) {
        labels(pod.labels(), &format!("{}/metadata/labels", pod.pointer), out);
    }
}

fn name(subject: &Subject, name: &str, out: &mut Out) {
    let (group, kind) = (subject.gvk.group.as_str(), subject.gvk.kind.as_str());
    let shape = match (group, kind) {
        // Since Kubernetes 1.36 a Service may begin with a digit.
        ("", "Namespace" | "Service") => Shape::Label,
        ("rbac.authorization.k8s.io", _) => Shape::Path,
        ("serving.kserve.io", "InferenceService" | "InferenceGraph") | ("kubeflow.org", "Experiment") => {
            Shape::Word
        }
        ("trainer.kubeflow.org", "TrainJob") => Shape::Word,
        ("kubeflow.org", "PyTorchJob" | "TFJob" | "MPIJob" | "XGBoostJob" | "PaddleJob" | "JAXJob") => {
            Shape::Word
        }
        _ => Shape::Subdomain,
    };
    // Somebody fills it in later.
    if is_template(name) {
        return;
    }
    if let Some(why) = misshapen(name, &shape) {
        out.add(&INVALID_NAME, "/metadata/name", format!("the name {name:?} {why}"));
    }
    let longest = match (group, kind) {
        // 11 characters are the time of a run.
        ("batch", "CronJob") | ("argoproj.io", "CronWorkflow") => 52,
        ("argoproj.io", "Workflow" | "WorkflowTemplate" | "ClusterWorkflowTemplate") => 63,
        ("kubeflow.org", "Experiment") => 40,
        ("ray.io", "RayCluster") => 53,
        ("ray.io", "RayService" | "RayJob") => 47,
        ("ray.io", "RayCronJob") => 36,
        // The name is a label of each pod.
        ("batch", "Job") | ("apps", "StatefulSet") => 63,
        _ => return,
    };
    if name.len() > longest {
        let why = format!("the name has {} characters, and that of any {kind} at most {longest}", name.len());
        out.add(&NAME_TOO_LONG, "/metadata/name", why);
    }
}

/// What is wrong with a name.
fn misshapen(name: &str, shape: &Shape) -> Option<String> {
    let small = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let label = |part: &str| {
        !part.is_empty()
            && part.starts_with(small)
            && part.ends_with(small)
            && part.chars().all(|c| small(c) || c == '-')
    };
    let plain = "may only have lower-case letters, digits and dashes, with a letter or digit at both ends";
    match shape {
        Shape::Path => matches!(name, "." | "..").then(|| "is a path".to_owned()).or_else(|| {
            name.contains(['/', '%']).then(|| "must not have a slash or a percent sign".to_owned())
        }),
        Shape::Label | Shape::Word if name.len() > 63 => Some("is longer than 63 characters".to_owned()),
        Shape::Label | Shape::Word if !label(name) => Some(plain.to_owned()),
        Shape::Word if !name.starts_with(|c: char| c.is_ascii_lowercase()) => {
            Some("must begin with a letter".to_owned())
        }
        Shape::Subdomain if name.len() > 253 => Some("is longer than 253 characters".to_owned()),
        Shape::Subdomain if !name.split('.').all(label) => {
            Some(format!("{plain}, and dots between such parts"))
        }
        _ => None,
    }
}

fn twice(subject: &Subject, set: &Set<'_>, out: &mut Out) {
    let first = set.find(&subject.gvk.group, &subject.gvk.kind, &subject.namespace, subject.name());
    let Some(first) = first.filter(|first| !std::ptr::eq(*first, subject)) else { return };
    // Files beside each other may be alternatives; documents of one file are applied together.
    if first.namespace == subject.namespace && first.origin.file == subject.origin.file {
        let why =
            format!("{} is described twice; the first is in line {}", subject.title(), first.origin.line);
        out.add(&DUPLICATE_OBJECT, "/metadata/name", why);
    }
}

fn labels(labels: Option<&Value>, path: &str, out: &mut Out) {
    let labels = labels.and_then(Value::as_object).into_iter().flatten();
    for (key, value) in labels.filter(|(key, _)| !is_template(key)) {
        let (prefix, name) =
            key.rsplit_once('/').map_or((None, key.as_str()), |(prefix, name)| (Some(prefix), name));
        let bad_prefix = prefix.is_some_and(|prefix| misshapen(prefix, &Shape::Subdomain).is_some());
        if bad_prefix || name.is_empty() || !is_label(name) {
            out.add(&INVALID_LABEL, below(path, key), format!("{key:?} cannot be the key of a label"));
        }
        let Some(text) = value.as_str().filter(|text| !text.is_empty() && !is_template(text)) else {
            continue;
        };
        if !is_label(text) {
            out.add(&INVALID_LABEL, below(path, key), format!("{text:?} cannot be the value of a label"));
        }
    }
}

fn is_label(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric();
    text.len() <= 63
        && text.starts_with(word)
        && text.ends_with(word)
        && text.chars().all(|c| word(c) || matches!(c, '-' | '_' | '.'))
}
