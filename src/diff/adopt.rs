//! Adoption: the fields that another tool applied become ours.
//!
//! An apply alone makes us an owner beside the tool that was here before, and what Git drops later would stay for ever,
//! held by a tool that is gone. So its entries of managedFields are folded into ours; the next apply then takes away
//! what Git does not state. Fields that somebody else decides stay with the old entry: an apply without them would set
//! them back to their default.

use serde_json::{Map, Value};

use super::fields::{Step, name_of};

/// Fields of an object that are left alone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spared {
    /// By their path.
    pub paths: Vec<Vec<Step>>,
    /// By who owns them.
    pub managers: Vec<String>,
}

/// What adoption makes of managedFields.
#[derive(Clone, Debug, PartialEq)]
pub struct Adoption {
    /// The new entries.
    pub managed_fields: Vec<Value>,
    /// Whether we own more than we state, which the next apply takes away.
    pub sheds: bool,
}

/// The tool behind a field manager, where objects are taken over from it. Managers of edits by hand are not among
/// them: what a person added stays a person's.
pub fn former(manager: &str, operation: &str) -> Option<&'static str> {
    Some(match (manager, operation) {
        ("argocd-controller" | "argocd-application-controller", _) => "Argo CD",
        ("kustomize-controller" | "helm-controller" | "flux", _) => "Flux",
        ("helm", _) => "Helm",
        ("kubectl-client-side-apply", "Update") | ("kubectl", "Apply") => "kubectl",
        // What the server calls whoever wrote an object that has no managedFields.
        (RESET, _) => "an unknown tool",
        _ if manager.starts_with("helm-") || manager.starts_with("terraform-provider-helm") => "Helm",
        _ => return None,
    })
}

/// The manager that an apply leaves beside itself where nobody's fields were known.
pub const RESET: &str = "before-first-apply";

/// Folds the entries of former tools into the one that a server-side apply of `manager` left. `None` where there is
/// nothing to fold.
pub fn adopt(
    entries: &[Value],
    manager: &str,
    spared: &Spared,
    takes: impl Fn(&str) -> bool,
) -> Option<Adoption> {
    let text = |entry: &Value, field: &str| entry[field].as_str().unwrap_or_default().to_owned();
    let is_whole = |entry: &Value| text(entry, "subresource").is_empty();
    let own = (entries.iter())
        .find(|entry| entry["manager"] == manager && entry["operation"] == "Apply" && is_whole(entry))?;
    let mut ours = own["fieldsV1"].clone();
    let mut left = Vec::new();
    let mut taken = false;
    for entry in entries.iter().filter(|entry| *entry != own && entry["manager"] != RESET) {
        let (name, operation) = (text(entry, "manager"), text(entry, "operation"));
        let is_former = is_whole(entry)
            && former(&name, &operation).is_some()
            && takes(&name)
            && !spared.managers.contains(&name);
        if !is_former {
            left.push(entry.clone());
            continue;
        }
        let mut takes = entry["fieldsV1"].clone();
        let mut keeps = Value::Object(Map::new());
        for path in OTHERS {
            let path: Vec<Step> = path.iter().map(|name| Step::Field((*name).to_owned())).collect();
            split_off(&mut takes, &mut keeps, &path);
        }
        for path in &spared.paths {
            split_off(&mut takes, &mut keeps, path);
        }
        if entry["apiVersion"] != own["apiVersion"] {
            // Of another version only metadata has the same names.
            let metadata = takes.as_object_mut().and_then(|fields| fields.remove("f:metadata"));
            unite(&mut keeps, &std::mem::replace(&mut takes, Value::Object(Map::new())));
            if let (Some(metadata), Some(fields)) = (metadata, takes.as_object_mut()) {
                fields.insert("f:metadata".into(), metadata);
            }
        }
        taken |= !is_empty(&takes);
        unite(&mut ours, &takes);
        if !is_empty(&keeps) {
            let mut rest = entry.clone();
            rest["fieldsV1"] = keeps;
            left.push(rest);
        }
    }
    for entry in entries.iter().filter(|entry| entry["manager"] == RESET) {
        // It stands for everybody at once, controllers too: what we do not own must not go with it.
        let mut rest = entry.clone();
        if is_whole(entry) && takes(RESET) {
            subtract(&mut rest["fieldsV1"], &ours);
            taken |= rest != *entry;
        }
        if !is_empty(&rest["fieldsV1"]) {
            left.push(rest);
        }
    }
    let sheds = ours != own["fieldsV1"];
    let mut own = own.clone();
    own["fieldsV1"] = ours;
    left.insert(0, own);
    taken.then_some(Adoption { managed_fields: left, sheds })
}

