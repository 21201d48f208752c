//! Any file as one that SOPS encrypted.
#![no_main]

use driftless::render::sops::Keys;
use driftless::render::{MemoryTree, Options, render};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let tree = MemoryTree::default().file("a.yaml", data);
    let mut keys = Keys::default();
    keys.add(include_str!("../../tests/data/sops/one.agekey"), "one.agekey").expect("a recorded identity");
    let _ = render(&tree, "a.yaml", &Options { keys, ..Options::default() });
});
