//! Any text with variables.
#![no_main]

use driftless::render::substitute::Variables;
use driftless::render::{MemoryTree, Options, render};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let object = serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"},
        "data": {"text": text}});
    let tree = MemoryTree::default().file("a.json", object.to_string());
    let mut variables = Variables::default();
    for (name, value) in [("A", "one"), ("LONG", "a b c d e f"), ("EMPTY", "")] {
        variables.set(name, value, false).expect("a name of letters");
    }
    let _ = render(&tree, "a.json", &Options { substitute: Some(variables), ..Options::default() });
});