/// Our entry without what the body does not state, but for labels and annotations, which can always go; `None` where it
/// is no more than that. What is let go is nobody's then.
pub fn relinquish(entries: &[Value], manager: &str, body: &Value) -> Option<Vec<Value>> {
    let mut all = entries.to_vec();
    let own = all.iter_mut().find(|entry| {
        entry["manager"] == manager
            && entry["operation"] == "Apply"
            && entry["subresource"].as_str().unwrap_or_default().is_empty()
    })?;
    let mut fields = stated(&own["fieldsV1"], body);
    if let (Some(fields), Some(metadata)) = (fields.as_object_mut(), own["fieldsV1"].get("f:metadata")) {
        fields.insert("f:metadata".into(), metadata.clone());
    }
    if fields == own["fieldsV1"] {
        return None;
    }
    own["fieldsV1"] = fields;
    Some(all)
}

/// The fields that an object states.
fn stated(fields: &Value, object: &Value) -> Value {
    let Some(fields) = fields.as_object() else { return fields.clone() };
    let mut found = Map::new();
    for (name, below) in fields {
        let here = if let Some(field) = name.strip_prefix("f:") {
            object.get(field)
        } else if let Some(key) = name.strip_prefix("k:") {
            let key: Map<String, Value> = serde_json::from_str(key).unwrap_or_default();
            // A part of the key may be a default.
            let is_it = |item: &&Value| {
                key.iter().all(|(field, value)| item.get(field).is_none_or(|stated| stated == value))
            };
            object.as_array().and_then(|items| items.iter().find(is_it))
        } else {
            Some(object)
        };
        if let Some(here) = here {
            let below = if is_empty(below) { below.clone() } else { stated(below, here) };
            found.insert(name.clone(), below);
        }
    }
    Value::Object(found)
}

/// What controllers write into objects that others apply.
const OTHERS: [&[&str]; 3] = [&["status"], &["metadata", "finalizers"], &["metadata", "ownerReferences"]];

fn is_empty(fields: &Value) -> bool {
    fields.as_object().is_none_or(Map::is_empty)
}

/// Moves what lies at a path, or holds it as a whole, from one tree of fields to another.
fn split_off(from: &mut Value, to: &mut Value, path: &[Step]) {
    let Some((first, rest)) = path.split_first() else { return };
    let Some(fields) = from.as_object_mut() else { return };
    let Some(name) = name_of(fields, first) else { return };
    let Some(below) = fields.get_mut(&name) else { return };
    let mut moved = Value::Object(Map::new());
    if rest.is_empty() || is_empty(below) {
        moved = fields.remove(&name).unwrap_or_default();
    } else {
        split_off(below, &mut moved, rest);
        if is_empty(&moved) {
            return;
        }
        if is_empty(below) {
            fields.remove(&name);
        }
    }
    let mut branch = Map::new();
    branch.insert(name, moved);
    unite(to, &Value::Object(branch));
}

