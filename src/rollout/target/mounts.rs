//! The ConfigMaps and Secrets that a pod template mounts or reads.

use std::collections::BTreeSet;

use serde_json::Value;

/// A ConfigMap or Secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mount {
    /// `ConfigMap` or `Secret`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
}

const CONFIG: &str = "ConfigMap";
const SECRET: &str = "Secret";

/// All that a template names.
pub fn mounts(template: &Value) -> BTreeSet<Mount> {
    let mut all = BTreeSet::new();
    let mut copy = template.clone();
    visit(&mut copy, &mut |kind, name| {
        if let Some(text) = name.as_str() {
            all.insert(Mount { kind, name: text.to_owned() });
        }
    });
    all
}

/// Names others in a template, where `to` has another name.
pub fn rename(template: &mut Value, to: impl Fn(&Mount) -> Option<String>) {
    visit(template, &mut |kind, name| {
        let Some(text) = name.as_str() else { return };
        if let Some(other) = to(&Mount { kind, name: text.to_owned() }) {
            *name = other.into();
        }
    });
}

/// Every field that holds a name.
fn visit(template: &mut Value, see: &mut dyn FnMut(&'static str, &mut Value)) {
    let Some(spec) = template.get_mut("spec") else { return };
    let mut at = |value: &mut Value, kind, path: &str| {
        if let Some(name) = value.pointer_mut(path) {
            see(kind, name);
        }
    };
    for volume in items(spec, "volumes") {
        at(volume, CONFIG, "/configMap/name");
        at(volume, SECRET, "/secret/secretName");
        if let Some(projected) = volume.get_mut("projected") {
            for source in items(projected, "sources") {
                at(source, CONFIG, "/configMap/name");
                at(source, SECRET, "/secret/name");
            }
        }
    }
    for list in ["initContainers", "containers"] {
        for container in items(spec, list) {
            for from in items(container, "envFrom") {
                at(from, CONFIG, "/configMapRef/name");
                at(from, SECRET, "/secretRef/name");
            }
            for variable in items(container, "env") {
                at(variable, CONFIG, "/valueFrom/configMapKeyRef/name");
                at(variable, SECRET, "/valueFrom/secretKeyRef/name");
            }
        }
    }
}

fn items<'a>(value: &'a mut Value, field: &str) -> impl Iterator<Item = &'a mut Value> {
    value.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_place_is_found_and_renamed() {
        let mut template = json!({"spec": {
            "volumes": [
                {"name": "a", "configMap": {"name": "c1"}}, {"name": "b", "secret": {"secretName": "s1"}},
                {"name": "c", "projected": {"sources": [{"configMap": {"name": "c2"}}, {"secret": {"name": "s2"}}]}},
                {"name": "d", "emptyDir": {}}],
            "initContainers": [{"envFrom": [{"configMapRef": {"name": "c3"}}]}],
            "containers": [{"envFrom": [{"secretRef": {"name": "s3"}}], "env": [
                {"name": "x", "value": "c1"},
                {"name": "y", "valueFrom": {"configMapKeyRef": {"name": "c4", "key": "k"}}},
                {"name": "z", "valueFrom": {"secretKeyRef": {"name": "s4", "key": "k"}}}]}]}});
        let names = |template: &Value| {
            mounts(template).into_iter().map(|mount| mount.name).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(names(&template), "c1 c2 c3 c4 s1 s2 s3 s4");
        rename(&mut template, |mount| (mount.kind == CONFIG).then(|| format!("{}-x", mount.name)));
        assert_eq!(names(&template), "c1-x c2-x c3-x c4-x s1 s2 s3 s4");
        assert_eq!(template["spec"]["containers"][0]["env"][0]["value"], "c1");
    }
}
