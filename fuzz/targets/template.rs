//! Any text as a Go template.
#![no_main]

use driftless::render::template::value::Value;
use driftless::render::template::{Set, Surroundings};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut set = Set::default();
    if set.add("c/templates/x.yaml", text).is_err() {
        return;
    }
    let values = serde_json::json!({
        "Values": {"name": "web", "n": 3, "list": ["a", "b"], "map": {"a": 1, "b": {"c": null}}, "t": true},
        "Template": {"Name": "c/templates/x.yaml", "BasePath": "c/templates"},
    });
    let _ = set.run([("c/templates/x.yaml", Value::from_json(&values))], &Surroundings::default());
});