/// Takes the fields of one tree out of another.
fn subtract(from: &mut Value, fields: &Value) {
    let (Some(from), Some(fields)) = (from.as_object_mut(), fields.as_object()) else { return };
    for (name, below) in fields {
        let Some(here) = from.get_mut(name) else { continue };
        if !is_empty(below) {
            if is_empty(here) {
                // Of what it owns as a whole we own a part.
                continue;
            }
            subtract(here, below);
        }
        if is_empty(below) || is_empty(here) {
            from.remove(name);
        }
    }
}

/// Adds the fields of one tree to another. A leaf that gets fields below it stays a member, which `.` says.
fn unite(to: &mut Value, from: &Value) {
    let (Some(to), Some(from)) = (to.as_object_mut(), from.as_object()) else { return };
    for (name, below) in from {
        match to.get_mut(name) {
            None => {
                to.insert(name.clone(), below.clone());
            }
            Some(here) => {
                let both = [&*here, below];
                let leaf = both.iter().any(|fields| is_empty(fields));
                let leaves = both.iter().all(|fields| is_empty(fields));
                if name != "." {
                    unite(here, below);
                }
                if let Some(fields) = here.as_object_mut().filter(|_| leaf && !leaves) {
                    fields.insert(".".into(), Value::Object(Map::new()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(manager: &str, operation: &str, version: &str, fields: impl Into<Value>) -> Value {
        let fields: Value = fields.into();
        json!({"manager": manager, "operation": operation, "apiVersion": version, "time": "t",
            "fieldsType": "FieldsV1", "fieldsV1": fields})
    }

    fn check(others: &[Value], spared: &Spared, expected: Option<&[(&str, Value)]>) {
        let own = entry("driftless", "Apply", "v1", json!({"f:data": {"f:a": {}}}));
        let entries: Vec<Value> = std::iter::once(own).chain(others.iter().cloned()).collect();
        let found = adopt(&entries, "driftless", spared, |_| true);
        let found = found.map(|found| {
            let all = found.managed_fields.into_iter();
            all.map(|entry| (entry["manager"].as_str().unwrap().to_owned(), entry["fieldsV1"].clone()))
                .collect::<Vec<_>>()
        });
        let expected = expected.map(|all| {
            all.iter().map(|(manager, fields)| ((*manager).to_owned(), fields.clone())).collect::<Vec<_>>()
        });
        assert_eq!(found, expected);
    }

    fn path(names: &[&str]) -> Vec<Step> {
        names.iter().map(|name| Step::Field((*name).to_owned())).collect()
    }

    #[test]
    fn entries_of_tools_are_folded_and_those_of_people_are_not() {
        let edit = entry("kubectl-edit", "Update", "v1", json!({"f:data": {"f:e": {}}}));
        let argo = entry(
            "argocd-controller",
            "Update",
            "v1",
            json!({"f:metadata": {"f:annotations": {".": {}, "f:t": {}}}, "f:data": {".": {}, "f:a": {}, "f:b": {}}}),
        );
        let whole = json!({"f:metadata": {"f:annotations": {".": {}, "f:t": {}}},
            "f:data": {".": {}, "f:a": {}, "f:b": {}}});
        check(
            &[edit.clone(), argo],
            &Spared::default(),
            Some(&[("driftless", whole), ("kubectl-edit", json!({"f:data": {"f:e": {}}}))]),
        );
        check(&[edit], &Spared::default(), None);
        let mut scale = entry("helm", "Update", "v1", json!({"f:spec": {"f:replicas": {}}}));
        scale["subresource"] = json!("scale");
        check(&[scale], &Spared::default(), None);
    }

    #[test]
    fn what_others_decide_stays_where_it_is() {
        let fields = json!({"f:metadata": {"f:finalizers": {"v:\"x\"": {}}, "f:labels": {"f:l": {}}},
            "f:spec": {"f:replicas": {}, "f:c": {"k:{\"name\":\"n\"}": {".": {}, "f:i": {}}, "k:{\"name\":\"m\"}": {"f:i": {}}}, "f:atom": {}},
            "f:status": {"f:s": {}}});
        let mut item = path(&["spec", "c"]);
        item.push(Step::Item(7, json!({"name": "n", "i": 1})));
        item.push(Step::Field("i".into()));
        let spared = Spared {
            paths: vec![
                path(&["spec", "replicas"]),
                item,
                path(&["spec", "atom", "below"]),
                path(&["nothing"]),
            ],
            managers: vec!["flux".into()],
        };
        let helm = entry("helm", "Update", "v1", fields);
        let flux = entry("flux", "Apply", "v1", json!({"f:data": {"f:x": {}}}));
        check(
            &[helm.clone(), flux],
            &spared,
            Some(&[
                (
                    "driftless",
                    json!({"f:data": {"f:a": {}}, "f:metadata": {"f:labels": {"f:l": {}}},
                        "f:spec": {"f:c": {"k:{\"name\":\"n\"}": {".": {}}, "k:{\"name\":\"m\"}": {"f:i": {}}}}}),
                ),
                (
                    "helm",
                    json!({"f:metadata": {"f:finalizers": {"v:\"x\"": {}}}, "f:status": {"f:s": {}},
                        "f:spec": {"f:replicas": {}, "f:atom": {}, "f:c": {"k:{\"name\":\"n\"}": {"f:i": {}}}}}),
                ),
                ("flux", json!({"f:data": {"f:x": {}}})),
            ]),
        );
        let old = entry(
            "helm",
            "Update",
            "v1beta1",
            json!({"f:metadata": {"f:labels": {"f:l": {}}}, "f:data": {"f:b": {}}}),
        );
        let split = [
            ("driftless", json!({"f:data": {"f:a": {}}, "f:metadata": {"f:labels": {"f:l": {}}}})),
            ("helm", json!({"f:data": {"f:b": {}}})),
        ];
        check(&[old], &Spared::default(), Some(&split));
    }

    #[test]
    fn an_owner_that_stands_for_all_keeps_what_is_not_ours() {
        let reset = |fields| entry(RESET, "Update", "v1", fields);
        let rest =
            json!({"f:metadata": {"f:annotations": {"f:revision": {}}}, "f:data": {".": {}, "f:b": {}}});
        let mut all = rest.clone();
        all["f:data"]["f:a"] = json!({});
        let own = ("driftless", json!({"f:data": {"f:a": {}}}));
        check(&[reset(all)], &Spared::default(), Some(&[own.clone(), (RESET, rest.clone())]));
        check(&[reset(rest)], &Spared::default(), None);
        check(&[reset(json!({"f:data": {"f:a": {}}}))], &Spared::default(), Some(&[own]));
    }

    #[test]
    fn what_cannot_go_is_let_go() {
        let own = |fields| vec![entry("driftless", "Apply", "v1", fields)];
        let body = json!({"spec": {"a": 1, "ports": [{"port": 80}]}});
        let kept = json!({"f:metadata": {"f:labels": {"f:l": {}}},
            "f:spec": {"f:a": {}, "f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}}}}});
        let mut more = kept.clone();
        more["f:spec"]["f:class"] = json!({});
        more["f:spec"]["f:ports"]["k:{\"port\":81,\"protocol\":\"TCP\"}"] = json!({".": {}});
        assert_eq!(relinquish(&own(more), "driftless", &body), Some(own(kept.clone())));
        assert_eq!(relinquish(&own(kept), "driftless", &body), None);
        assert_eq!(relinquish(&[], "driftless", &body), None);
    }

    #[test]
    fn a_leaf_stays_a_member_when_it_gets_fields() {
        let mut leaf = json!({"f:a": {}});
        unite(&mut leaf, &json!({"f:a": {"f:b": {}}}));
        assert_eq!(leaf, json!({"f:a": {".": {}, "f:b": {}}}));
        let mut branch = json!({"f:a": {"f:b": {}}});
        unite(&mut branch, &json!({"f:a": {}}));
        assert_eq!(branch, leaf);
    }
}
