//! Any file as one that SOPS encrypted.
#![no_main]

use driftless::render::sops::Keys;
use driftless::render::{MemoryTree, Options, render};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let tree = MemoryTree::default().file("a.yaml", data);
    let keys = Keys { age: vec![include_str!("../age.key").trim().to_owned()] };
    let _ = render(&tree, "a.yaml", &Options { keys, ..Options::default() });
});
