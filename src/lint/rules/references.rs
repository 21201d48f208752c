//! Objects that name others.

use std::collections::BTreeMap;

use serde_json::Value;

use super::containers::is_template;
use crate::lint::pods::pods;
use crate::lint::rule::{Out, rules};
use crate::lint::set::{Set, Subject, same_namespace};

rules! { "References":
    MISSING_REFERENCE "missing-reference" Info Likely
        "an object that is named and not in the tree, which has others of its kind"
        "A pod that names a ConfigMap, Secret or claim that is not there does not start. It may exist in the cluster; if it should be in Git, the name is misspelt or the file is missing."
    MISSING_KEY "missing-key" Error Certain
        "a key that the ConfigMap or Secret of the same set does not have"
        "The container does not start (CreateContainerConfigError). Correct the key, add it, or mark the reference optional."
    ROLE_MISSING "role-missing" Warning Likely
        "a binding of a role that is neither in the tree nor built in"
        "The binding grants nothing until the role exists, and roleRef cannot be changed afterwards."
}

/// Roles that every cluster has, beside those of `system:`.
const BUILT_IN: &[&str] =
    &["cluster-admin", "admin", "edit", "view", "extension-apiserver-authentication-reader"];

pub(super) fn check(subject: &Subject, set: &Set<'_>, out: &mut Out) {
    for pod in pods(subject) {
        let mut names = BTreeMap::new();
        of_pod(pod.spec, &pod.at, &mut names);
        for container in pod.containers() {
            of_container(container.value, &container.pointer, subject, set, &mut names, out);
        }
        let volumes = pod.spec.get("volumes").and_then(Value::as_array).into_iter().flatten().enumerate();
        for (at, volume) in volumes {
            of_volume(volume, &format!("{}/volumes/{at}", pod.at), subject, set, &mut names, out);
        }
        for (pointer, (kind, name)) in names {
            missing(subject, set, "", kind, name, &pointer, out);
        }
    }
    if subject.is("networking.k8s.io", "Ingress") {
        ingress(subject, set, out);
    }
    if subject.gvk.group == "rbac.authorization.k8s.io" && subject.gvk.kind.ends_with("Binding") {
        role(subject, set, out);
    }
}

type Named<'a> = BTreeMap<String, (&'static str, &'a str)>;

fn text<'a>(value: &'a Value, path: &str) -> Option<&'a str> {
    value.pointer(path).and_then(Value::as_str).filter(|text| !text.is_empty() && !is_template(text))
}

fn optional(value: &Value) -> bool {
    value.get("optional").and_then(Value::as_bool) == Some(true)
}

fn of_pod<'a>(spec: &'a Value, at: &str, names: &mut Named<'a>) {
    if let Some(name) = text(spec, "/serviceAccountName").filter(|name| *name != "default") {
        names.insert(format!("{at}/serviceAccountName"), ("ServiceAccount", name));
    }
}

fn of_container<'a>(
    container: &'a Value,
    at: &str,
    subject: &Subject,
    set: &Set<'_>,
    names: &mut Named<'a>,
    out: &mut Out,
) {
    let list = |field: &str| container.get(field).and_then(Value::as_array).into_iter().flatten().enumerate();
    for (number, env) in list("env") {
        for (field, kind) in [("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")] {
            let Some(reference) = env.pointer(&format!("/valueFrom/{field}")) else { continue };
            if optional(reference) {
                continue;
            }
            let Some(name) = text(reference, "/name") else { continue };
            let path = format!("{at}/env/{number}/valueFrom/{field}");
            if let Some(key) = text(reference, "/key") {
                has_key(subject, set, kind, name, key, &format!("{path}/key"), out);
            }
            names.insert(format!("{path}/name"), (kind, name));
        }
    }
    for (number, from) in list("envFrom") {
        for (field, kind) in [("configMapRef", "ConfigMap"), ("secretRef", "Secret")] {
            let Some(reference) = from.get(field).filter(|reference| !optional(reference)) else { continue };
            if let Some(name) = text(reference, "/name") {
                names.insert(format!("{at}/envFrom/{number}/{field}/name"), (kind, name));
            }
        }
    }
}

