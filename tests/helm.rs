//! Charts against what the real helm made of the same files (`make conformance` records it).

use std::path::Path;
use std::sync::Arc;

use driftless::render::helm::{self, Line, Live, Options, Parameter};
use driftless::render::{self, MemoryTree, Rendered, render};
use proptest::prelude::*;

use crate::harness::chart_case::{Case, cases, same_words};

fn all() -> Vec<Case> {
    cases(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/helm"))
}

/// Cases whose answer is another one here; docs/helm.md says why.
const DIFFERENT: &[&str] = &[];

/// Refused here as by helm, for the same reason in other words; docs/helm.md says why.
const OTHER_WORDS: &[&str] = &[];

#[test]
fn helm_charts_give_what_helm_gives() {
    let (mut wrong, mut different, mut other_words, mut count) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for case in all() {
        count += 1;
        let ours = helm::template(&case.tree(), "c", &case.asked());
        let theirs = case.said.as_ref().unwrap_or_else(|| panic!("{} is not recorded", case.name));
        let same = match (theirs, &ours) {
            (Ok(theirs), Ok(ours)) => theirs == ours,
            (Err(theirs), Err(ours)) => {
                assert_eq!(ours.code.kind().exit_code(), 3, "{}", case.name);
                let same = same_words(theirs, &ours.why);
                if !same && OTHER_WORDS.contains(&case.name.as_str()) {
                    other_words.push(case.name);
                    continue;
                }
                same
            }
            _ => false,
        };
        if same {
            continue;
        }
        if DIFFERENT.contains(&case.name.as_str()) {
            different.push(case.name);
            continue;
        }
        let shown = |said: Result<String, String>| match said {
            Ok(text) => text,
            Err(why) => format!("refused\n{why}\n"),
        };
        let theirs = shown(theirs.clone());
        let ours = shown(ours.map_err(|error| error.why));
        let diff = similar::TextDiff::from_lines(&theirs, &ours);
        wrong.push(format!("{}:\n{}", case.name, diff.unified_diff().context_radius(2)));
    }
    assert!(wrong.is_empty(), "{} of {count} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count >= 450, "only {count} cases");
    assert_eq!(different, DIFFERENT, "a known difference is gone");
    assert_eq!(other_words, OTHER_WORDS, "helm's words are ours now");
}
