//! Which labels a selector selects.

use serde_json::{Map, Value};

/// Whether a label selector (`matchLabels`, `matchExpressions`) selects these labels. An empty one selects all.
pub fn selects(selector: &Value, labels: &Map<String, Value>) -> bool {
    let equal = selector["matchLabels"].as_object().into_iter().flatten();
    let value = |name: &str| labels.get(name).and_then(Value::as_str);
    if equal.into_iter().any(|(name, wanted)| value(name) != wanted.as_str()) {
        return false;
    }
    let all = selector["matchExpressions"].as_array().into_iter().flatten();
    all.into_iter().all(|one| {
        let found = one["key"].as_str().and_then(value);
        let listed = found.is_some_and(|found| {
            one["values"].as_array().into_iter().flatten().any(|wanted| wanted.as_str() == Some(found))
        });
        match one["operator"].as_str() {
            Some("In") => listed,
            Some("NotIn") => !listed,
            Some("Exists") => found.is_some(),
            Some("DoesNotExist") => found.is_none(),
            // What is not understood may select anything.
            _ => true,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn selectors() {
        let labels = json!({"app": "fraud", "tier": "web"}).as_object().unwrap().clone();
        let check = |selector: Value, expected: bool| {
            assert_eq!(selects(&selector, &labels), expected, "{selector}");
        };
        check(json!({}), true);
        check(json!({"matchLabels": {"app": "fraud"}}), true);
        check(json!({"matchLabels": {"app": "other"}}), false);
        check(json!({"matchLabels": {"x": "y"}}), false);
        let one = |operator: &str, key: &str, values: Value| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
        check(one("In", "app", json!(["a", "fraud"])), true);
        check(one("In", "app", json!(["a"])), false);
        check(one("NotIn", "app", json!(["fraud"])), false);
        check(one("NotIn", "x", json!(["a"])), true);
        check(one("Exists", "tier", json!([])), true);
        check(one("DoesNotExist", "tier", json!([])), false);
        check(one("Like", "tier", json!([])), true);
    }
}