fn of_volume<'a>(
    volume: &'a Value,
    at: &str,
    subject: &Subject,
    set: &Set<'_>,
    names: &mut Named<'a>,
    out: &mut Out,
) {
    let places = [
        ("/configMap", "ConfigMap", "name"),
        ("/secret", "Secret", "secretName"),
        ("/persistentVolumeClaim", "PersistentVolumeClaim", "claimName"),
    ];
    for (path, kind, field) in places {
        let Some(source) = volume.pointer(path).filter(|source| !optional(source)) else { continue };
        let Some(name) = text(source, &format!("/{field}")) else { continue };
        names.insert(format!("{at}{path}/{field}"), (kind, name));
        for (number, item) in source.get("items").and_then(Value::as_array).into_iter().flatten().enumerate()
        {
            if let Some(key) = text(item, "/key") {
                has_key(subject, set, kind, name, key, &format!("{at}{path}/items/{number}/key"), out);
            }
        }
    }
}

fn has_key(subject: &Subject, set: &Set<'_>, kind: &str, name: &str, key: &str, at: &str, out: &mut Out) {
    // Files beside each other may hold several of one name, for one or the other.
    let mut found = (set.all("", kind))
        .filter(|one| one.name() == name && same_namespace(&one.namespace, &subject.namespace))
        .peekable();
    let lacks = |one: &Subject| {
        let fields = ["/data", "/stringData", "/binaryData"];
        let maps: Vec<_> =
            fields.iter().filter_map(|field| one.at(field).and_then(Value::as_object)).collect();
        // One that is filled in by a controller has no data in Git.
        maps.iter().any(|map| !map.is_empty()) && maps.iter().all(|map| !map.contains_key(key))
    };
    if found.peek().is_some() && found.all(lacks) {
        out.add(&MISSING_KEY, at, format!("the {kind} {name} has no key {key}"));
    }
}

/// Tells of an object that is not in the tree though others of its kind are.
pub(super) fn missing(
    subject: &Subject,
    set: &Set<'_>,
    group: &str,
    kind: &str,
    name: &str,
    at: &str,
    out: &mut Out,
) {
    // A claim of a StatefulSet's template, or one that the kind makes for itself, has another name.
    if set.lacks(group, kind, &subject.namespace, name) {
        out.add(
            &MISSING_REFERENCE,
            at,
            format!("the {kind} {name} is not in the tree, where others of its kind are"),
        );
    }
}

fn ingress(subject: &Subject, set: &Set<'_>, out: &mut Out) {
    let mut check = |backend: Option<&Value>, at: String| {
        if let Some(name) = backend.and_then(|backend| text(backend, "/service/name")) {
            missing(subject, set, "", "Service", name, &format!("{at}/service/name"), out);
        }
    };
    check(subject.at("/spec/defaultBackend"), "/spec/defaultBackend".to_owned());
    for (rule, value) in subject.list("/spec/rules").iter().enumerate() {
        let paths = value.pointer("/http/paths").and_then(Value::as_array).into_iter().flatten().enumerate();
        for (path, value) in paths {
            check(value.get("backend"), format!("/spec/rules/{rule}/http/paths/{path}/backend"));
        }
    }
}

fn role(subject: &Subject, set: &Set<'_>, out: &mut Out) {
    let (kind, name) = (subject.text("/roleRef/kind"), subject.text("/roleRef/name"));
    let built_in = BUILT_IN.contains(&name) || name.starts_with("system:");
    // Whoever keeps no role in Git binds those of others.
    let others = set.all("rbac.authorization.k8s.io", kind).next().is_some();
    if others
        && !name.is_empty()
        && !built_in
        && set.nowhere("rbac.authorization.k8s.io", kind, &subject.namespace, name)
    {
        out.add(
            &ROLE_MISSING,
            "/roleRef/name",
            format!("the {kind} {name} is not in the tree and not built in"),
        );
    }
}
