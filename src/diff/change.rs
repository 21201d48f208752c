//! The list of differences between what Git states and what is live.

use serde_json::Value;

use super::fields::{self, Fields, Step, pointer};
use crate::model::quantity;

/// One difference.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// RFC 6901 pointer into the object.
    pub pointer: String,
    /// What Git states; `None` where Git no longer states a field that we own.
    pub want: Option<Value>,
    /// What is live; `None` where nothing is.
    pub have: Option<Value>,
    /// The manager that wrote the live value, where known.
    pub manager: Option<String>,
    /// When it wrote (RFC 3339).
    pub since: Option<String>,
    /// Whether want and have were replaced because they are secret.
    pub masked: bool,
}

/// Keys of well-known lists, for objects without managedFields.
const KEYS: &[(&str, &[&str])] = &[
    ("containers", &["name"]),
    ("initContainers", &["name"]),
    ("ephemeralContainers", &["name"]),
    ("env", &["name"]),
    ("volumes", &["name"]),
    ("volumeMounts", &["mountPath"]),
    ("volumeDevices", &["devicePath"]),
    ("imagePullSecrets", &["name"]),
    ("ports", &["containerPort", "protocol"]),
    ("conditions", &["type"]),
    ("hostAliases", &["ip"]),
];

/// Compares what Git states with the live object.
///
/// `manager` is our field manager. With `trust_ownership` a value that differs while our entry still owns
/// its field is the server's spelling of ours (quantities, defaults), not a difference: right whenever
/// what Git states is what was applied last.
pub fn compare(desired: &Value, live: &Value, manager: &str, trust_ownership: bool) -> Vec<Change> {
    let entry = fields::ours(live, manager);
    let mut comparison = Comparison {
        live,
        manager,
        trusted: entry.filter(|_| trust_ownership),
        path: Vec::new(),
        changes: Vec::new(),
    };
    for (name, want) in desired.as_object().into_iter().flatten() {
        match name.as_str() {
            "apiVersion" | "kind" | "status" => {}
            "metadata" => {
                for part in ["labels", "annotations", "finalizers", "ownerReferences"] {
                    let have = live.get("metadata").and_then(|metadata| metadata.get(part));
                    if let Some(want) = want.get(part) {
                        comparison.path = vec![Step::Field("metadata".into()), Step::Field(part.into())];
                        comparison.value(want, have);
                    }
                }
            }
            _ => {
                comparison.path = vec![Step::Field(name.clone())];
                comparison.value(want, live.get(name));
            }
        }
    }
    if let Some(entry) = entry {
        comparison.path.clear();
        comparison.no_longer_stated(entry, desired, live);
    }
    comparison.changes
}

/// Compares two versions of what Git states, in both directions: `have` was before, `want` is after.
pub fn between(want: &Value, have: &Value) -> Vec<Change> {
    let mut changes = Vec::new();
    both_ways(want, have, &mut Vec::new(), &mut changes);
    changes
}

fn both_ways(want: &Value, have: &Value, path: &mut Vec<Step>, changes: &mut Vec<Change>) {
    let change = |path: &[Step], want: Option<&Value>, have: Option<&Value>| Change {
        pointer: pointer(path),
        want: want.cloned(),
        have: have.cloned(),
        manager: None,
        since: None,
        masked: false,
    };
    match (want, have) {
        (Value::Object(after), Value::Object(before)) => {
            let names: std::collections::BTreeSet<&String> = after.keys().chain(before.keys()).collect();
            for name in names {
                path.push(Step::Field(name.clone()));
                match (after.get(name), before.get(name)) {
                    (Some(after), Some(before)) => both_ways(after, before, path, changes),
                    (after, before) => changes.push(change(path, after, before)),
                }
                path.pop();
            }
        }
        (Value::Array(after), Value::Array(before)) if after.len() == before.len() => {
            for (index, (after, before)) in after.iter().zip(before).enumerate() {
                path.push(Step::Item(index, Value::Null));
                both_ways(after, before, path, changes);
                path.pop();
            }
        }
        _ if want == have => {}
        _ => changes.push(change(path, Some(want), Some(have))),
    }
}

struct Comparison<'a> {
    live: &'a Value,
    manager: &'a str,
    trusted: Option<Fields<'a>>,
    path: Vec<Step>,
    changes: Vec<Change>,
}

