//! Every rule has a file that breaks it and one that does not; what is found in them stands beside them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use driftless::lint::{
    Configuration, Lines, Names, Schemas, Set, Subject, Suppressions, all_rules, changes, check, rule_named,
};
use driftless::model::{Confidential, Origin, yaml};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/lint")
}

fn schemas() -> Schemas {
    let mut schemas = Schemas::default();
    for (_, definition) in driftless::api::definitions() {
        schemas.add(&serde_json::to_value(&definition).unwrap());
    }
    schemas
}

/// What is found in a file: place, severity, rule and message of each. Files of rules about changes hold pairs of
/// documents, before and after.
fn found(path: &Path, pairs: bool) -> Vec<(String, String)> {
    let bytes = std::fs::read(path).unwrap();
    let file: Arc<str> = path.file_name().unwrap().to_str().unwrap().into();
    let documents = yaml::read(&bytes, &file).unwrap();
    let subjects: Vec<Subject> = documents
        .into_iter()
        .flat_map(|document| Subject::read(document.value, &Origin { file: file.clone(), line: document.line }))
        .collect();
    let (mut lines, mut suppressions) = (Lines::default(), Suppressions::default());
    lines.read(&file, &bytes);
    suppressions.read(&file, std::str::from_utf8(&bytes).unwrap());
    let mut findings = Vec::new();
    if pairs {
        for (number, pair) in subjects.chunks(2).enumerate() {
            findings.extend(changes(&pair[0], &pair[1]).into_iter().map(|mut finding| {
                finding.subject = 2 * number + 1;
                finding
            }));
        }
    } else {
        let names = Names::default();
        let mut schemas = schemas();
        subjects.iter().for_each(|subject| schemas.add(&subject.value));
        let set = Set::new(&subjects, &names);
        findings = check(&set, &schemas, &Configuration::default(), &Confidential::default()).findings;
        for (number, subject) in subjects.iter().enumerate() {
            findings.extend(lines.doubled(subject, number));
            findings.extend(suppressions.faults(subject, number));
        }
    }
    let mut shown: Vec<_> = findings
        .iter()
        .filter_map(|finding| {
            let subject = &subjects[finding.subject];
            let place = lines.find(subject, &finding.pointer);
            let held = suppressions.holds(finding, subject, &file, place.line);
            let line = format!("{}[{}]: {}", finding.severity.name(), finding.rule.id, finding.message);
            (!held).then(|| ((place.line, place.column), finding.rule.id.to_owned(), line))
        })
        .collect();
    shown.sort();
    shown.into_iter().map(|((line, column), rule, text)| (rule, format!("{line}:{column}: {text}"))).collect()
}

#[test]
fn each_rule_has_files_that_break_it_and_that_do_not() {
    let mut wrong = Vec::new();
    for rule in all_rules() {
        let own = folder().join(rule.id);
        let mut seen = BTreeSet::new();
        let entries = std::fs::read_dir(&own).map(|entries| entries.map(|entry| entry.unwrap().path()).collect());
        let mut files: Vec<PathBuf> = entries.unwrap_or_default();
        files.sort();
        for path in files.iter().filter(|path| path.extension().is_some_and(|end| end == "yaml")) {
            let name = path.file_stem().unwrap().to_str().unwrap();
            let kind = if name.starts_with("fail") { "fail" } else { "pass" };
            seen.insert(kind);
            let all = found(path, rule.system == "Changes");
            let hits = all.iter().filter(|(id, _)| id == rule.id).count();
            match kind {
                "fail" if hits == 0 => wrong.push(format!("{}: the rule finds nothing", path.display())),
                "pass" if hits > 0 => wrong.push(format!("{}: the rule finds {all:?}", path.display())),
                _ => {}
            }
            // What else is found in a file is told too, so that a rule that begins to shout is noticed.
            let text: String = all.iter().map(|(_, line)| format!("{line}\n")).collect();
            let golden = path.with_extension("txt");
            if std::env::var_os("UPDATE").is_some() {
                if text.is_empty() {
                    let _ = std::fs::remove_file(&golden);
                } else {
                    std::fs::write(&golden, &text).unwrap();
                }
            }
            let expected = std::fs::read_to_string(&golden).unwrap_or_default();
            if expected != text {
                wrong.push(format!("{}: expected\n{expected}found\n{text}", path.display()));
            }
        }
        for kind in ["fail", "pass"] {
            if !seen.contains(kind) {
                wrong.push(format!("{} has no {kind} file", rule.id));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_folder_is_of_a_rule_that_is_gone() {
    for entry in std::fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(rule_named(&name).is_some(), "{name} is no rule");
    }
}

#[test]
fn ids_are_unique_kebab_case_and_have_pages() {
    let mut ids = BTreeMap::new();
    for rule in all_rules() {
        assert!(ids.insert(rule.id, rule).is_none(), "{} stands twice", rule.id);
        assert!(rule.id.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{}", rule.id);
        assert!(rule.page.len() > 40 && rule.page.ends_with(['.', ':']), "{}", rule.id);
        assert!(!rule.title.ends_with('.'), "{}", rule.id);
    }
    assert!(ids.len() >= 60);
}
