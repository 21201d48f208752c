//! Any tree of files: plain manifests, kustomizations, charts.
#![no_main]

#[path = "tree.rs"]
mod tree;

use driftless::render::{Options, render};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (tree, folder) = tree::of(text);
    if let Ok(first) = render(&tree, &folder, &Options::default()) {
        let second = render(&tree, &folder, &Options::default()).expect("what could be rendered can be again");
        assert_eq!(first.digest(), second.digest(), "the same tree gives the same objects");
    }
});
