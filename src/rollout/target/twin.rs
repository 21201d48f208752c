//! The object of a candidate: its target's, with labels of its own.

use serde_json::{Map, Value, json};

use super::{Beside, ROLLOUT_LABEL, candidate_name, entry, invalid, mounts, selects};
use crate::error::Result;

/// Where a kind has what a candidate of it has of its own, as JSON pointers.
pub(super) struct Places<'a> {
    /// Of the pods' template.
    pub(super) template: &'a str,
    /// Of their selector: one as workloads have it, or bare labels.
    pub(super) selector: &'a str,
    /// Of their number.
    pub(super) replicas: &'a str,
}

/// Writes a value at a place, and the fields on the way where they are not there.
pub(super) fn put(object: &mut Value, pointer: &str, value: Value) {
    let mut names = pointer.split('/').skip(1).peekable();
    let mut at = object;
    while let Some(name) = names.next() {
        if !at.is_object() {
            *at = json!({});
        }
        let Some(fields) = at.as_object_mut() else { return };
        if names.peek().is_none() {
            fields.insert(name.to_owned(), value);
            return;
        }
        at = fields.entry(name.to_owned()).or_insert(Value::Null);
    }
}

/// A selector as workloads have it, whatever form it has.
pub(super) fn selector(object: &Value, pointer: &str) -> Value {
    let stated = object.pointer(pointer).cloned().unwrap_or_default();
    if is_bare(&stated) { json!({ "matchLabels": stated }) } else { stated }
}

fn is_bare(selector: &Value) -> bool {
    let mut fields = selector.as_object().into_iter().flatten();
    selector.as_object().is_some_and(|fields| !fields.is_empty())
        && fields.all(|(_, value)| value.is_string())
}

/// The keys that a selector names.
fn keys(selector: &Value) -> Vec<&str> {
    let named = selector["matchLabels"].as_object().into_iter().flatten().map(|(key, _)| key.as_str());
    let said = selector["matchExpressions"].as_array().into_iter().flatten();
    named.chain(said.filter_map(|one| one["key"].as_str())).collect()
}

/// The twin of an object beside it.
///
/// # Errors
/// `RolloutInvalid` where its pods could not be told from the target's, or it has no pods at these places.
pub(super) fn twin(object: &Value, places: &Places<'_>, beside: &Beside<'_>) -> Result<Value> {
    let mut twin = object.clone();
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let selector = selector(object, places.selector);
    let own = |labels: &mut Map<String, Value>| {
        for key in keys(&selector) {
            if let Some(value) = labels.get(key).and_then(Value::as_str) {
                let own = candidate_name(value);
                labels.insert(key.to_owned(), own.into());
            }
        }
    };
    let Some(fields) = twin.as_object_mut() else { return Err(invalid("it is no object")) };
    let metadata = entry(fields, "metadata");
    metadata.insert("name".into(), candidate_name(name).into());
    own(entry(metadata, "labels"));
    let Some(template) = twin.pointer_mut(places.template).and_then(Value::as_object_mut) else {
        return Err(invalid(format!("{name} has no template of pods at {}", dotted(places.template))));
    };
    let labels = entry(entry(template, "metadata"), "labels");
    own(labels);
    if selects(&selector, labels) {
        let why = format!(
            "the pods of a candidate cannot be told from those of {name}: its selector {selector} selects both"
        );
        let field = dotted(places.selector);
        return Err(invalid(why).hint(format!("name a label in {field}.matchLabels")));
    }
    labels.insert(ROLLOUT_LABEL.into(), beside.policy.into());
    let own_labels: Map<String, Value> = selector["matchLabels"]
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(key, _)| Some((key.clone(), labels.get(key)?.clone())))
        .chain([(ROLLOUT_LABEL.to_owned(), beside.policy.into())])
        .collect();
    if let Some(template) = twin.pointer_mut(places.template) {
        mounts::rename(template, |mount| beside.copies.contains(mount).then(|| candidate_name(&mount.name)));
    }
    let is_bare = object.pointer(places.selector).is_some_and(is_bare);
    let own_selector = if is_bare { Value::Object(own_labels) } else { json!({ "matchLabels": own_labels }) };
    put(&mut twin, places.selector, own_selector);
    put(&mut twin, places.replicas, beside.pods.into());
    beside.claim(&mut twin);
    Ok(twin)
}

/// `/spec/template` as people write it.
pub(super) fn dotted(pointer: &str) -> String {
    pointer.trim_start_matches('/').replace('/', ".")
}