impl Comparison<'_> {
    fn value(&mut self, want: &Value, have: Option<&Value>) {
        match (want, have) {
            // Nothing is what null and empty collections ask for.
            (Value::Null, None) => {}
            (Value::Object(map), None) if map.values().all(is_nothing) => {}
            (Value::Array(items), None) if items.is_empty() => {}
            (Value::Object(want), Some(Value::Object(have))) => {
                for (name, want) in want {
                    self.path.push(Step::Field(name.clone()));
                    self.value(want, have.get(name));
                    self.path.pop();
                }
            }
            (Value::Array(want), Some(Value::Array(have))) => self.list(want, have),
            (want, have) => {
                if have.is_none_or(|have| !same_scalar(want, have)) {
                    self.report(Some(want), have);
                }
            }
        }
    }

    fn list(&mut self, want: &[Value], have: &[Value]) {
        if let Some(keys) = self.keys(want) {
            for item in want {
                let found = have.iter().position(|live| {
                    keys.iter().all(|key| match (item.get(key), live.get(key)) {
                        (Some(want), Some(have)) => want == have,
                        // protocol and the like have defaults that Git leaves out.
                        (None, _) => true,
                        (Some(_), None) => false,
                    })
                });
                let index = found.unwrap_or(have.len());
                let live = found.map(|index| &have[index]);
                self.path.push(Step::Item(index, live.unwrap_or(item).clone()));
                self.value(item, live);
                self.path.pop();
            }
            return;
        }
        let covered =
            want.len() == have.len() && want.iter().zip(have).all(|(want, have)| covers(want, have));
        if !covered {
            let (want, have) = (Value::Array(want.to_vec()), Value::Array(have.to_vec()));
            self.report(Some(&want), Some(&have));
        }
    }

    fn keys(&self, want: &[Value]) -> Option<Vec<String>> {
        if !want.iter().all(Value::is_object) || want.is_empty() {
            return None;
        }
        fields::list_keys(self.live, &self.path).or_else(|| {
            let Some(Step::Field(name)) = self.path.last() else { return None };
            let (_, keys) = KEYS
                .iter()
                .find(|(list, keys)| list == name && want.iter().all(|item| item.get(keys[0]).is_some()))?;
            Some(keys.iter().map(|key| (*key).to_owned()).collect())
        })
    }

    fn report(&mut self, want: Option<&Value>, have: Option<&Value>) {
        if want.is_some() && have.is_some() && self.trusted.is_some_and(|entry| entry.owns(&self.path)) {
            return;
        }
        let owner = fields::owner(self.live, &self.path, self.manager);
        self.changes.push(Change {
            pointer: pointer(&self.path),
            want: want.cloned(),
            have: have.cloned(),
            manager: owner.as_ref().map(|owner| owner.manager.clone()),
            since: owner.map(|owner| owner.since).filter(|since| !since.is_empty()),
            masked: false,
        });
    }

    /// Fields that our entry still owns and Git no longer states: the next apply removes them.
    fn no_longer_stated(&mut self, entry: Fields<'_>, desired: &Value, live: &Value) {
        let Some(map) = entry.raw().as_object() else { return };
        for (name, below) in map {
            let step = if let Some(field) = name.strip_prefix("f:") {
                live.get(field).map(|have| (Step::Field(field.to_owned()), desired.get(field), have))
            } else if let Some(key) = name.strip_prefix("k:") {
                let Ok(key) = serde_json::from_str::<Value>(key) else { continue };
                let matches = |item: &Value| {
                    key.as_object().is_some_and(|key| {
                        key.iter().all(|(field, value)| item.get(field).is_none_or(|found| found == value))
                            && key.keys().any(|field| item.get(field).is_some())
                    })
                };
                let position = live.as_array().and_then(|items| items.iter().position(matches));
                position.and_then(|index| {
                    let have = live.get(index)?;
                    let want = desired.as_array().and_then(|items| items.iter().find(|item| matches(item)));
                    Some((Step::Item(index, have.clone()), want, have))
                })
            } else {
                None
            };
            let Some((step, want, have)) = step else { continue };
            self.path.push(step);
            match want {
                None if !is_implied(&self.path) => self.report(None, Some(have)),
                None => {}
                Some(want) => self.no_longer_stated(Fields::of(below), want, have),
            }
            self.path.pop();
        }
    }
}

