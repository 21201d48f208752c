//! RFC 7386 merge patches.

use serde_json::{Map, Value};

/// The merge patch that turns `old` into `new`; `None` where nothing differs. Lists are replaced whole.
pub fn merge_patch(old: &Value, new: &Value) -> Option<Value> {
    let (Value::Object(before), Value::Object(after)) = (old, new) else {
        return (old != new).then(|| new.clone());
    };
    let mut patch = Map::new();
    for name in before.keys().filter(|name| !after.contains_key(*name)) {
        patch.insert(name.clone(), Value::Null);
    }
    for (name, value) in after {
        match before.get(name) {
            None => {
                patch.insert(name.clone(), value.clone());
            }
            Some(old) => {
                if let Some(change) = merge_patch(old, value) {
                    patch.insert(name.clone(), change);
                }
            }
        }
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn says_only_what_differs() {
        assert_eq!(
            merge_patch(&json!({"a": 1, "b": {"c": 1, "d": 2}}), &json!({"a": 1, "b": {"c": 2}, "e": [1]})),
            Some(json!({"b": {"c": 2, "d": null}, "e": [1]}))
        );
        assert_eq!(merge_patch(&json!({"a": [1]}), &json!({"a": [1]})), None);
    }
}
