//! What lint says of the head of a preview and not of its base.

use std::collections::{BTreeMap, HashSet};

use super::Sides;
use crate::cli::lint::{Place, finding_report};
use crate::error::{Code, Error, Result};
use crate::lint::{
    CONFIGURATION_FILE, Checked, Configuration, Finding, Lines, Names, Set, Severity, Subject, Suppressions,
    changes, check,
};
use crate::model::{Confidential, Key};
use crate::plan::Desired;
use crate::render::Tree;
use crate::report::FindingReport;
use crate::source::Snapshot;

type Objects = BTreeMap<Key, Desired>;

/// What the repository says about lint at a commit.
pub(super) fn configuration(head: &Snapshot) -> Result<Configuration> {
    let tree = head.tree()?;
    match tree.entry(CONFIGURATION_FILE)? {
        Some(_) => Configuration::read(&tree.read(CONFIGURATION_FILE)?, CONFIGURATION_FILE),
        None => Ok(Configuration::default()),
    }
}

/// The findings of one application that the merge brings: errors and warnings, and changes that are refused.
pub(super) fn new(before: &Objects, after: &Objects, sides: &Sides) -> Result<Vec<FindingReport>> {
    let (old, new) = (subjects(before)?, subjects(after)?);
    let mut hidden = Confidential::default();
    before.values().chain(after.values()).for_each(|object| hidden.merge(&object.hidden));
    let mut found = run(&new, sides, &hidden).findings;
    found.retain(|finding| finding.severity >= Severity::Warning);
    if !found.is_empty() {
        let before = run(&old, sides, &hidden).findings;
        let known: HashSet<_> =
            before.iter().map(|finding| identity(finding, &old[finding.subject])).collect();
        found.retain(|finding| !known.contains(&identity(finding, &new[finding.subject])));
    }
    let places: BTreeMap<&Key, usize> = before.keys().enumerate().map(|(at, key)| (key, at)).collect();
    for (number, (key, object)) in after.iter().enumerate() {
        let changed = before.get(key).is_some_and(|old| old.digest != object.digest);
        let Some(at) = places.get(key).filter(|_| changed) else { continue };
        let refused = changes(&old[*at], &new[number]).into_iter();
        let on = refused.filter(|finding| sides.lint.is_on(finding.rule));
        found.extend(on.map(|finding| Finding {
            subject: number,
            severity: sides.lint.severity(finding.rule),
            message: hidden.scrub(&finding.message),
            ..finding
        }));
    }
    if found.is_empty() {
        return Ok(Vec::new());
    }
    placed(&found, &new, sides)
}

/// With their lines, and without those that their files know of.
fn placed(found: &[Finding], subjects: &[Subject], sides: &Sides) -> Result<Vec<FindingReport>> {
    let tree = sides.after.tree()?;
    let (mut lines, mut suppressions) = (Lines::default(), Suppressions::default());
    let mut reports = Vec::new();
    for finding in found {
        let subject = &subjects[finding.subject];
        let file = &subject.origin.file;
        if !lines.knows(file) {
            // Of a file that is encrypted, or of another source, the document's line is enough.
            let bytes = tree.read(file).unwrap_or_default();
            lines.read(file, &bytes);
            suppressions.read(file, &String::from_utf8_lossy(&bytes));
        }
        let position = lines.find(subject, &finding.pointer);
        if !suppressions.holds(finding, subject, file, position.line) {
            let place = Place { file: file.to_string(), line: position.line, column: position.column };
            reports.push(finding_report(finding, subject, &place, None));
        }
    }
    Ok(reports)
}

/// A finding without its line, which moves.
fn identity(finding: &Finding, subject: &Subject) -> (&'static str, String, String) {
    (finding.rule.id, subject.title(), finding.message.clone())
}

fn subjects(objects: &Objects) -> Result<Vec<Subject>> {
    let subject = |(key, object): (&Key, &Desired)| {
        let value = serde_json::from_slice(&object.body)
            .map_err(|error| Error::new(Code::Internal, error.to_string()))?;
        Ok(Subject {
            value,
            gvk: object.gvk.clone(),
            namespace: key.namespace.clone(),
            origin: object.origin.clone(),
            base: String::new(),
        })
    };
    objects.iter().map(subject).collect()
}

fn run(subjects: &[Subject], sides: &Sides, hidden: &Confidential) -> Checked {
    let mut schemas = sides.schemas.clone();
    subjects.iter().for_each(|subject| schemas.add(&subject.value));
    let names = Names::default();
    check(&Set::new(subjects, &names), &schemas, &sides.lint, hidden)
}
