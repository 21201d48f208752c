//! Secret values never reach a formatter.

use base64::Engine as _;
use serde_json::Value;

use super::Change;
use crate::model::{Confidential, Gvk};

pub use crate::model::MASK;

/// kubectl keeps a copy of the whole object here.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Whether objects of this kind hold secret values.
pub fn is_secret(gvk: &Gvk) -> bool {
    gvk.is("", "Secret")
}

/// Replaces secret values of an object.
pub fn object(gvk: &Gvk, value: &mut Value) {
    if !is_secret(gvk) {
        return;
    }
    for field in ["data", "stringData"] {
        if let Some(map) = value.get_mut(field).and_then(Value::as_object_mut) {
            map.values_mut().for_each(|value| *value = MASK.into());
        }
    }
    if let Some(copy) = value.pointer_mut("/metadata/annotations").and_then(|map| map.get_mut(LAST_APPLIED)) {
        *copy = MASK.into();
    }
}

/// Replaces the values of changes to a Secret; that something changed stays visible.
pub fn changes(gvk: &Gvk, changes: &mut [Change]) {
    if !is_secret(gvk) {
        return;
    }
    for change in changes {
        let last_applied = "/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration";
        let secret =
            ["/data", "/stringData", last_applied].iter().any(|prefix| change.pointer.starts_with(prefix))
                || change.pointer == "/metadata/annotations";
        if secret {
            change.want = change.want.take().map(|_| MASK.into());
            change.have = change.have.take().map(|_| MASK.into());
            change.masked = true;
        }
    }
}

/// Replaces what was decrypted or came from a Secret, in changes to an object of any kind. In an object that holds
/// such a value, what Git no longer states is hidden too: nobody can say any more what it was.
pub fn confidential(hidden: &Confidential, desired: &Value, changes: &mut [Change]) {
    if hidden.is_empty() {
        return;
    }
    let holds = hidden.touches(desired);
    for change in changes.iter_mut().filter(|change| !change.masked) {
        let touched = |value: &Option<Value>| value.as_ref().is_some_and(|value| hidden.touches(value));
        if touched(&change.want) || touched(&change.have) || (holds && change.want.is_none()) {
            // Both: what is live may be the value of yesterday.
            change.want = change.want.take().map(|_| MASK.into());
            change.have = change.have.take().map(|_| MASK.into());
            change.masked = true;
        }
    }
}

/// Replaces an object's secret values in a text that may echo them.
pub fn scrub(text: &str, gvk: &Gvk, value: &Value) -> String {
    if !is_secret(gvk) {
        return text.to_owned();
    }
    let mut words: Vec<String> = Vec::new();
    for field in ["data", "stringData"] {
        for value in value.get(field).and_then(Value::as_object).into_iter().flat_map(|map| map.values()) {
            let Some(raw) = value.as_str() else {
                words.push(value.to_string());
                continue;
            };
            let engine = base64::engine::general_purpose::STANDARD;
            words.push(engine.encode(raw));
            if let Some(clear) = engine.decode(raw).ok().and_then(|bytes| String::from_utf8(bytes).ok()) {
                words.push(clear);
            }
            words.push(raw.to_owned());
        }
    }
    // As text, and as JSON spells it; the longest first, so that no part of one is left.
    let mut spelled: Vec<String> = words
        .iter()
        .map(|word| Value::from(word.as_str()).to_string().trim_matches('"').to_owned())
        .collect();
    words.append(&mut spelled);
    words.retain(|word| !word.trim().is_empty());
    words.sort_by_key(|word| std::cmp::Reverse(word.len()));
    words.iter().fold(text.to_owned(), |text, word| text.replace(word.as_str(), MASK))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_spelling_of_a_value_is_left() {
        let gvk = Gvk::parse("v1", "Secret");
        let mut secret = json!({"data": {"a": "aHVudGVyMg=="}, "stringData": {"b": "s3\"cret\n"},
            "metadata": {"annotations": {LAST_APPLIED: "hunter2"}}});
        let echo = format!("bad: hunter2 aHVudGVyMg== {} {secret}", "s3\"cret\n");
        let clean = scrub(&echo, &gvk, &secret);
        assert!(
            !clean.contains("hunter2") && !clean.contains("aHVudGVyMg") && !clean.contains("cret"),
            "{clean}"
        );
        object(&gvk, &mut secret);
        assert!(
            !secret.to_string().contains("hunter2") && !secret.to_string().contains("cret\\"),
            "{secret}"
        );
    }
}