/// Fields that stand in the entry though no manifest states them.
fn is_implied(path: &[Step]) -> bool {
    matches!(path, [Step::Field(metadata), Step::Field(labels), Step::Field(label)]
        if metadata == "metadata" && labels == "labels" && label == crate::model::TRACKING_LABEL)
        || matches!(path, [Step::Field(metadata), Step::Field(labels)] if metadata == "metadata" && labels == "labels")
        || matches!(path, [Step::Field(metadata)] if metadata == "metadata")
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.values().all(is_nothing),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// Whether live has everything that is wanted; more is the server's defaults.
fn covers(want: &Value, have: &Value) -> bool {
    match (want, have) {
        (Value::Object(want), Value::Object(have)) => want.iter().all(|(name, want)| match have.get(name) {
            Some(have) => covers(want, have),
            None => is_nothing(want),
        }),
        (Value::Array(want), Value::Array(have)) => {
            want.len() == have.len() && want.iter().zip(have).all(|(want, have)| covers(want, have))
        }
        _ => same_scalar(want, have),
    }
}

/// Equal as the API server sees it: numbers by value, quantities by amount.
fn same_scalar(want: &Value, have: &Value) -> bool {
    if want == have {
        return true;
    }
    match (want, have) {
        (Value::Number(_), Value::Number(_)) | (Value::String(_), Value::String(_)) => {}
        // cpu: 1 is stored as "1"; a port "80" is not the port 80.
        (Value::Number(_), Value::String(_)) => {}
        _ => return false,
    }
    match (quantity(want), quantity(have)) {
        (Some(want), Some(have)) => (want - have).abs() <= f64::EPSILON * want.abs(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "cases are written in place")]
    fn check(desired: Value, live: Value, expected: &[(&str, Value, Value, Option<&str>)]) {
        let found: Vec<_> = compare(&desired, &live, "driftless", true)
            .into_iter()
            .map(|change| {
                (
                    change.pointer,
                    change.want.unwrap_or_default(),
                    change.have.unwrap_or_default(),
                    change.manager,
                )
            })
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(pointer, want, have, manager)| {
                ((*pointer).to_owned(), want.clone(), have.clone(), manager.map(str::to_owned))
            })
            .collect();
        assert_eq!(found, expected);
    }

    #[expect(clippy::needless_pass_by_value, reason = "cases are written in place")]
    fn entry(manager: &str, operation: &str, fields: Value) -> Value {
        json!({"manager": manager, "operation": operation, "time": "2026-01-01T00:00:00Z", "fieldsV1": fields})
    }

    #[test]
    fn an_edit_names_its_author() {
        let live = json!({"metadata": {"managedFields": [
            entry("driftless", "Apply", json!({"f:spec": {"f:paused": {}}})),
            entry("kubectl-edit", "Update", json!({"f:spec": {"f:replicas": {}}}))]},
            "spec": {"replicas": 5, "paused": false, "extra": 1}});
        check(
            json!({"spec": {"replicas": 2, "paused": false}}),
            live,
            &[("/spec/replicas", json!(2), json!(5), Some("kubectl-edit"))],
        );
    }

    #[test]
    fn the_servers_spelling_is_no_difference() {
        let live = json!({"metadata": {"managedFields": [entry("driftless", "Apply", json!({"f:spec": {"f:size": {}}}))]},
            "spec": {"size": "1"}});
        check(json!({"spec": {"size": "whatever"}}), live, &[]);
        check(
            json!({"spec": {"cpu": 1, "memory": "1024Mi", "empty": {}, "none": null}}),
            json!({"spec": {"cpu": "1", "memory": "1Gi"}}),
            &[],
        );
        check(
            json!({"spec": {"port": "80"}}),
            json!({"spec": {"port": 80}}),
            &[("/spec/port", json!("80"), json!(80), None)],
        );
    }

    #[test]
    fn lists_are_matched_by_key() {
        let live = json!({"spec": {"containers": [{"name": "sidecar", "image": "s"}, {"name": "a", "image": "old", "ports": [
            {"containerPort": 80, "protocol": "TCP"}]}]}});
        check(
            json!({"spec": {"containers": [{"name": "a", "image": "new", "ports": [{"containerPort": 80}]}]}}),
            live,
            &[("/spec/containers/1/image", json!("new"), json!("old"), None)],
        );
        check(
            json!({"args": ["a"]}),
            json!({"args": ["a", "b"]}),
            &[("/args", json!(["a"]), json!(["a", "b"]), None)],
        );
    }

    #[test]
    fn what_git_no_longer_states_is_removed() {
        let live = json!({"metadata": {"name": "x", "managedFields": [entry("driftless", "Apply", json!(
            {"f:data": {"f:a": {}, "f:b": {}}, "f:metadata": {"f:labels": {"f:driftless.dev/application": {}}}}))],
            "labels": {"driftless.dev/application": "n.a"}}, "data": {"a": "1", "b": "2"}});
        check(json!({"data": {"a": "1"}}), live, &[("/data/b", Value::Null, json!("2"), None)]);
    }
}
